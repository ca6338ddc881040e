"""Votes through the command: exactly the disagreeing items are escalated, and what `--json` says of it."""

import json
import re
from collections import Counter

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server, prompt_of

MODELS = """
models:
  small: {model: openai/small, price: {input_per_mtok: 0.1, output_per_mtok: 0.4}}
  other: {model: openai/other, price: {input_per_mtok: 0.1, output_per_mtok: 0.4}}
  large: {model: openai/large, price: {input_per_mtok: 1, output_per_mtok: 4}}
"""
TWELVE = f"""{MODELS}
tasks:
  - id: ask
    prompt: "Question {{{{ item }}}}: how many?"
    for_each: {{items: "{{{{ range(12) | list }}}}", as: item}}
    vote: {{models: [small, other], canonical: number, escalate: large}}
merge: {{strategy: jsonl}}
"""


def number_in(body) -> int:
    found = re.search(r"Question (\d+)", prompt_of(body))
    assert found
    return int(found[1])


def disagreeing(*items: int):
    """`other` is one off at these; everybody spells numbers in another way."""

    def answer(body):
        number, model = number_in(body), body["model"]
        if model == "other":
            return f"The answer is ${number + (number in items)}.00"
        return str(number) if model == "small" else f"After checking: {number}"

    return answer


def models_asked(server: Server) -> Counter[str]:
    return Counter(seen.body["model"] for seen in server.requests)


def test_exactly_the_disagreeing_items_are_escalated(shell: Shell, server: Server):
    """Twelve items, three disagreements: 12 + 12 + 3 requests, and the large ones are those three."""
    server.reply = disagreeing(2, 5, 11)

    done = shell("run", shell.recipe(TWELVE), "--json")

    assert done.code == 0
    assert models_asked(server) == {"small": 12, "other": 12, "large": 3}
    large = [seen for seen in server.requests if seen.body["model"] == "large"]
    assert {number_in(seen.body) for seen in large} == {2, 5, 11}
    votes = done.json["votes"]
    assert (votes["tasks"], votes["agreed"], votes["escalated"]) == (12, 9, 3)
    assert (votes["cost"]["k"], votes["cost"]["e"]) == (2, 0.25)
    records = [json.loads(line) for line in done.json["result"].splitlines()]
    assert {r["index"] for r in records if r["model"] == "openai/large"} == {2, 5, 11}


def test_the_escalated_answer_is_final_whatever_it_is(shell: Shell, server: Server):
    """A third answer, which nobody voted for, costs no second call to the large model."""
    server.reply = lambda body: {"small": "1", "other": "2", "large": "3"}[body["model"]]

    done = shell("run", shell.recipe(TWELVE), "--json")

    assert models_asked(server) == {"small": 12, "other": 12, "large": 12}
    assert {record["output"] for record in done.json["structured"]} == {"3"}


def test_audits_stop_routing_where_agreement_is_wrong(shell: Shell, server: Server):
    """Each item has the large model's answer in the end, asked for once; a rerun repeats the figures without calls."""
    server.reply = lambda body: str(number_in(body) + (body["model"] != "large"))
    recipe = shell.recipe(
        TWELVE.replace("range(12)", "range(90)").replace(
            "escalate: large", "escalate: large, audit: 1%"
        )
    )

    # One by one: which questions are still voted on when routing stops is otherwise a matter of timing.
    documents = [shell("run", recipe, "--json", "-j", "1").json for _ in range(2)]

    for document in documents:
        votes = document["votes"]
        assert (votes["audited"], votes["routing_stopped"]) == (60, True)
        assert (votes["agreed"], votes["escalated"]) == (60, 30)
        assert [record["output"] for record in document["structured"]] == [
            str(n) for n in range(90)
        ]
    assert models_asked(server)["large"] == 90
    assert documents[1]["usage"]["calls"] == 0


