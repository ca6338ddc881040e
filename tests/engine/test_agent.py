"""One agent: whatever goes wrong is its outcome, never an exception."""

import json

import pytest

from swarmcli.core.events import AgentCompleted, AgentStarted, AgentUpdated, TurnCompleted, Usage
from swarmcli.core.plan import Dependency
from swarmcli.core.ports import ModelReply
from swarmcli.core.replay import History
from swarmcli.core.replies import Claim
from swarmcli.core.tokens import estimate_tokens
from swarmcli.engine.agent import AgentRunner
from swarmcli.recipe.values import ModelSpec, Profile
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient
from tests.core.tasks import done, task
from tests.engine.stage import DiskRecorder, briefing_of, error, fingerprint, user_text

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class One:
    """One agent with its scripted model."""

    def __init__(
        self, *answers, history=None, mode="swarm", task_timeout_s=None, recorder=None, **briefing
    ):
        self.clock = ManualClock(0.0)
        script = answers[0] if answers and callable(answers[0]) else list(answers)
        self.client = ScriptedClient(script, clock=self.clock, latency_s=2.0)
        self.recorder = recorder or RecordingRecorder()
        self.runner = AgentRunner(
            client=self.client,
            briefing=briefing_of(**briefing),
            recorder=self.recorder,
            clock=self.clock,
            fingerprint=fingerprint,
            history=history or History(),
            mode=mode,
            task_timeout_s=task_timeout_s,
        )

    async def run(self, one=None, inputs=()):
        return await self.clock.drive(self.runner.run(one or task("a"), inputs))


async def test_an_answer_becomes_an_outcome_with_what_it_took():
    """Model, times, tokens and money are those of the reply."""
    one = One("Berlin")
    outcome = await one.run()

    assert ("done", "Berlin", "ok", "fake/model") == (
        outcome.state, outcome.output, outcome.status, outcome.model
    )  # fmt: skip
    assert (0.0, 2.0, 2.0, 1) == (
        outcome.started_s, outcome.ended_s, outcome.busy_s, outcome.attempts
    )  # fmt: skip
    assert outcome.usage.output_tokens > 0
    assert outcome.cost_usd > 0
    assert fingerprint(one.client.requests[0]) == outcome.key


async def test_the_start_is_told_with_the_question():
    """`swarm logs RUN AGENT` shows what was asked."""
    one = One("x")
    await one.run()

    assert [AgentStarted(agent="a", model="fake/model", prompt="do a")] == one.recorder.events
    assert ("agent", "a") == (one.client.requests[0].purpose, one.client.requests[0].agent)


async def test_a_typed_reply_gives_answer_status_and_claims():
    """Only the answer goes on to others, and what the agent says of it is kept."""
    claim = {"key": "pop", "value": 3.7, "unit": "m", "source": "s"}
    text = "Thinking...\n" + json.dumps(
        {"status": "insufficient", "answer": "no data", "claims": [claim]}
    )
    outcome = await One(text).run()

    assert ("no data", "insufficient") == (outcome.output, outcome.status)
    assert (Claim(key="pop", value=3.7, unit="m", source="s"),) == outcome.claims


@pytest.mark.parametrize("kind", ["rate_limit", "auth", "truncated", "context_overflow", "budget"])
async def test_a_failed_call_is_a_failed_agent(kind):
    """The kind decides the exit code, the message is for the user."""
    outcome = await One(error(kind, "no luck")).run()

    assert ("failed", kind, "no luck", None) == (
        outcome.state, outcome.failure.kind, outcome.failure.message, outcome.output
    )  # fmt: skip


async def test_a_prompt_that_cannot_be_rendered_fails_without_a_call():
    """The failure names the variable; the agent was still announced."""
    one = One()
    outcome = await one.run(task("a", template=True, prompt="{{ missing }}"))

    assert "template" == outcome.failure.kind
    assert "missing" in outcome.failure.message
    assert [AgentStarted(agent="a", model="fake/model")] == one.recorder.events


