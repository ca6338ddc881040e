"""The planner: agents start while it streams, one repair turn with the exact fault, then a clear failure."""

import json

import pytest

from swarmcli.core.events import PlanReady, PlanStarted
from swarmcli.core.tokens import estimate_tokens
from swarmcli.engine.briefing import Material
from swarmcli.engine.planner import Planner, lenient_json
from swarmcli.errors import ModelError, PlanError
from swarmcli.recipe.values import ModelSpec, Price, Profile
from swarmcli.testing import ManualClock, Partial, RecordingRecorder, ScriptedClient
from tests.effort import calls
from tests.engine.stage import BLOCKS, briefing_of, error, plan_text, roles_of, user_text


class Desk:
    """A planner with its scripted model; what it hands over is kept with its time."""

    def __init__(self, *answers, max_tasks=60, model=None, seconds=10.0, **briefing):
        self.clock = ManualClock(0.0)
        self.client = ScriptedClient(
            list(answers), clock=self.clock, latency_s=seconds, chunk_chars=4
        )
        self.recorder = RecordingRecorder()
        self.handed = []
        self.at = {}
        options = {"job": "JOB WITH TEXT", "job_outline": "THE JOB", **briefing}
        if model is not None:
            options["model"] = model
        self.planner = Planner(
            client=self.client,
            briefing=briefing_of(**options),
            emit=self.recorder.emit,
            clock=self.clock,
            max_tasks=max_tasks,
            on_tasks=self._take,
            timeout_s=60.0,
        )

    def _take(self, tasks):
        self.handed += tasks
        self.at |= {t.id: self.clock.monotonic() for t in tasks}

    async def plan(self):
        return await self.clock.drive(self.planner.plan())


def ids(tasks):
    return [t.id for t in tasks]


async def test_tasks_are_handed_over_while_the_planner_writes():
    """Of five tasks the first starts after a fifth of the planning time."""
    desk = Desk(plan_text(*"abcde"))
    plan = await desk.plan()

    assert list("abcde") == ids(desk.handed) == ids(plan.tasks)
    assert [2, 4, 6, 8, 10] == [round(desk.at[name]) for name in "abcde"]


async def test_a_plan_in_prose_and_fences_costs_no_second_call():
    """What models say around a plan is ignored."""
    desk = Desk(f"Let me think.\n```json\n{plan_text('a', ('b', 'a'))}\n```\nDone.")
    plan = await desk.plan()

    assert ["a", "b"] == ids(plan.tasks) == ids(desk.handed)
    assert [PlanStarted(model="fake/model")] == desk.recorder.of(PlanStarted)


async def test_the_plan_is_kept_for_a_resumed_run():
    """`plan.ready` holds the whole plan, so that resuming does not plan again."""
    desk = Desk(plan_text("a", ("b", "a")))
    await desk.plan()

    (ready,) = desk.recorder.of(PlanReady)
    assert (2, 10.0) == (ready.tasks, ready.seconds)
    assert ["a", "b"] == [t["id"] for t in ready.plan["tasks"]]