def test_the_events_tell_each_vote(shell: Shell, server: Server):
    """One `vote.tallied` an agent, with rule, value and counts."""
    server.reply = disagreeing(5)

    done = shell("run", shell.recipe(TWELVE), "--format", "stream-json")

    votes = {e["agent"]: e for e in done.lines if e["type"] == "vote.tallied"}
    assert len(votes) == 12
    assert (votes["ask[4]"]["agreed"], votes["ask[4]"]["counts"]) == (True, {"4": 2})
    assert (votes["ask[5]"]["escalated"], votes["ask[5]"]["counts"]) == (True, {"5": 1, "6": 1})


def test_a_rerun_costs_nothing_and_counts_the_same(shell: Shell, server: Server):
    """Votes and escalations come from the cache like any other answer."""
    server.reply = disagreeing(2)
    first = shell("run", shell.recipe(TWELVE), "--json")
    asked = len(server.requests)

    again = shell("run", shell.recipe(TWELVE), "--json")

    assert len(server.requests) == asked
    assert again.json["result"].count('"cached": true') == 12
    assert again.json["votes"]["escalated"] == first.json["votes"]["escalated"] == 1


def test_samples_of_one_model_are_requests_of_their_own(shell: Shell, server: Server):
    """The cache folds nothing, so three samples are three requests."""
    recipe = shell.recipe(
        f"""{MODELS}
tasks:
  - {{id: ask, prompt: "Question 7", vote: {{models: [small], samples: 3, canonical: number}}}}
"""
    )
    server.reply = "7"

    done = shell("run", recipe, "--json")

    assert models_asked(server) == {"small": 3}
    assert done.json["result"].strip() == "7"


def test_a_vote_for_all_is_the_default_of_the_last_agents_only(shell: Shell, server: Server):
    """A top-level `vote` leaves the tasks alone that others build on, and the writer."""
    recipe = shell.recipe(
        f"""{MODELS}
vote: {{models: [small, other], canonical: number, escalate: large}}
tasks:
  - {{id: first, prompt: "Question 1", model: small}}
  - {{id: last, prompt: "Question 2", depends_on: [first]}}
"""
    )
    server.reply = "2"

    done = shell("run", recipe, "--json")

    assert models_asked(server) == {"small": 2, "other": 1}
    assert done.json["votes"]["tasks"] == 1


def test_leaves_of_a_planner_made_plan_vote(shell: Shell, server: Server, plan_of):
    """The planner does not vote; which tasks are leaves is known when its plan is whole."""
    recipe = shell.recipe(
        f"""{MODELS}
task: "Compare 1 and 2."
mode: swarm
vote: {{models: [small, other], canonical: number, escalate: large}}
merge: {{strategy: concat}}
"""
    )
    server.routes.append(
        ("JOB", plan_of(a="Question 1", b=("Question 2", ["a"]), c=("Question 3", ["a"])))
    )
    server.reply = "4"

    done = shell("run", recipe, "--json")

    assert done.code == 0
    assert models_asked(server) == {"large": 1, "small": 3, "other": 2}
    assert done.json["votes"]["tasks"] == 2


def test_a_dry_run_foresees_the_votes(shell: Shell, server: Server):
    """Two calls an item, each at its own price; nothing is sent."""
    done = shell("run", shell.recipe(TWELVE), "--dry-run", "--json")

    assert (done.code, server.requests) == (0, [])
    assert done.json["calls"] == 24


@pytest.mark.parametrize("models", ["[small, other]", "[small], samples: 2"])
def test_voters_that_cannot_be_reached_end_the_run_early(shell: Shell, server: Server, models: str):
    """A hundred agents do not each ask three models that are down."""
    hundred = TWELVE.replace("range(12)", "range(100)").replace("[small, other]", models)
    server.faults = lambda _seen: "500"

    done = shell("run", shell.recipe(f"{hundred}retry: {{attempts: 2}}\nhedge: off\n"), "-j", "5")

    assert (done.code, done.out) == (75, "")
    assert len(server.requests) <= 60
    assert done.err.count("the run stops early") == 1
