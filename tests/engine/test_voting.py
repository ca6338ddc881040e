"""Votes inside one agent: who is asked, what counts, who decides, and what a crash leaves of it."""

import itertools
from dataclasses import replace

import pytest

from swarmcli.adapters.cache_key import cache_key
from swarmcli.core.events import AgentCompleted, RunStarted, TurnCompleted, VoteTallied, Warned
from swarmcli.core.plan import Dependency, Task
from swarmcli.core.replay import History, replay
from swarmcli.core.routing import ModeChoice
from swarmcli.core.spend import Spent
from swarmcli.engine.order import RunOrder
from swarmcli.engine.run import Run
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price, Vote
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient, reply_to
from tests.engine.stage import BLOCKS, briefing_of, roles_of


def model(name, dollars=1.0, **more):
    price = Price(input_per_mtok=dollars, output_per_mtok=dollars)
    return ModelSpec(id=f"fake/{name}", price=price, **more)


ROLES = {
    "small": model("small"),
    "other": model("other"),
    "third": model("third"),
    "twin": model("small"),
    "large": model("large", 10.0),
}


def failing(kind="server"):
    return ModelError("it broke", kind=kind, model="fake/small")


class Votes:
    """One run of agents that vote. `says`: model's short name -> an answer, a list of answers, or a function."""

    def __init__(
        self, vote, says, *, tasks=None, history=None, parallel=100, takes=1.0, roles=ROLES
    ):
        self.says = says
        self.clock = ManualClock(0.0)
        self.client = ScriptedClient(self._answer, clock=self.clock, latency_s=takes)
        self.recorder = RecordingRecorder()
        tasks = tasks or [Task(id="ask", prompt="How many?", group="ask", vote=vote)]
        self.run = Run(
            order=RunOrder(
                mode=ModeChoice(mode="swarm", reason="the test"),
                tasks=tuple(tasks),
                started=RunStarted(recipe="test", models={}),
                parallel=parallel,
                merge="jsonl",
                history=history or History(),
            ),
            briefing=briefing_of(roles=roles_of(**roles), job="the job", job_outline="the job"),
            client=self.client,
            recorder=self.recorder,
            clock=self.clock,
            fingerprint=cache_key,
            spent=Spent,
        )

    def _answer(self, request):
        answer = self.says[request.model.id.removeprefix("fake/")]
        if isinstance(answer, list):
            answer = answer.pop(0)
        return answer(request) if callable(answer) else answer

    async def play(self):
        report = await self.clock.drive(self.run.execute())
        self.votes = report.end.totals["votes"]
        return report.outcomes

    @property
    def asked(self):
        """The models, in the order in which they were asked."""
        return [r.model.id.removeprefix("fake/") for r in self.client.requests]

    def prompt_to(self, name, index=0):
        found = [r for r in self.client.requests if r.model.id == f"fake/{name}"]
        return found[index].messages[-1].content


PAIR = Vote(models=("small", "other"), canonical="number", escalate="large")
MUTUAL = Vote(models=("small", "large"), canonical="number", escalate="large")


async def test_models_that_agree_need_nobody_else():
    """Spelling is no disagreement: $20.00 and 20 are one value, and the first listed model's words are the answer."""
    votes = Votes(PAIR, {"small": "It is $20.00", "other": "20"})

    [outcome] = await votes.play()

    assert ("It is $20.00", "fake/small") == (outcome.output, outcome.model)
    assert ["small", "other"] == votes.asked
    assert (1, 1, 0) == tuple(votes.votes[k] for k in ("tasks", "agreed", "escalated"))
    [tallied] = votes.recorder.of(VoteTallied)
    assert (True, "20", {"20": 2}, 2) == (
        tallied.agreed,
        tallied.value,
        dict(tallied.counts),
        tallied.asked,
    )


async def test_votes_are_asked_side_by_side():
    """Two answers of a second each take one second, and that is what the agent was busy."""
    votes = Votes(PAIR, {"small": "1", "other": "1"})

    [outcome] = await votes.play()

    assert (1.0, 1.0, 2) == (outcome.busy_s, votes.clock.monotonic(), votes.client.peak)


