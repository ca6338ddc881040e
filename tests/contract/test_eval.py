"""`swarm eval`: what it measures, and that what it says can be relied on."""

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmcli.app.bookkeeping import Books
from swarmcli.app.sheet import Sheet
from swarmcli.core.events import RunCompleted
from swarmcli.engine.order import RunReport
from swarmcli.testing import ManualClock
from tests.contract.conftest import Done, Planner, Shell
from tests.e2e.command import Swarm, environment
from tests.e2e.test_resume import wait_for
from tests.fakes.openai_server import Reply, Server, serve

PRICED = """\
models:
  small: {model: openai/tiny, price: {input_per_mtok: 1000, output_per_mtok: 1000}}
  large: {model: openai/big, price: {input_per_mtok: 10000, output_per_mtok: 10000}}
"""
CHECKED = (
    PRICED
    + """\
params: {question: {type: string}}
tasks:
  - {id: draft, prompt: "{{ question }}", model: small}
  - {id: check, prompt: "Check {{ question }}", model: large, depends_on: [draft]}
"""
)
PIPELINE = (
    PRICED
    + """\
params: {questions: {type: list}}
tasks:
  - {id: draft, prompt: "{{ q }}", for_each: {items: "{{ questions }}", as: q}, model: small}
  - {id: check, prompt: "Check {{ q }}", for_each: {from: draft, as: q}, model: large}
"""
)


def sums(body: dict[str, Any]) -> Reply:
    """Adds two numbers; the tiny model is wrong by one where the first is a multiple of three."""
    first, second = map(int, re.findall(r"(\d+)\+(\d+)", str(body["messages"]))[-1])
    wrong = body["model"] == "tiny" and first % 3 == 0
    return Reply(text=f"{first} and {second}.\n{first + second + wrong}", tokens=(9, 1))