async def test_a_model_role_that_does_not_exist_is_that_agents_failure():
    """A plan file may name what this run does not have."""
    outcome = await One().run(task("a", model="gigantic"))

    assert ("failed", "gigantic") == (outcome.state, outcome.model)
    assert "'gigantic' is no model role" in outcome.failure.message


async def test_output_that_does_not_fit_its_schema_is_asked_for_once_more():
    """The second question holds the first answer and the validator's words."""
    one = One('{"n": "four"}', '{"n": 4}')
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert ("done", '{"n": 4}', 2, 4.0) == (
        outcome.state, outcome.output, outcome.attempts, outcome.busy_s
    )  # fmt: skip
    first, second = one.client.requests
    assert SCHEMA == first.response_schema == second.response_schema
    assert json.dumps(SCHEMA, sort_keys=True) in user_text(first)
    assert ["system", "user", "assistant", "user"] == [m.role for m in second.messages]
    assert '{"n": "four"}' == second.messages[2].content
    assert "/n: must be a whole number" in second.messages[3].content
    assert [AgentUpdated(agent="a", note="schema: asks again")] == one.recorder.of(AgentUpdated)


async def test_the_schema_has_its_room_in_the_window():
    """Inputs are cut for the schema too, so that a small model gets both."""
    schema = {"type": "object", "description": "what it is for " * 50}
    one = One("{}", model=ModelSpec(id="fake/small", context_window=2048))
    inputs = [(Dependency(name="a", agents=("a",)), (done("a", "x" * 20_000),))]
    await one.run(task("b", "a", output_schema=schema), inputs)

    sent = one.client.requests[0].messages
    assert sum(estimate_tokens(m.content) for m in sent) <= 2048 - 1024


@pytest.mark.parametrize("prompt", ["do a", "long " * 900])
async def test_the_second_question_fits_the_window_too(prompt):
    """Of a first answer that goes on for pages, only as much is shown again as there is room for."""
    one = One("no json " * 2000, '{"n": 4}', model=ModelSpec(id="fake/small", context_window=2600))
    outcome = await one.run(task("a", output_schema=SCHEMA, prompt=prompt))

    assert '{"n": 4}' == outcome.output
    sent = one.client.requests[1].messages
    assert sum(estimate_tokens(m.content) for m in sent) < 2600 - 512
    assert "characters left out" in sent[2].content


async def test_two_misfits_are_a_failure_with_the_reason():
    """No third try, and what both cost is counted."""
    one = One("no json", '{"n": 1.5}')
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert ("failed", "schema") == (outcome.state, outcome.failure.kind)
    assert "/n: must be a whole number" in outcome.failure.message
    assert 2 == outcome.attempts
    assert outcome.cost_usd > 0


async def test_json_is_found_in_prose_and_goes_on_without_it():
    """Dependants get the value alone."""
    outcome = await One('Sure:\n```json\n{"n": 4}\n```').run(task("a", output_schema=SCHEMA))

    assert '{"n": 4}' == outcome.output


async def test_a_profiles_schema_holds_unless_the_task_has_its_own():
    """`agents.critic.output_schema` is a default."""
    critic = Profile(name="critic", output_schema=SCHEMA)
    one = One("{}", "{}", profiles={"critic": critic})
    outcome = await one.run(task("a", profile="critic"))
    assert "schema" == outcome.failure.kind

    one = One("[]", profiles={"critic": critic})
    outcome = await one.run(task("a", profile="critic", output_schema={"type": "array"}))
    assert "[]" == outcome.output


async def test_without_a_schema_no_response_format_is_asked_for():
    """Constrained decoding only where somebody wants it."""
    one = One("x")
    await one.run()

    assert one.client.requests[0].response_schema is None