async def test_the_escalated_answer_is_final_and_sees_the_question_verbatim():
    """The large model is asked once, with both values in data blocks, and its own answer counts."""
    votes = Votes(
        PAIR, {"small": "I count.\nThen 2 * 10.\nIt is 20", "other": "21", "large": "So 21"}
    )

    [outcome] = await votes.play()

    prompt, question = votes.prompt_to("large"), votes.prompt_to("small")
    assert ("So 21", "fake/large") == (outcome.output, outcome.model)
    assert prompt.startswith(question)
    assert BLOCKS.wrap("answer A", "answer: 20\n- I count.\n- Then 2 * 10.\n- It is 20") in prompt
    assert BLOCKS.wrap("answer B", "answer: 21\n- 21") not in prompt.partition("\n---\n")[0]
    assert (0, 1) == (votes.votes["agreed"], votes.votes["escalated"])


async def test_at_most_six_steps_are_shown():
    """Of all models together, the last ones of each."""
    long = "\n".join(f"step {n}" for n in range(30))
    votes = Votes(PAIR, {"small": f"{long}\n1", "other": f"{long}\n2", "large": "1"})

    await votes.play()

    steps = [line for line in votes.prompt_to("large").splitlines() if line.startswith("- ")]
    assert 6 == len(steps)
    assert "- step 29" in steps


async def test_without_notes_the_large_model_gets_the_bare_question():
    """It decides unaware of the others."""
    vote = Vote(models=("small", "other"), canonical="number", escalate="large", notes=False)
    votes = Votes(vote, {"small": "1", "other": "2", "large": "3"})

    await votes.play()

    assert votes.prompt_to("small") == votes.prompt_to("large")
    assert ["small", "other", "large"] == votes.asked


async def test_a_third_answer_is_final():
    """One call to the large model for each question that it is asked, whatever it says."""
    votes = Votes(PAIR, {"small": "1", "other": "2", "large": ["3", "4"]})

    [outcome] = await votes.play()

    assert ["small", "other", "large"] == votes.asked
    assert "3" == outcome.output


async def test_a_model_that_contradicts_its_own_vote_thinks_again():
    """Once, with effort, about all three; what it says then is final, whatever it is."""
    votes = Votes(MUTUAL, {"small": "1", "large": ["2", "3", "4"]})

    [outcome] = await votes.play()

    assert ["small", "large", "large", "large"] == votes.asked
    assert [None, "medium"] == [r.model.reasoning_effort for r in votes.client.requests[2:]]
    assert "answer: 3" in votes.prompt_to("large", 2)
    assert "4" == outcome.output


async def test_a_failed_deliberation_leaves_the_first_answer():
    """Second thoughts that do not come cost nothing of what is known."""
    votes = Votes(MUTUAL, {"small": "1", "large": ["2", "3", failing()]})

    [outcome] = await votes.play()

    assert ("done", "3") == (outcome.state, outcome.output)


@pytest.mark.parametrize(
    "silent",
    [
        failing(),
        "I do not know",
        '{"status": "insufficient", "answer": "the 7 prices are missing"}',
        "  ",
    ],
    ids=["failed", "no number", "insufficient", "empty"],
)
async def test_who_says_nothing_abstains(silent):
    """One of two votes is not unanimous, so the large model is asked."""
    votes = Votes(PAIR, {"small": silent, "other": "7", "large": "7"})

    [outcome] = await votes.play()

    assert ("done", "fake/large") == (outcome.state, outcome.model)
    assert 1 == votes.votes["escalated"]


@pytest.mark.parametrize("kind", ["server", "schema", "empty"])
async def test_when_nobody_votes_the_large_model_answers(kind):
    """All of them abstain, so there is no agreement."""
    votes = Votes(PAIR, {"small": failing(kind), "other": failing(kind), "large": "7"})

    [outcome] = await votes.play()

    assert ("done", "7", "fake/large") == (outcome.state, outcome.output, outcome.model)
    assert (1, 1) == (votes.votes["tasks"], votes.votes["escalated"])


