"""Finding the plan in a whole answer: one plan with all that was written of it, or one exact fault."""

import json

import json_repair
import pytest

from swarmcli.core.plantext import parse_plan
from tests.core.plans import DRAFTS, PLAN, fault


def test_a_bare_list_of_tasks_is_a_plan():
    """Some models leave the outer object out."""
    tasks = json.dumps(json.loads(PLAN)["tasks"])

    assert DRAFTS == parse_plan(f"```\n{tasks}\n```").drafts


def test_an_example_before_the_plan_is_not_the_plan():
    """An empty example is passed over."""
    assert DRAFTS == parse_plan(f'Not {{"tasks": []}} but {PLAN}').drafts


@pytest.mark.parametrize(
    "form", ['{"mode": "instant"}', '{"tasks": [{"id": "t1", "prompt": "...", "depends_on": []}]}']
)
def test_the_form_of_an_answer_is_not_the_answer(form):
    """Planners think aloud: what they decline, and the dots of the form, come before what they mean."""
    document = parse_plan(f"Not {form} but {PLAN}")

    assert ("swarm", DRAFTS) == (document.mode, document.drafts)


def test_a_truncated_plan_is_not_what_was_said_before_it():
    """Its tasks have begun: another answer would throw them away."""
    assert "truncated" in fault(f'Not {{"mode": "instant"}} but {PLAN[:-30]}')


def test_the_form_before_a_mode_is_not_the_answer():
    """A planner that repeats how to answer may still decline to split."""
    form = '{"tasks": [{"id": "t1", "prompt": "...", "depends_on": []}]}'

    assert "instant" == parse_plan(f'The form is {form}; here {{"mode": "instant"}} will do.').mode


def test_a_whole_draft_is_not_the_broken_plan_behind_it():
    """What the planner meant in the end is cut off; what it gave up before is not run instead."""
    assert "more tasks begin behind its end" in fault(f"Draft: {PLAN}\nBetter: {PLAN[:-30]}")
    assert DRAFTS == parse_plan(f"Draft: {PLAN[:-30]}\nNo, anew: {PLAN}").drafts


OTHER = PLAN.replace("t1", "t3").replace("t2", "t4")


@pytest.mark.parametrize(
    "text",
    [
        f"Phase one: {PLAN}\nPhase two: {OTHER}",
        f"[{PLAN}, {OTHER}]",
        f'{{"first": {PLAN}, "second": {OTHER}}}',
    ],
    ids=["one after the other", "a list", "an object"],
)
def test_one_of_several_plans_is_half_a_plan(text):
    """Which tasks are meant is for the planner to say."""
    assert "the answer holds 2 plans: all tasks belong into one list" == fault(text)
    assert "more tasks begin behind its end" in fault(f"[{PLAN}, {OTHER} (both)")


def test_a_list_that_is_closed_too_early_is_half_a_plan():
    """One bracket too many, and the rest of the tasks stands behind the plan; the form of a task loses nothing."""
    first, second = json.loads(PLAN)["tasks"]
    early = f'{{"tasks": [{json.dumps(first)}]}}, {json.dumps(second)}]}}'

    assert 'a task stands outside of the list: {"id": "t2",' in fault(early)
    assert DRAFTS == parse_plan(f'Each is {{"id": "t1", "prompt": "..."}}. {PLAN}').drafts


def test_a_mode_before_a_sloppy_plan_is_not_the_answer():
    """Its tasks would be thrown away."""
    sloppy = "{'tasks': [{'id': 't1', 'prompt': 'one'}]}"

    assert "more tasks begin behind its end" in fault(f'Not {{"mode": "instant"}} but {sloppy}')


def test_the_same_plan_twice_is_one_plan():
    """Some models repeat their answer, bare or wrapped."""
    assert DRAFTS == parse_plan(f'{PLAN}\n\n```json\n{{"plan": {PLAN}}}\n```').drafts


def test_an_open_bracket_before_the_plan_hides_nothing():
    """Prose may open a list that it never closes."""
    assert DRAFTS == parse_plan(f"Result: [{PLAN} (that is all)").drafts


def test_instant_is_an_answer():
    """The planner may decline to split."""
    document = parse_plan('One call is enough.\n{"mode": "instant"}')

    assert ("instant", ()) == (document.mode, document.drafts)