async def test_what_an_earlier_session_finished_is_not_asked_again():
    """The same question: the recorded answer, with its cost, and no call."""
    first = One("Berlin")
    key = (await first.run()).key
    earlier = AgentCompleted(
        agent="a", output="Paris", status="conflict", model="fake/model", key=key, cost_usd=0.5, seconds=7.0,
        tokens=Usage(input_tokens=1), claims=[{"key": "k", "value": 1, "unit": "", "source": ""}],
    )  # fmt: skip
    one = One(history=History(finished={"a": earlier}))
    outcome = await one.run()

    assert ("done", "Paris", "conflict", True) == (
        outcome.state, outcome.output, outcome.status, outcome.reused
    )  # fmt: skip
    assert (0.5, 7.0, Usage(input_tokens=1)) == (outcome.cost_usd, outcome.busy_s, outcome.usage)
    assert (Claim(key="k", value=1),) == outcome.claims
    assert [] == one.client.requests


async def test_another_question_is_asked_although_the_agent_had_finished():
    """Its prompt, an input or the model changed: the old answer is not reused."""
    earlier = AgentCompleted(agent="a", output="Paris", key="another question")
    one = One("Berlin", history=History(finished={"a": earlier}))
    outcome = await one.run()

    assert ("Berlin", False, 1) == (outcome.output, outcome.reused, len(one.client.requests))


async def test_an_unknown_price_stays_unknown():
    """One call of unknown price makes the agent's cost unknown, not smaller."""
    replies = [
        ModelReply(text="no", model="x/y", cost_usd=0.25),
        ModelReply(text='{"n": 1}', model="x/y", cost_usd=None),
    ]
    outcome = await One(*replies).run(task("a", output_schema=SCHEMA))

    assert ("done", None) == (outcome.state, outcome.cost_usd)


async def test_a_cached_answer_took_nothing():
    """It says so, and its tokens are nobody's."""
    reply = ModelReply(
        text="x", model="x/y", cached=True, attempts=0, cost_usd=0.0, usage=Usage(input_tokens=9)
    )
    outcome = await One(reply).run()

    assert (True, 0, 0.0, None) == (outcome.cached, outcome.attempts, outcome.busy_s, outcome.usage)


async def test_the_model_that_answered_is_the_one_that_is_told():
    """A fallback's answer is not credited to the model that failed."""
    outcome = await One(ModelReply(text="x", model="other/model")).run()

    assert "other/model" == outcome.model


@pytest.mark.parametrize(("mode", "effort"), [("instant", None), ("thinking", "medium")])
async def test_the_modes_of_one_call_ask_plainly(mode, effort):
    """`thinking` asks with effort; neither pretends to be part of a team."""
    one = One("x", mode=mode)
    await one.run()

    request = one.client.requests[0]
    assert effort == request.model.reasoning_effort
    assert request.messages[0].content.startswith("Answer the question")


async def test_the_task_timeout_is_for_all_calls_of_an_agent():
    """`--task-timeout 90s`; ten minutes where nothing is said. The re-ask gets what is left."""
    for given, expected in ((90.0, [90.0, 88.0]), (None, [600.0, 598.0])):
        one = One("{}", '{"n": 4}', task_timeout_s=given)
        await one.run(task("a", output_schema=SCHEMA))
        assert expected == [request.timeout_s for request in one.client.requests]


async def test_without_time_left_an_agent_does_not_ask_again():
    """Its first answer took all of it; the failure is a timeout, not a call of no seconds."""
    one = One("{}", task_timeout_s=2.0)
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert ("failed", "timeout", 1) == (outcome.state, outcome.failure.kind, outcome.attempts)
    assert "the agent's time (2 s) is over" in outcome.failure.message
    assert 1 == len(one.client.requests)


async def test_an_answer_that_another_call_follows_is_durable_before_that_call():
    """At the moment of the second question the first answer is committed; a single answer never is."""
    seen = []
    answers = ["{}", '{"n": 4}']

    def answer(_request):
        seen.append(list(one.recorder.committed))
        return answers.pop(0)

    one = One(answer)
    await one.run(task("a", output_schema=SCHEMA))

    first = one.client.requests[0]
    price = one.client.requests[0].model.price
    usage = seen[1][0].tokens
    cost_usd = (
        usage.input_tokens * price.input_per_mtok + usage.output_tokens * price.output_per_mtok
    ) / 1e6
    turn = TurnCompleted(
        agent="a", key=fingerprint(first), output="{}", model="fake/model", tokens=usage, cost_usd=cost_usd, seconds=2.0
    )  # fmt: skip
    assert [[], [turn]] == seen
    assert [turn] == one.recorder.committed