async def test_a_prompt_that_fits_no_voter_goes_to_the_large_model():
    """What a voter cannot be asked is no vote either."""
    tiny = {name: model(name, context_window=40) for name in ("small", "other")}
    votes = Votes(PAIR, {"large": "7"}, roles={**ROLES, **tiny})

    [outcome] = await votes.play()

    assert ("done", "7") == (outcome.state, outcome.output)
    assert ["large"] == votes.asked


async def test_when_all_fail_the_agent_fails_with_the_last_cause():
    """Of the votes: where the large model fails as well, it is for them that it was asked."""
    votes = Votes(
        PAIR,
        {"small": failing("server"), "other": failing("network"), "large": failing("timeout")},
    )
    alone = Votes(
        replace(PAIR, escalate=None), {"small": failing("server"), "other": failing("network")}
    )

    [outcome], [lonely] = await votes.play(), await alone.play()

    assert ("failed", "network") == (outcome.state, outcome.failure.kind)
    assert ("failed", "network") == (lonely.state, lonely.failure.kind)
    assert ["small", "other", "large"] == votes.asked
    assert ["small", "other"] == alone.asked
    assert 0 == votes.votes["tasks"] == alone.votes["tasks"]


async def test_a_model_does_not_agree_with_itself():
    """The first voter's fallback is the second voter: the same draw is one vote, and one is not unanimous."""
    votes = Votes(
        PAIR,
        {
            "small": lambda request: replace(reply_to(request, "7"), model="fake/other"),
            "other": "7",
            "large": "8",
        },
    )

    [outcome] = await votes.play()

    assert ("8", 1) == (outcome.output, votes.votes["escalated"])
    assert {"7": 1} == dict(votes.recorder.of(VoteTallied)[0].counts)


async def test_no_access_to_a_voter_stops_the_run():
    """A wrong key is never outvoted."""
    votes = Votes(PAIR, {"small": "1", "other": failing("auth")})

    [outcome] = await votes.play()

    assert ("failed", "auth") == (outcome.state, outcome.failure.kind)
    assert "large" not in votes.asked


async def test_without_escalation_the_leading_value_stands():
    """A tie goes to the model that is listed first; nobody else is asked, and it is counted as divided."""
    vote = Vote(models=("small", "other"), canonical="number")
    votes = Votes(vote, {"small": "1", "other": "2"})

    [outcome] = await votes.play()

    assert "1" == outcome.output
    assert (1, 1, 0, 1) == tuple(
        votes.votes[k] for k in ("tasks", "agreed", "escalated", "divided")
    )


async def test_a_majority_that_stands_needs_no_further_votes():
    """Two of three agree, so the third model is not asked; where they differ, it is."""
    vote = Vote(models=("small", "other", "third"), rule="majority", canonical="number")
    agreed = Votes(vote, {"small": "1", "other": "1"})
    split = Votes(vote, {"small": "1", "other": "2", "third": "2"})

    assert ["1"] == [o.output for o in await agreed.play()]
    assert ["2"] == [o.output for o in await split.play()]
    assert (["small", "other"], ["small", "other", "third"]) == (agreed.asked, split.asked)


async def test_two_roles_of_one_model_are_two_draws():
    """Neither the cache nor a twin in flight may fold them into one answer."""
    vote = Vote(models=("small", "twin"), samples=2, canonical="number", escalate="small")
    votes = Votes(vote, {"small": ["1", "1", "1", "2", "2"]})

    await votes.play()

    assert [0, 1, 2, 3, 4] == [r.sample for r in votes.client.requests]
    assert 5 == len({cache_key(r) for r in votes.client.requests})