FAULTS = {
    "a circle": (plan_text(("a", "b"), ("b", "a")), "circle: "),
    "itself": (plan_text(("a", "a")), "task 'a' depends on itself"),
    "an unknown need": (
        plan_text("a", ("b", "x")),
        "task 'b' depends on 'x', which does not exist",
    ),
    "one id twice": (
        '{"tasks": [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]}',
        "two tasks have the id 'a'",
    ),
    "too many": (plan_text(*(f"t{i}" for i in range(61))), "the plan has 61 tasks, 60 are allowed"),
    "truncated": (plan_text("a", "b")[:-5], "truncated"),
    "no JSON": ("I would rather not.", 'holds no JSON object with "tasks"'),
    "no tasks": ('{"tasks": []}', "the plan has no tasks"),
    "cut off": (error("truncated"), "the answer was cut off"),
    "nothing": (error("empty"), "the answer is empty"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_wrong_plan_gets_its_exact_fault_back_once(name):
    """The second request holds the fault, and the answer that had it."""
    answer, fault = FAULTS[name]
    desk = Desk(answer, plan_text("a", "b"))
    plan = await desk.plan()

    assert ["a", "b"] == ids(plan.tasks)
    second = desk.client.requests[1]
    assert fault in second.messages[-1].content
    assert "user" == second.messages[-1].role
    said = [m.content for m in second.messages if m.role == "assistant"]
    assert ([answer] if isinstance(answer, str) else []) == said
    repair = desk.recorder.of(PlanStarted)[1].repair
    assert fault in repair


async def test_two_wrong_plans_are_the_end():
    """The message says what was wrong last, and what to do."""
    desk = Desk("no", plan_text(("a", "a")))

    with pytest.raises(
        PlanError, match="also after one repair turn: task 'a' depends on itself"
    ) as caught:
        await desk.plan()
    assert "larger planner" in caught.value.hint
    assert 1 == caught.value.exit_code


async def test_a_planner_that_cannot_be_reached_is_not_asked_twice():
    """401, a rate limit after all retries: repairing a plan does not help."""
    for kind in ("auth", "rate_limit", "context_overflow", "budget"):
        desk = Desk(error(kind))
        with pytest.raises(ModelError) as caught:
            await desk.plan()
        assert (kind, 1) == (caught.value.kind, len(desk.client.requests))


async def test_a_task_of_both_drafts_is_handed_over_once():
    """What the broken draft started goes on; the corrected plan adds what is new."""
    desk = Desk(plan_text("a", ("b", "x")), plan_text("a", ("b", "a")))
    plan = await desk.plan()

    assert ["a", "b"] == ids(desk.handed) == ids(plan.tasks)


async def test_what_contradicts_the_first_draft_waits_for_the_whole_plan():
    """A task whose id meant something else before, and whatever needs it, must not see the old output."""
    corrected = json.dumps({"tasks": [
        {"id": "a", "prompt": "something else"},
        {"id": "b", "prompt": "needs a", "depends_on": ["a"]},
        {"id": "c", "prompt": "new"},
    ]})  # fmt: skip
    desk = Desk(plan_text("a", ("b", "x")), corrected)
    plan = await desk.plan()

    assert ["a", "b", "c"] == ids(plan.tasks)
    assert ["a", "c"] == ids(desk.handed)
    assert "do a" == desk.handed[0].prompt


async def test_a_broken_stream_that_begins_again_starts_nobody_twice():
    """The client retried: the reader begins anew, the agents do not."""
    text = plan_text("a", "b", "c")
    desk = Desk(text)
    broken = ScriptedClient(
        [Partial(text=text[:70], error=error("network")), text], clock=desk.clock, latency_s=1.0
    )

    class Retrying:
        async def complete(self, request, stream_to=None):
            try:
                return await broken.complete(request, stream_to)
            except ModelError:
                stream_to.restart()
                return await broken.complete(request, stream_to)

    desk.planner._client = Retrying()
    plan = await desk.plan()

    assert ["a", "b", "c"] == ids(desk.handed) == ids(plan.tasks)


async def test_both_drafts_together_never_start_more_than_allowed():
    """`--max-agents 3` holds also when the planner changes its mind about every id."""
    desk = Desk(plan_text("a", "b", "c", "d"), plan_text("u", "v", "w"), max_tasks=3)
    plan = await desk.plan()

    assert ["a", "b", "c"] == ids(desk.handed)
    assert ["u", "v", "w"] == ids(plan.tasks)


async def test_declining_to_split_is_a_plan():
    """One call for the plan, one for the answer."""
    desk = Desk('{"mode": "instant"}')
    plan = await desk.plan()

    assert ("instant", ()) == (plan.mode, plan.tasks)


async def test_what_both_turns_took_is_added_up():
    """Also a plan that could not be used was paid; one unknown price makes the sum unknown."""
    desk = Desk("no", "neither")
    with pytest.raises(PlanError):
        await desk.plan()
    work = desk.planner.work

    assert [(0, 10), (10, 20)] == [(round(s.started_s), round(s.ended_s)) for s in work.spans]
    assert work.usage.output_tokens == sum(map(estimate_tokens, ("no", "neither")))
    assert work.cost_usd > 0
    free = Desk(plan_text("a"), model=ModelSpec(id="fake/unpriced"))
    await free.plan()
    assert free.planner.work.cost_usd is None


async def test_the_plan_is_made_before_any_outside_text_is_read():
    """The planner sees names and sizes; the log that says "ignore your instructions" is for the agents."""
    log = Material(name="stdin", text="EVIL " * 100)
    desk = Desk(plan_text("a"), materials=(log,), files=tuple(f"f{i}.py" for i in range(502)))
    await desk.plan()

    text = user_text(desk.client.requests[0])
    assert "EVIL" not in text
    assert "JOB WITH TEXT" not in text
    assert "THE JOB" in text
    assert "- stdin: 500 characters" in text
    assert BLOCKS.wrap("files", "\n".join(f"f{i}.py" for i in range(500))) in text
    assert "- and 2 more files" in text


async def test_the_planner_is_told_its_bounds_and_choices():
    """Most tasks, the profiles and what they are for."""
    critic = Profile(name="critic", description="finds faults")
    desk = Desk(plan_text("a"), max_tasks=7, profiles={"critic": critic})
    await desk.plan()

    request = desk.client.requests[0]
    assert "Never more than 7." in request.messages[0].content
    assert '- "critic": finds faults' in request.messages[0].content
    assert ("planner", None, 60.0, None) == (
        request.purpose, request.agent, request.timeout_s, request.response_schema
    )  # fmt: skip


async def test_the_role_planner_plans():
    """`-m planner=...` is obeyed."""
    roles = roles_of(
        planner=ModelSpec(id="fake/planner", price=Price(input_per_mtok=0, output_per_mtok=0))
    )
    desk = Desk(plan_text("a"), roles=roles)
    await desk.plan()

    assert "fake/planner" == desk.client.requests[0].model.id


async def test_a_job_larger_than_the_planners_window_is_refused_before_the_call():
    """The message names the window."""
    desk = Desk(job_outline="x" * 20_000, model=ModelSpec(id="fake/tiny", context_window=2048))

    with pytest.raises(
        ModelError, match=r"the prompt of the planner .* does not fit the window of fake/tiny"
    ):
        await desk.plan()
    assert [] == desk.client.requests


async def test_the_repair_turn_keeps_within_the_window():
    """A broken answer that fills the window is shown as far as it fits beside the question."""
    model = ModelSpec(id="fake/small", context_window=4096)
    desk = Desk("x" * 30_000, plan_text("a"), model=model)
    await desk.plan()

    sent = sum(estimate_tokens(m.content) for m in desk.client.requests[1].messages)
    assert 1500 < sent <= 4096 - 1024


async def test_the_embedded_model_plans_under_a_grammar_and_within_its_measure():
    """Four tasks at most, whatever the recipe allows."""
    questions = json.dumps(
        {"tasks": [{"id": f"t{i}", "prompt": f"What is number {i}?"} for i in range(1, 4)]}
    )
    desk = Desk(questions, model=ModelSpec(id="embedded/smollm2", context_window=2048))
    plan = await desk.plan()

    request = desk.client.requests[0]
    assert 4 == request.response_schema["properties"]["tasks"]["maxItems"]
    assert "at most 4" in user_text(request)
    assert ["t1", "t2", "t3"] == ids(plan.tasks)


@pytest.mark.parametrize(
    "answer",
    ['{"tasks": [{"id" ' + "[" * 5000 + "]" * 5000 + "}]}", '{"tasks": [' + "'a'," * 60_000 + "]}"],
    ids=["too deep", "too long for the lenient reader"],
)  # fmt: skip
async def test_what_nobody_can_read_is_repaired_like_any_other_fault(answer):
    """A hostile answer costs the repair turn, never the run."""
    desk = Desk(answer, plan_text("a"))
    plan = await desk.plan()

    assert (["a"], 2) == (ids(plan.tasks), len(desk.client.requests))


def test_the_lenient_reader_never_works_for_seconds():
    """Its work grows with the square, and all agents wait: six million calls for this one, three seconds for twice."""
    nasty = '{"tasks": ["' + '{"a"' * 1300 + "]}"

    assert calls(lambda: lenient_json(nasty)) < 1000


async def test_sloppy_json_is_read_without_a_second_call():
    """Single quotes and trailing commas of weak models."""
    desk = Desk("{'tasks': [{'id': 'a', 'prompt': 'x',},]}")
    plan = await desk.plan()

    assert ["a"] == ids(plan.tasks)