@pytest.fixture
def adding(shell: Shell, server: Server) -> Shell:
    """Twelve additions in `add.jsonl`, of which the tiny model gets four wrong."""
    server.reply = sums
    lines = [
        {"question": f"What is {i}+{i + 1}?", "answer": f"{i}+{i + 1}=<<{2 * i + 1}>>\n#### {2 * i + 1}"}
        for i in range(12)
    ]  # fmt: skip
    shell.write("add.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return shell


def by_name(done: Done) -> dict[str, Any]:
    """The configurations of a JSON document."""
    return {row["name"]: row for row in done.json["configurations"]}


class TestComparison:
    @pytest.mark.parametrize("body", [CHECKED, PIPELINE], ids=["a run each", "one run"])
    def test_three_configurations_side_by_side(self, adding: Shell, server: Server, body: str):
        """Accuracy, paired difference, cost and calls of small, large and the recipe, worked out by hand."""
        done = adding("eval", "add.jsonl", "--recipe", adding.recipe(body), "--json")

        assert (done.code, done.json["status"], done.json["questions"]) == (0, "ok", 12)
        rows = by_name(done)
        assert list(rows) == ["small", "large", "swarm"]
        assert [rows[n]["right"] for n in rows] == [8, 12, 12]
        assert [rows[n]["calls"] for n in rows] == [12, 12, 24]
        assert [rows[n]["cost_usd"] for n in rows] == [0.12, 1.2, 1.32]
        assert done.json["paid_usd"] == pytest.approx(2.64)
        assert rows["small"]["difference"] is None
        assert rows["swarm"]["difference"] == {
            "questions": 12,
            "mean": 0.333333,
            "se": 0.142134,
            "won": 4,
            "lost": 0,
            "p_value": 0.125,
        }
        assert len(server.requests) == 48

    def test_the_table_is_all_that_stdout_holds(self, adding: Shell):
        """One row a configuration, under one head; progress goes to stderr."""
        done = adding("eval", "add.jsonl", "--recipe", adding.recipe(CHECKED))

        head, small, large, swarm, empty, legend = done.out.splitlines()
        assert head.split()[:4] == ["configuration", "right", "accuracy", "difference"]
        assert small.split()[:2] == ["small", "8/12"]
        assert large.split()[:5] == ["large", "12/12", "100.0", "±0.0", "%"]
        assert "+33.3 ±14.2" in swarm
        assert " 4/0 " in swarm
        assert "$1.32" in swarm
        assert empty == ""
        assert "against small" in legend
        assert "swarm: 12 questions, recipe demo" in done.err

    def test_whose_results_a_writer_cites_is_no_part_of_its_answer(
        self, shell: Shell, server: Server, plan_of: Planner
    ):
        """`72 [t2]` says 72: writers are told to name their sources."""
        server.routes = [
            ("final deliverable", "The total is 72 [t1, t2].\n\n72 [t2]"),
            ("How many", plan_of(t1="Count the apples.", t2="Count the pears.")),
        ]
        server.reply = "36"
        recipe = shell.recipe(
            "params: {question: {type: string}}\nmode: swarm\ntask: '{{ question }}'\n"
        )
        shell.write("d.jsonl", '{"question": "How many are there?", "answer": "#### 72"}\n')

        done = shell("eval", "d.jsonl", "--config", f"s={recipe}", "--json")

        record = done.json["records"][0]
        assert (record["answer"], record["correct"]) == ("The total is 72.\n\n72", True)
        assert record["calls"] == 4

    def test_each_answer_is_a_record(self, adding: Shell):
        """-o takes one JSON line per configuration and question, in order; stdout keeps the table."""
        done = adding("eval", "add.jsonl", "--config", "one=openai/tiny", "-o", "out.jsonl")

        records = [
            json.loads(line) for line in (adding.folder / "out.jsonl").read_text().splitlines()
        ]
        assert [r["item"] for r in records] == [str(n) for n in range(1, 13)]
        first = records[0]
        assert first.pop("seconds") >= 0
        assert first == {
            "item": "1",
            "config": "one",
            "expected": "1",
            "answer": "0 and 1.\n2",
            "value": 2.0,
            "correct": False,
            "status": "ok",
            "cost_usd": None,
            "calls": 1,
        }
        assert done.out.startswith("configuration")

    def test_all_configurations_answer_the_same_drawn_questions(self, adding: Shell):
        """--limit draws by --seed: the same questions for everybody, and again for the same seed."""

        def items(seed: str) -> dict[str, list[str]]:
            flags = ("--config", "a=openai/tiny", "--config", "b=openai/big", "--limit", "5")
            done = adding("eval", "add.jsonl", *flags, "--seed", seed, "--json")
            drawn: dict[str, list[str]] = {}
            for record in done.json["records"]:
                drawn.setdefault(record["config"], []).append(record["item"])
            return drawn

        one, again, other = items("1"), items("1"), items("2")
        assert len(one["a"]) == 5
        assert one["a"] == one["b"] == again["a"]
        assert one["a"] == sorted(one["a"], key=int)
        assert one["a"] != other["a"]

    def test_a_model_that_is_the_same_is_not_compared_with_itself(self, adding: Shell):
        """-m for all roles: there is no large model to compare with."""
        done = adding("eval", "add.jsonl", "-m", "openai/tiny", "--json")

        assert list(by_name(done)) == ["small"]

    def test_a_shipped_recipe_takes_the_question_as_its_only_parameter(
        self, adding: Shell, server: Server
    ):
        """`solve` calls it `task`."""
        done = adding("eval", "add.jsonl", "--config", "s=solve", "--limit", "2", "--json")

        assert (done.code, by_name(done)["s"]["right"], len(server.requests)) == (0, 2, 2)

    def test_choices_and_text_in_one_dataset(self, shell: Shell, server: Server):
        """Each question is compared in its own way, and asked with its choices."""
        server.reply = lambda body: "Paris" if "capital" in str(body) else "The answer is B"
        lines = (
            '{"id": "c", "question": "A fruit?", "choices": ["stone", "apple"], "answer": "apple"}\n\n'
            '{"id": "t", "input": "The capital of France?", "expected": "paris"}\n'
        )

        done = shell("eval", "-", "--json", stdin=lines)

        assert [(r["item"], r["correct"]) for r in done.json["records"]] == [
            ("c", True),
            ("t", True),
        ]
        assert done.json["scorers"] == {"choice": 1, "exact": 1}
        assert "A) stone\nB) apple" in server.prompts[0] + server.prompts[1]


class TestHonesty:
    def test_a_repeated_command_costs_nothing_and_says_the_same(
        self, adding: Shell, server: Server
    ):
        """Answers come from the cache: nothing is paid, cost is what it was, and times are not made up."""
        args = ("eval", "add.jsonl", "--recipe", adding.recipe(CHECKED), "--json")
        first = adding(*args)
        asked = len(server.requests)

        again = adding(*args)

        assert len(server.requests) == asked
        assert again.json["paid_usd"] == 0
        for name, row in by_name(again).items():
            before = by_name(first)[name]
            assert before["timed"] == 12
            assert (row["timed"], row["seconds_p50"], row["seconds_p95"]) == (0, None, None)
            same = ("right", "calls", "cost_usd", "difference")
            assert [row[k] for k in same] == [before[k] for k in same]

    def test_a_configuration_never_profits_from_another(self, adding: Shell, server: Server):
        """The same question to the same model is asked once for each: costs and times are its own."""
        flags = ("--config", "a=openai/tiny", "--config", "b=openai/tiny")

        done = adding("eval", "add.jsonl", *flags, "--json")

        assert len(server.requests) == 24
        assert [row["timed"] for row in by_name(done).values()] == [12, 12]

    def test_an_unknown_price_is_unknown(self, adding: Shell):
        """Not zero."""
        done = adding("eval", "add.jsonl", "--config", "a=openai/tiny", "--json")

        assert by_name(done)["a"]["cost_usd"] is None
        assert "unknown" in adding("eval", "add.jsonl", "--config", "a=openai/tiny").out

    def test_a_failed_answer_is_wrong_and_said(self, adding: Shell, server: Server):
        """It counts against the configuration; the exit code is that of a partial result."""
        server.faults = lambda seen: "400" if "What is 4+5" in seen.prompt else "ok"

        done = adding("eval", "add.jsonl", "--config", "a=openai/big", "--json")

        row = by_name(done)["a"]
        assert (done.code, done.json["status"]) == (3, "partial")
        assert (row["asked"], row["right"], row["failed"]) == (12, 11, 1)
        failed = next(r for r in done.json["records"] if r["status"] == "failed")
        assert (failed["item"], failed["correct"], failed["error"]["kind"]) == (
            "5",
            False,
            "bad_request",
        )
        assert "1 of 12 answers are missing: bad_request" in done.err
        assert "(1 counted as wrong, 0 not counted)" in done.err
        flags = ("--config", "a=openai/big", "--min-success", "90%")
        assert adding("eval", "add.jsonl", *flags).code == 0

    def test_nothing_answered_is_no_table(self, adding: Shell, server: Server):
        """stdout is empty, and the exit code is that of the cause."""
        server.faults = lambda _seen: "400"

        done = adding("eval", "add.jsonl", "--config", "a=openai/big")

        assert (done.code, done.out) == (1, "")
        assert "12 of 12 answers are missing" in done.err

    @pytest.mark.parametrize("body", [CHECKED, PIPELINE], ids=["a run each", "one run"])
    def test_a_cap_holds_for_everything_together(self, adding: Shell, server: Server, body: str):
        """At the cap the evaluation ends with 4; what was not asked counts neither as right nor as wrong."""
        server.reply = lambda asked: Reply(text=sums(asked).text, tokens=(200, 50))
        bounded = body.replace("price:", "max_output_tokens: 50, price:")
        flags = ("--recipe", adding.recipe(bounded), "--config", "swarm", "-j", "1")

        done = adding("eval", "add.jsonl", *flags, "--max-cost", "10", "--json")

        row = by_name(done)["swarm"]
        assert (done.code, done.json["status"]) == (4, "budget")
        assert "answers are missing: a cap was reached" in done.err
        assert "hint: the same command goes on from here" in done.err
        assert 0 < row["asked"] == row["right"] < 12
        assert done.json["paid_usd"] <= 10
        left = [r for r in done.json["records"] if r["status"] == "unfinished"]
        assert len(left) == 12 - row["asked"]
        assert all(r["correct"] is None for r in left)

    @pytest.mark.parametrize("body", [CHECKED, PIPELINE], ids=["a run each", "one run"])
    def test_without_access_it_stops_at_first_sight(self, adding: Shell, server: Server, body: str):
        """A refused key ends the configuration at once, with 77."""
        server.require_key = "another"
        flags = ("--recipe", adding.recipe(body), "--config", "swarm", "-j", "2")

        done = adding("eval", "add.jsonl", *flags)

        assert (done.code, done.out) == (77, "")
        assert len(server.requests) <= 2

    def test_what_a_refused_key_left_unfinished_is_no_answer(self, adding: Shell, server: Server):
        """The draft that came before it is not what the recipe would have answered."""
        server.faults = lambda seen: "401" if seen.model == "big" else "ok"
        flags = ("--recipe", adding.recipe(CHECKED), "--config", "small", "--config", "swarm")

        done = adding("eval", "add.jsonl", *flags, "-j", "1", "--json")

        assert done.code == 3
        assert (by_name(done)["swarm"]["asked"], by_name(done)["swarm"]["failed"]) == (0, 0)
        left = [r for r in done.json["records"] if r["config"] == "swarm"]
        assert (left[0]["status"], left[0]["error"]["kind"]) == ("unfinished", "auth")

    def test_an_answer_that_is_not_in_the_cache_is_not_wrong(self, adding: Shell):
        """--cache only shows what there is: nobody was asked for the rest."""
        flags = ("--config", "a=openai/tiny", "--json")
        adding("eval", "add.jsonl", *flags, "--limit", "4")

        done = adding("eval", "add.jsonl", *flags, "--cache", "only")

        row = by_name(done)["a"]
        assert (done.code, row["asked"], row["failed"]) == (3, 4, 0)
        assert "8 of 12 answers are missing: cache_miss" in done.err

    def test_an_answer_of_another_endpoint_is_not_reused(
        self, adding: Shell, server: Server, monkeypatch: pytest.MonkeyPatch
    ):
        """The same id elsewhere is another model, also where no role names it."""
        args = ("eval", "add.jsonl", "--config", "a=openai/tiny", "--limit", "2", "--json")
        adding(*args)

        with serve(reply="None.") as other:
            monkeypatch.setenv("OPENAI_API_BASE", other.url)
            done = adding(*args)

        assert (len(server.requests), len(other.requests)) == (2, 2)
        assert by_name(done)["a"]["right"] == 0

    def test_a_model_on_this_machine_is_not_flooded(self, adding: Shell, server: Server):
        """Loopback models get few requests at once, whatever the evaluation names them by."""
        server.latency_s = 0.02

        adding("eval", "add.jsonl", "--config", "a=openai/tiny")

        assert server.peak <= 4

    def test_no_more_calls_at_once_than_asked_for(self, adding: Shell, server: Server):
        """-j bounds the calls of all runs together."""
        server.together = 3

        adding("eval", "add.jsonl", "--recipe", adding.recipe(CHECKED), "-j", "3")

        assert server.peak == 3

    def test_votes_are_summed_over_runs(self):
        """The escalated share is that of all votes, wherever they were cast; none without votes."""
        sheet = Sheet("c", "", total=2, note=lambda _text: None)
        books = Books("c", clock=ManualClock(), show=lambda _: None, price_of=lambda _: None)
        assert sheet.result(()).escalated is None

        for escalated in (1, 0, 0, 0):
            votes = {"tasks": 2, "agreed": 2 - escalated, "escalated": escalated}
            end = RunCompleted(status="ok", exit_code=0, totals={"votes": votes})
            sheet.book(RunReport(end=end, mode="swarm", outcomes=()), books)

        assert sheet.result(()).escalated == 0.125


@pytest.mark.parametrize("body", [CHECKED, PIPELINE], ids=["a run each", "one run"])
def test_an_interrupted_evaluation_goes_on_where_it_was(
    adding: Shell, server: Server, tmp_path: Path, body: str
):
    """Twice Ctrl-C: exit 130 with what was answered; the same command asks for the rest alone."""
    swarm = Swarm(adding.folder, environment(tmp_path, **server.env))
    args = ("eval", "add.jsonl", "--recipe", adding.recipe(body), "-j", "1", "--json")
    server.faults = lambda seen: "hang" if seen.model == "big" and "4+5" in seen.prompt else "ok"
    with (tmp_path / "stderr").open("wb") as log:
        process = swarm.start(*args, stderr=log)
    wait_for(lambda: any(s.fault == "hang" for s in server.requests), "the question that hangs")

    process.send_signal(signal.SIGINT)
    wait_for(lambda: "Stopping" in (tmp_path / "stderr").read_text(), "the word Stopping")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    first = json.loads(out)
    asked, server.faults = len(server.requests), ()
    again = swarm(*args).json

    assert (process.returncode, first["status"]) == (130, "interrupted")
    assert [row["asked"] for row in first["configurations"]] == [12, 4, 0]
    assert [row["right"] for row in again["configurations"]] == [8, 12, 12]
    assert asked == 17
    assert len(server.requests) == 17 + 8 + 24


class TestBadInput:
    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ('{"question": "a", "answer": "1"}\n\n{"question": "b"}\n', "d.jsonl:3: it has no"),
            (
                '{"question": "a", "answer": "1"}\n{"question": x}\n',
                "d.jsonl:2: no JSON: Expecting value at column 14",
            ),
            ("[" * 100_000, "d.jsonl:1: no"),
            ("", "d.jsonl holds no questions"),
            ('{"id": 1, "question": "a", "answer": "1"}\n' * 2, "d.jsonl:2: its id '1' stands"),
        ],
    )
    def test_a_broken_dataset_is_refused_with_its_place(
        self, shell: Shell, server: Server, text: str, where: str
    ):
        """Exit 2 before anything is asked."""
        shell.write("d.jsonl", text)

        done = shell("eval", "d.jsonl")

        assert (done.code, done.out) == (2, "")
        assert where in done.err
        assert not server.requests

    @pytest.mark.parametrize(
        ("flags", "why"),
        [
            (("--config", "a="), "no NAME=WHAT"),
            (("--config", "small", "--config", "small=openai/x"), "two configurations"),
            (("--config", "nothing"), "no recipe is called"),
            (("--config", "compare"), "takes no question"),
            (("--recipe", "demo.yaml"), "final agents for 12"),
            (("-o", "."), "no file that can be written"),
            (("-m", "openai/a", "--max-cost", "1"), "no price for openai/a"),
        ],
    )
    def test_what_cannot_be_carried_out_is_refused_before_anything_is_asked(
        self, adding: Shell, server: Server, flags: tuple[str, ...], why: str
    ):
        """Exit 2, with the reason."""
        adding.recipe('params: {questions: {type: list}}\ntasks: [{id: a, prompt: "One."}]\n')

        done = adding("eval", "add.jsonl", *flags)

        assert (done.code, done.out) == (2, "")
        assert why in done.err
        assert not server.requests

    def test_a_dry_run_asks_nothing(self, adding: Shell, server: Server):
        """It says what would be compared."""
        args = ("eval", "add.jsonl", "--recipe", adding.recipe(CHECKED), "-n")
        done = adding(*args)

        assert done.code == 0
        assert "12 questions" in done.out
        rows = [
            (row["name"], row["at_once"]) for row in adding(*args, "--json").json["configurations"]
        ]
        assert rows == [("small", True), ("large", True), ("swarm", False)]
        assert not server.requests

    def test_a_dry_run_needs_no_model(self, adding: Shell, monkeypatch: pytest.MonkeyPatch):
        """As for `run`: what would be asked is known without anybody to ask."""
        for name in ("OPENAI_API_KEY", "SWARM_MODEL"):
            monkeypatch.delenv(name)

        done = adding("eval", "add.jsonl", "-n")

        assert (done.code, "12 questions" in done.out) == (0, True)

    def test_large_datasets_are_read(self, adding: Shell):
        """As large as standard input may be: --limit takes a part of them."""
        padding = f'{{"question": "{"x" * 999_950}", "answer": "1"}}\n'
        adding.write("large.jsonl", padding * 12)

        done = adding("eval", "large.jsonl", "--limit", "2", "-n")

        assert (done.code, done.out.splitlines()[0]) == (0, "2 questions, nothing was sent")

    def test_records_and_events_go_to_new_folders_and_the_table_to_nobody(
        self, adding: Shell, monkeypatch: pytest.MonkeyPatch
    ):
        """A closed stdout costs the table, not the records."""
        monkeypatch.setattr(sys, "stdout", None)
        flags = ("--config", "a=openai/tiny", "--limit", "2")

        done = adding("eval", "add.jsonl", *flags, "-o", "new/a.jsonl", "--events", "log/e.jsonl")

        assert (done.code, "standard output is closed" in done.err) == (1, True)
        for name in ("new/a.jsonl", "log/e.jsonl"):
            assert len((adding.folder / name).read_text().splitlines()) >= 2
