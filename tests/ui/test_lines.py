"""Plain lines for logs, JSON lines for programs."""

import io
import json
import os
import re
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.event_json import from_record
from swarmcli.core.events import (
    BY_PROVIDER,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    BudgetWarning,
    CallHedged,
    CallRetry,
    ConflictFound,
    Failure,
    LimitChanged,
    LimitWaiting,
    MergeCompleted,
    ModeChosen,
    PlanReady,
    PlanStarted,
    PlanTask,
    RunCompleted,
    RunFailed,
    Stamped,
    Warned,
)
from swarmcli.core.safe_json import safe_json
from swarmcli.ui.json_lines import JsonLines
from swarmcli.ui.lines import PlainLines, guard
from tests.ui import golden, runs
from tests.ui.runs import MODEL, Tape
from tests.ui.test_clean import ANY_TEXT, UNSAFE
from tests.ui.test_view import HISTORIES, troubled


def printed(tape: Tape, *, beats: bool = True, **options: bool) -> str:
    """All lines of a run, with the heartbeat following the events."""
    out = io.StringIO()
    lines = PlainLines(out, **options)
    for stamped in tape.stamped:
        if beats:
            for second in range(int(lines._telling.t), int(stamped.t) + 1):
                lines.tick(float(second))
        lines.feed(stamped)
    lines.close()
    return out.getvalue()


def ended(tape: Tape, status: str = "ok") -> Tape:
    """The run's last event."""
    return tape.add(RunCompleted(status=status, exit_code=0, result="x"))


@pytest.mark.parametrize(
    ("name", "tape"),
    [
        ("lines-4-tasks", ended(runs.plan_of(4))),
        ("lines-300-agents", ended(runs.fan_out(300), "partial")),
        ("lines-doubted", ended(runs.doubted().at(6), "unverified")),
        (
            "lines-troubled",
            ended(troubled().at(6).add(MergeCompleted(strategy="write", seconds=1.0))),
        ),
    ],
)
def test_a_log_looks_as_reviewed(name: str, tape: Tape) -> None:
    """The lines of whole runs are those that a person has looked at."""
    golden.check(name, printed(tape))


def test_doubts_are_told_and_agreement_is_counted_where_agents_are_many() -> None:
    """Of 300 votes the 30 splits are told up to a number, and `-v` tells all."""
    tape = runs.begun()
    for index in range(300):
        tape.add(PlanTask(agent=f"s[{index}]", group="s", prompt="x"))
    for index in range(300):
        tape.add(runs.vote(f"s[{index}]", index % 10 > 0, {"42": 2}))
        tape.add(runs.judged(f"s[{index}]", "accept" if index % 10 else "unsure"))
    log = printed(tape)

    assert (log.count("agreed"), log.count("split")) == (0, 20)
    assert log.count("more votes are counted, not listed") == 1
    assert log.count("judged critic: unsure") == 20
    every = printed(tape, verbose=True)
    assert (every.count("agreed"), every.count("split"), every.count("judged")) == (270, 30, 300)


def test_the_plan_counts_its_own_tasks() -> None:
    """Not what a broken draft has started, and not only what is known so far."""
    tape = runs.begun().add(PlanStarted(model=MODEL), PlanTask(agent="a", group="a", prompt="x"))
    tape.add(PlanReady(tasks=3, seconds=1.0, plan={}))

    assert "plan        done   1.0s  3 agents" in printed(tape)


def test_the_heartbeat_slows_down_after_a_minute() -> None:
    """Every 10 s in the first minute, then every 30 s, and never after the end."""
    out = io.StringIO()
    lines = PlainLines(out)
    for stamped in runs.begun().started("a").stamped:
        lines.feed(stamped)
    for second in range(200):
        lines.tick(float(second))
    for stamped in ended(Tape().at(200)).stamped:
        lines.feed(stamped)
    lines.tick(300.0)

    beats = re.findall(r"\[(\d\d:\d\d)\] progress", out.getvalue())
    assert beats == [
        "00:10",
        "00:20",
        "00:30",
        "00:40",
        "00:50",
        "01:00",
        "01:30",
        "02:00",
        "02:30",
        "03:00",
    ]


def test_no_heartbeat_before_there_is_a_run() -> None:
    """Nothing is known yet, so there is nothing to say."""
    out = io.StringIO()
    PlainLines(out).tick(60.0)

    assert out.getvalue() == ""


def test_agents_are_told_one_by_one_only_where_they_are_few() -> None:
    """Twenty agents have lines of their own; of 300 only failures and retries do, unless `-v` asks."""
    many = runs.fan_out(300)

    assert "scan[0]     start" in printed(runs.fan_out(19))
    assert "scan[0]     start" not in printed(many)
    assert "scan[0]     start" in printed(many, verbose=True)
    assert "scan[24]    FAIL" in printed(many)