def test_numbers_as_ids_become_text():
    """`{"id": 1}` is what some models write."""
    text = '{"tasks": [{"id": 1, "prompt": "a"}, {"id": 2, "prompt": "b", "depends_on": [1]}]}'

    assert [("1", ()), ("2", ("1",))] == [(d.id, d.depends_on) for d in parse_plan(text).drafts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 'holds no JSON object with "tasks"'),
        ("I cannot plan this, sorry.", 'holds no JSON object with "tasks"'),
        ('{"steps": [{"id": "t1", "prompt": "x"}]}', 'holds no "tasks" list: {"steps": [{"id": "t1",'),
        ('{"id": "t1", "prompt": "x"}\n{"id": "t2", "prompt": "y"}', 'holds no "tasks" list: {"id": "t1",'),
        ('{"mode": "Instant"}', 'holds no "tasks" list: {"mode": "Instant"}'),
        ('{"tasks": {"id": "t1"}}', 'holds no "tasks"'),
        (PLAN[:-1], "truncated"),
        (PLAN[:-40], "truncated"),
        ('{"tas', "truncated"),
        ('{"meta": {"n": 2}, "tasks": [{"id": "t1", "prompt": "one"}', "truncated"),
        ('{"tasks": [{"id": "t1"}]}', "task 't1' has no \"prompt\""),
        ('{"tasks": [{"prompt": "x"}]}', 'a task has no "id": {"prompt": "x"}'),
        ('{"tasks": ["one", "two"]}', 'a task is an object, not "one"'),
        ('{"tasks": [{"id": "a", "prompt": "x", "depends_on": "b"}]}', "is not a list of task ids"),
        ('{"tasks": [{"id": "a", "prompt": "x", "depends_on": [{}]}]}', "no task id"),
        ('{"tasks": [{"id": "a", "prompt": "x", "model": 3}]}', '"model" of task \'a\' is not a text'),
        ('{"version": 2, "tasks": []}', "plan version 2 is not known"),
        ('{"version": true, "tasks": []}', "plan version true is not known"),
        ('{"mode": ["swarm"], "tasks": []}', "is not one of swarm"),
        ('{"mode": ["instant"]}', 'holds no "tasks"'),
        ('{"tasks": [{"id": "t1", "prompt": "one"}, ..., {"id": "t9", "prompt": "9"}]}', "holds '...' between"),
        ('{"tasks": [{"id": "t1", "prompt": "one"}, // and on\n {"id": "t9", "prompt": "9"}]}', "holds '//' between"),
        ('{"tasks": [{"id": "t1", "prompt": "one"} /* 7 more */, {"id": "t9", "prompt": "9"}]}', "holds '/*' between"),
        ("{'tasks': [{'id': 't1', 'prompt': 'print ]}]} now'}, {'id': 't2', 'prompt': 'two'}]}", "malformed"),
        ('{"mode": "turbo", "tasks": []}', "mode 'turbo' is not one of swarm"),
    ],
)  # fmt: skip
def test_each_way_not_to_be_a_plan_has_its_own_words(text, expected):
    """The repair turn and the user read the exact fault."""
    assert expected in fault(text)


def test_sloppy_but_complete_json_is_repaired():
    """Trailing commas and single quotes of weak models cost no second call."""
    text = "{'tasks': [{'id': 't1', 'prompt': 'one',}, {'id': 't2', 'prompt': 'two', 'depends_on': ['t1'],},]}"

    assert DRAFTS == parse_plan(text, repair=json_repair.loads).drafts
    assert "malformed" in fault(text, repair=None)


def test_a_sloppy_plan_is_unwrapped():
    """What stands around the plan in its JSON is read too, so that nothing of it is missed."""
    text = "{'reasoning': 'Two parts', 'plan': {'tasks': [{'id': 't1', 'prompt': 'one',}]}}"

    assert DRAFTS[:1] == parse_plan(text, repair=json_repair.loads).drafts


def test_dots_and_slashes_within_a_prompt_leave_nothing_out():
    """Only what stands between the values says that tasks are missing."""
    text = "{'tasks': [{'id': 't1', 'prompt': 'read http://x/#y ... all',}, {\"id\": 't2', \"prompt\": \"so // on\"}]}"

    drafts = parse_plan(text, repair=json_repair.loads).drafts
    assert ["read http://x/#y ... all", "so // on"] == [d.prompt for d in drafts]


@pytest.mark.parametrize(
    "prompts",
    [
        '"Explain "[x]" in one line"',
        '"List ducks." "List geese."',
        '\u201cSay \u201cyes\u201d, then \u201cno\u201d.\u201d',
        '"Use the ducks", "geese" and so on'
    ],
    ids=["brackets between bare quotes", "two texts", "quotes in curly quotes", "quotes that seem to end it"],
)  # fmt: skip
def test_a_prompt_that_a_lenient_reader_cuts_short_is_a_fault(prompts):
    """Half a prompt is no task: every word that was written is in the plan, or the planner is asked again."""
    text = f'{{"tasks": [{{"id": "t1", "prompt": {prompts}}}, {{"id": "t2", "prompt": "two"}}]}}'

    assert "the JSON is malformed: " in fault(text)


def test_inputs_that_a_lenient_reader_takes_for_the_prompt_are_a_fault():
    """An apostrophe hides where the prompt ends: the task would run without what it needs."""
    needy = "{'id': 't2', 'prompt': 'Use the ducks' data', 'depends_on': ['t1']}"
    text = f"{{'tasks': [{needy}, {{'id': 't1', 'prompt': 'a'}}]}}"

    def swallows(_text):
        prompt = "Use the ducks' data', 'depends_on': ['t1']"
        return {"tasks": [{"id": "t2", "prompt": prompt}, {"id": "t1", "prompt": "a"}]}

    assert "malformed" in fault(text, repair=swallows)


def test_sloppy_json_is_repaired_however_its_texts_are_escaped():
    """Escapes that JSON does not know, and those that it does, are no lost words."""
    text = r'{"tasks": [{"id": "t1", "prompt": "Match \d+, caf\u00e9s\n\"Ja\" \\w", "agent": None, "depends_on": [],}]}'

    assert (
        'Match \\d+, caf\u00e9s\n"Ja" \\w'
        == parse_plan(text, repair=json_repair.loads).drafts[0].prompt
    )