async def test_a_turn_of_an_earlier_session_is_not_asked_again():
    """Killed between the turns: only the second question is asked, and the outcome is that of one session."""
    whole = One("{}", '{"n": 4}')
    undisturbed = await whole.run(task("a", output_schema=SCHEMA))
    turn = whole.recorder.committed[0]

    one = One('{"n": 4}', history=History(turns={"a": {turn.key: turn}}))
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert whole.client.requests[1].messages == one.client.requests[0].messages
    assert 1 == len(one.client.requests)
    assert 600.0 == one.client.requests[0].timeout_s
    assert [] == one.recorder.committed
    assert (undisturbed.output, undisturbed.usage, undisturbed.cost_usd, 2, 4.0) == (
        outcome.output, outcome.usage, outcome.cost_usd, outcome.attempts, outcome.busy_s
    )  # fmt: skip


async def test_a_turn_of_another_question_or_agent_is_not_replayed():
    """The prompt or the agent is another: everything is asked."""
    turn = TurnCompleted(agent="a", key="another question", output='{"n": 9}')
    same = TurnCompleted(agent="b", key="", output='{"n": 9}')
    one = One('{"n": 4}', history=History(turns={"a": {turn.key: turn}, "b": {same.key: same}}))
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert ('{"n": 4}', 1) == (outcome.output, len(one.client.requests))


async def test_a_turn_that_cannot_be_made_durable_stops_the_agent():
    """Nobody would know of the answer: the next question is not asked and not paid."""
    one = One("{}", recorder=DiskRecorder(full_at={"a"}))
    outcome = await one.run(task("a", output_schema=SCHEMA))

    assert ("failed", "internal", "the disk is full") == (
        outcome.state, outcome.failure.kind, outcome.failure.message
    )  # fmt: skip
    assert 1 == len(one.client.requests)


async def test_an_agent_whose_tool_may_have_run_is_not_run_again():
    """The failure names the tools, each once, and what would run it."""
    history = History(uncertain={"a": ("github/merge", "github/merge", "mail/send")})
    one = One(history=history)
    outcome = await one.run()

    assert ("failed", "uncertain", 0, 0.0) == (
        outcome.state, outcome.failure.kind, outcome.attempts, outcome.cost_usd
    )  # fmt: skip
    assert "github/merge, mail/send; swarm resume --retry-uncertain" in outcome.failure.message
    assert [] == one.client.requests


async def test_a_finished_agent_is_reused_whatever_its_tools_did():
    """Its answer is durable; that of another question is not its answer."""
    key = (await One("x").run()).key
    earlier = AgentCompleted(agent="a", output="Paris", key=key)
    history = History(finished={"a": earlier}, uncertain={"a": ("mail/send",)})

    assert "Paris" == (await One(history=history).run()).output


async def test_a_long_prompt_is_cut_in_the_event_and_not_in_the_request():
    """A journal of 300 agents with a megabyte each helps nobody."""
    one = One("x")
    await one.run(task("a", prompt="x" * 50_000))

    assert 20_000 == len(one.recorder.events[0].prompt)
    assert "x" * 50_000 == user_text(one.client.requests[0])


async def test_a_request_holds_nothing_that_changes_from_run_to_run():
    """Two sessions ask byte for byte the same, so the second one hits the cache."""
    requests = []
    for _ in range(2):
        one = One("x", model=ModelSpec(id="fake/model"))
        await one.run(task("a", prompt="the same"))
        requests.append(one.client.requests[0])

    assert requests[0] == requests[1]
    assert "a" not in [m.content for m in requests[0].messages]