def test_a_flood_of_failures_is_counted() -> None:
    """Twenty are told, then one line says that the rest is only counted."""
    tape = runs.begun()
    for index in range(300):
        tape.add(PlanTask(agent=f"s[{index}]", group="s", prompt="x"))
    for index in range(300):
        tape.started(f"s[{index}]")
    for index in range(300):
        error = Failure(kind="network", message="connection refused")
        tape.add(AgentFailed(agent=f"s[{index}]", error=error))
    log = printed(tape)

    assert log.count("FAIL") == 20
    assert log.count("more failures are counted, not listed") == 1
    assert "s           done   0/300  300 failed" in log
    assert printed(tape, verbose=True).count("FAIL") == 300


def test_answers_that_are_taken_back_end_no_step() -> None:
    """When routing stops late, a whole fan-out is asked again: it has ended twice, and not once per agent."""
    log = printed(ended(runs.asked_again(30)))

    assert re.findall(r"ask         done   (\S+)", log) == ["30/30", "30/30"]
    assert log.count("its vote is not trusted") == 20


def test_a_retry_is_told_once_per_agent() -> None:
    """The first one has a line; later ones are in the count of the heartbeat."""
    tape = runs.begun().started("a")
    for attempt in (1, 2, 3):
        tape.at(attempt * 2.0).add(
            CallRetry(
                model=MODEL,
                purpose="agent",
                attempt=attempt,
                max=5,
                delay_s=2.0,
                kind="rate_limit",
                agent="a",
            )
        )
    log = printed(tape.at(11.0).add(Warned(message="x")))

    assert log.count("retry  429, waits 2s (2/5)") == 1
    assert "3 retries" in log


def test_every_kind_of_notice_has_its_line() -> None:
    """Mode, limits, budget, conflicts, warnings and skipped agents are said in a few words."""
    tape = runs.begun().add(
        ModeChosen(mode="swarm", reason="300 items"),
        PlanTask(agent="a", group="a", prompt="x"),
        PlanReady(tasks=1),
        LimitWaiting(bucket="openai/*", waiting=7, reason="500 rpm"),
        LimitWaiting(bucket="openai/*", waiting=9, reason="500 rpm"),
        CallHedged(model=MODEL, to="acme/m", after_s=12.34, agent="a"),
        BudgetWarning(message="80 % of $2.00 is spent"),
        ConflictFound(key="price", values=[{"value": 1, "agents": ["a", "b"]}, {"value": 2}]),
        Warned(message="no cache"),
        AgentSkipped(agent="a", because="it is not needed"),
    )
    log = printed(tape, verbose=True)

    for line in (
        "mode        swarm  300 items",
        "limit       openai/*: 500 rpm, 7 wait",
        "a           hedged after 12.3s  to acme/m",
        "budget      80 % of $2.00 is spent",
        'conflict    price  "1" (a, b) or "2"',
        "warning     no cache",
        "a           skipped it is not needed",
    ):
        assert line in log
    assert log.count("7 wait") == 1
    assert "9 wait" not in log


def test_a_limit_is_told_when_it_first_holds_calls_back_and_when_it_first_refuses_some() -> None:
    """After that the heartbeat says how it stands, for as long as it holds calls back."""
    tape = runs.begun().started("a")
    tape.at(1.0).add(LimitWaiting(bucket=runs.BUCKET, waiting=284, reason="16 at once"))
    tape.at(5.0).add(LimitChanged(bucket=runs.BUCKET, parallel=40, reason=BY_PROVIDER, pause_s=6.0))
    tape.at(7.0).add(LimitChanged(bucket=runs.BUCKET, parallel=30, reason=BY_PROVIDER, pause_s=6.0))
    tape.at(11.0).add(LimitWaiting(bucket=runs.BUCKET, waiting=0, reason=""))
    log = printed(tape.at(21.0).add(Warned(message="x"))).splitlines()

    assert [line for line in log if "limit" in line] == [
        f"[00:01] limit       {MODEL}: 16 at once, 284 wait",
        f"[00:05] limit       {MODEL}: 40 at once, 429: paused 6s, 284 wait",
    ]
    assert log[-3].endswith(f"{MODEL}: 30 at once, 429: paused 3s, 284 wait")
    assert log[-2].startswith("[00:20] progress")
    assert MODEL not in log[-2]


def test_a_storm_of_refusals_does_not_flood_the_log() -> None:
    """2,400 429s of 300 agents: two dozen lines, and with `-v` one line per limit and second."""
    tape = runs.storm()
    log, verbose = printed(tape).splitlines(), printed(tape, verbose=True).splitlines()
    seconds = [line[:7] for line in verbose if "] limit " in line]

    assert len(log) < 40
    assert sum("] limit " in line for line in log) <= 2
    assert len(seconds) > 30
    assert len(set(seconds)) == len(seconds)


def test_a_failed_run_says_why() -> None:
    """The last line holds the verdict and the cause."""
    end = RunFailed(
        status="failed", exit_code=77, error=Failure(kind="auth", message="401 from openai")
    )

    assert "run 7k3f    FAILED 3s  0 agents  $0.00/$2.00  auth: 401 from openai" in printed(
        runs.begun().at(3.0).add(end)
    )