async def test_a_re_ask_for_the_schema_is_not_a_new_vote():
    """Two format errors in a row are no vote; one is forgiven."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "number"}},
        "required": ["answer"],
    }
    task = Task(id="ask", prompt="How many?", group="ask", vote=PAIR, output_schema=schema)
    good = '{"answer": 5}'
    forgiven = Votes(PAIR, {"small": ["five", good], "other": good}, tasks=[task])
    silent = Votes(PAIR, {"small": ["five", "six"], "other": good, "large": good}, tasks=[task])

    await forgiven.play()
    await silent.play()

    assert (1, 0) == (forgiven.votes["agreed"], forgiven.votes["escalated"])
    assert (0, 1) == (silent.votes["agreed"], silent.votes["escalated"])


async def test_the_cost_identity_is_what_was_paid():
    """k small calls at r of the price and e large ones: 2 * 0.1 + 0.5."""
    tasks = [
        Task(id=f"ask[{n}]", prompt="How many?", group="ask", index=n, vote=PAIR) for n in (0, 1)
    ]
    votes = Votes(
        PAIR,
        {"small": "1", "other": lambda r: "1" if r.agent == "ask[0]" else "2", "large": "1"},
        tasks=[*tasks],
    )
    outcomes = await votes.play()

    cost = votes.votes["cost"]
    large = sum(o.vote.large_usd for o in outcomes)
    assert (2.0, 0.5) == (cost["k"], cost["e"])
    assert cost["of_large"] == pytest.approx(
        sum(o.cost_usd for o in outcomes) / (2 * large), abs=1e-3
    )


async def test_votes_are_durable_before_the_large_model_is_asked():
    """A run that is killed then goes on with them, and pays nothing twice."""
    votes = Votes(PAIR, {"small": "1", "other": "2", "large": "1"})
    await votes.play()
    journal = votes.recorder.events
    kept = [e for e in journal if isinstance(e, TurnCompleted)]
    assert ["1", "2"] == [turn.output for turn in kept]

    killed = [e for e in journal if not isinstance(e, AgentCompleted)]
    resumed = Votes(PAIR, {"large": "1"}, history=replay(killed))
    [outcome] = await resumed.play()

    assert ["large"] == resumed.asked
    assert ("1", 1) == (outcome.output, resumed.votes["escalated"])


async def test_a_resumed_run_reuses_a_vote_and_its_figures():
    """Nothing is asked, and the totals know how it was decided; with other settings it is decided anew."""
    first = Votes(PAIR, {"small": "1", "other": "2", "large": "1"})
    await first.play()
    history = replay(first.recorder.events)

    again = Votes(PAIR, {}, history=history)
    await again.play()
    changed = Vote(models=("small", "other"), canonical="text", escalate="large")
    other = Votes(changed, {"large": "2"}, history=history)
    [outcome] = await other.play()

    assert ([], first.votes) == (again.asked, again.votes)
    assert (["large"], "2") == (other.asked, outcome.output)


AUDITED = Vote(models=("small", "other"), canonical="number", escalate="large", audit=0.01)


def fan_out(number, vote=AUDITED):
    one = Task(id="", prompt="How many?", group="ask", vote=vote, template=True, item_name="item")
    return [replace(one, id=f"ask[{n}]", index=n, item=n) for n in range(number)]


async def test_a_bad_pilot_sends_everything_to_the_large_model():
    """Who agreed while it was out waits and is asked again there; later ones are not put to the vote at all."""
    votes = Votes(
        AUDITED, {"small": "1", "other": "1", "large": "2"}, tasks=fan_out(200), parallel=80
    )

    outcomes = await votes.play()

    assert {"2"} == {o.output for o in outcomes}
    assert 200 == votes.asked.count("large")
    assert 80 + 59 == votes.asked.count("small"), "whoever had begun before the last audit was back"
    assert (60, 140, True) == (
        votes.votes["audited"],
        votes.votes["escalated"],
        votes.votes["routing_stopped"],
    )
    [warning] = votes.recorder.of(Warned)
    assert "60 of 60 audited answers differ from large's" in warning.message


async def test_a_good_pilot_lets_the_rest_through():
    """Sixty audits, and then one in a hundred."""
    votes = Votes(
        AUDITED, {"small": "1", "other": "1", "large": "1"}, tasks=fan_out(200), parallel=80
    )

    await votes.play()

    assert (61, 200, False) == (
        votes.votes["audited"],
        votes.votes["agreed"],
        votes.votes["routing_stopped"],
    )
    assert not votes.recorder.of(Warned)


async def test_models_that_rarely_agree_are_not_asked_for_long():
    """The audits find nothing, but half of the votes on every second question are wrong."""
    turn = itertools.cycle("12")
    votes = Votes(
        AUDITED,
        {"small": "1", "other": lambda _: next(turn), "large": "1"},
        tasks=fan_out(200),
        parallel=1,
    )

    await votes.play()

    said = votes.votes
    assert (119, 119, 200) == tuple(map(votes.asked.count, ("small", "other", "large")))
    assert (60, 60, 140, True) == (
        said["audited"], said["agreed"], said["escalated"], said["routing_stopped"]
    )  # fmt: skip
    [warning] = votes.recorder.of(Warned)
    assert "on 119 questions the models voted differently so often" in warning.message


async def test_an_audit_that_fails_is_made_up_for_by_one_that_waits():
    """Nobody waits for ever for an audit that will not come."""
    broken = iter([failing()] * 5)
    votes = Votes(
        AUDITED,
        {"small": "1", "other": "1", "large": lambda _: next(broken, "1")},
        tasks=fan_out(100),
    )

    outcomes = await votes.play()

    assert {"done"} == {o.state for o in outcomes}
    assert (60, 65) == (votes.votes["audited"], votes.asked.count("large"))


async def test_votes_that_were_believed_before_routing_stopped_are_asked_again():
    """So is what was built on them; the result holds nothing that only the small models said."""
    large = iter(["1"] * 52)  # the pilot's differences stay below one in six until later audits
    lazy = Vote(models=("small", "other"), canonical="number", escalate="large", audit=0.5)
    tasks = fan_out(120, lazy)
    after = Task(
        id="sum",
        prompt="Add them.",
        group="sum",
        model="third",
        depends_on=(Dependency(name="ask", agents=tuple(t.id for t in tasks), fan_out=True),),
    )
    votes = Votes(
        lazy,
        {"small": "1", "other": "1", "large": lambda _: next(large, "2"), "third": "summed"},
        tasks=[*tasks, after],
        parallel=1,
    )

    outcomes = await votes.play()

    said = [o for o in outcomes if o.task.group == "ask"]
    assert votes.votes["routing_stopped"]
    assert all(o.vote.audited or o.vote.escalated for o in said)
    assert {"fake/large"} == {o.model for o in said}
    assert 2 == votes.asked.count("third")
    assert 120 == votes.votes["tasks"]
    paid = votes.asked.count("small") + votes.asked.count("other")
    assert paid == pytest.approx(120 * votes.votes["cost"]["k"], abs=0.1)


async def test_a_resumed_run_knows_that_routing_has_stopped():
    """The small models are not asked again, and nobody is warned twice."""
    first = Votes(AUDITED, {"small": "1", "other": "1", "large": "2"}, tasks=fan_out(61))
    await first.play()

    resumed = Votes(
        AUDITED, {"large": "2"}, tasks=fan_out(70), history=replay(first.recorder.events)
    )
    await resumed.play()

    assert ["large"] * 9 == resumed.asked
    assert (60, []) == (resumed.votes["audited"], resumed.recorder.of(Warned))


async def test_a_resumed_run_with_other_models_tries_them_anew():
    """That the models of the first session were bad says nothing of these, nor that they were good."""
    first = Votes(AUDITED, {"small": "1", "other": "1", "large": "2"}, tasks=fan_out(61))
    await first.play()
    better = {**ROLES, "small": model("better"), "other": model("best")}

    resumed = Votes(
        AUDITED,
        {"better": "2", "best": "2", "large": "2"},
        tasks=fan_out(61),
        history=replay(first.recorder.events),
        roles=better,
        parallel=1,
    )
    await resumed.play()

    assert (61, 61, 60) == tuple(resumed.asked.count(m) for m in ("better", "best", "large"))
    assert (61, 60, False) == tuple(
        resumed.votes[k] for k in ("agreed", "audited", "routing_stopped")
    )