def test_lines_of_the_program_itself_have_a_label() -> None:
    """Where the report is, what Ctrl-C does."""
    out = io.StringIO()
    lines = PlainLines(out)
    lines.log("runs/7k3f/report.html", label="report")
    lines.log("stopping")

    assert (
        out.getvalue()
        == "[00:00] report      runs/7k3f/report.html\n[00:00] note        stopping\n"
    )


def test_colour_is_added_around_the_words() -> None:
    """The same text, with SGR codes and no others."""
    colored = printed(runs.plan_of(4), color=True)

    assert "\x1b[32mdone  \x1b[0m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == printed(runs.plan_of(4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::error::forged", ": :error::forged"),
        ("  ::set-output name=x::y", ": :set-output name=x::y"),
        ("a ##[error]forged", "a ## [error]forged"),
        ("std::vector", "std::vector"),
    ],
)
def test_a_runner_is_given_no_commands(text: str, expected: str) -> None:
    """Only what a GitHub runner would obey is changed."""
    assert guard(text) == expected


@settings(max_examples=100, deadline=None)
@given(HISTORIES, st.booleans(), st.booleans())
def test_every_line_is_ours(tape: Tape, github: bool, verbose: bool) -> None:
    """Whatever models say: each line starts with our prefix, and holds no control character and no command."""
    for line in printed(tape, beats=False, github=github, verbose=verbose).splitlines():
        assert re.match(r"\[\d\d+:\d\d\] \S", line)
        assert not UNSAFE.search(line)
        assert not github or "##[" not in line


# JSON lines.


def json_lines(stamped: list[Stamped]) -> list[str]:
    """What `stream-json` prints."""
    out = io.StringIO()
    lines = JsonLines(out)
    for one in stamped:
        lines.feed(one)
    lines.close()
    return out.getvalue().splitlines()


def test_each_event_is_one_object_that_can_be_read_back() -> None:
    """A line holds the whole event: reading gives the same value."""
    tape = ended(troubled())

    assert [from_record(json.loads(line)) for line in json_lines(tape.stamped)] == tape.stamped


@settings(deadline=None)
@given(ANY_TEXT)
def test_json_lines_are_safe_for_terminals_and_utf8(text: str) -> None:
    """Control, bidi and surrogate characters are escaped; the value is the same."""
    line = safe_json({"text": text})

    assert line.encode("utf-8")
    assert len(line.splitlines()) == 1
    assert not UNSAFE.search(line)
    assert _normal(json.loads(line)["text"]) == _normal(text)


def _normal(text: str) -> str:
    """JSON cannot tell two lone surrogates side by side from a pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_numbers_that_json_does_not_know_are_null() -> None:
    """NaN and infinity would make the line unreadable for others."""
    assert (
        safe_json({"a": [float("nan"), {"b": float("inf")}, 1.5]})
        == '{"a": [null, {"b": null}, 1.5]}'
    )


def test_values_of_other_types_are_written_as_what_they_are_like() -> None:
    """A read-only mapping or a tuple inside an event is no reason to lose it."""
    record = {"a": MappingProxyType({"b": (1, Path("x"))}), "c": float("nan")}

    assert safe_json(record) == '{"a": {"b": [1, "x"]}, "c": null}'


def test_an_events_file_grows_line_by_line(tmp_path: Path) -> None:
    """Somebody who follows the file sees each event at once, and nobody's text encoding matters."""
    path = tmp_path / "events.jsonl"
    tape = runs.begun().add(Warned(message="naïve 日本 \udc80"))
    with path.open("w", encoding="ascii") as file:
        lines = JsonLines(file)
        for count, stamped in enumerate(tape.stamped, 1):
            lines.feed(stamped)
            assert path.read_bytes().count(b"\n") == count
        lines.close()

    assert "naïve 日本 \\udc80" in path.read_text("utf-8")


def test_a_reader_that_has_gone_is_reported_and_raises_nothing() -> None:
    """`stream-json | head -1`: the callback says so once, later events are dropped."""
    read, write = os.pipe()
    errors: list[OSError] = []
    with os.fdopen(write, "w") as stream:
        lines = JsonLines(stream, errors.append)
        os.close(read)
        for stamped in runs.fan_out(30).stamped:
            lines.feed(stamped)
        lines.close()

    assert [type(error) for error in errors] == [BrokenPipeError]
    assert isinstance(lines.error, BrokenPipeError)


def test_an_agent_is_told_as_it_ended() -> None:
    """Cached and reused answers say so, an insufficient one too."""
    tape = runs.begun().add(AgentStarted(agent="a", model=MODEL))
    tape.add(
        AgentCompleted(agent="a", output="", cached=True),
        AgentCompleted(agent="b", output="", reused=True),
        AgentCompleted(agent="c", output="", status="insufficient", seconds=2.0, cost_usd=0.5),
    )
    log = printed(tape)

    assert "a           done   cached" in log
    assert "b           done   done before" in log
    assert "c           done   2.0s  insufficient  $0.5000" in log
