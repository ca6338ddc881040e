"""Reading plans out of a model's text: whole, in pieces, broken and hostile."""

import contextlib
import json

import json_repair
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.plan import TaskDraft
from swarmcli.core.planstream import (
    MAX_PLAN_CHARS,
    PlanStream,
    document_of,
    draft_of,
    parse_plan,
    tiny_plan_schema,
)
from swarmcli.errors import PlanError

PLAN = '{"tasks": [{"id": "t1", "prompt": "one"}, {"id": "t2", "prompt": "two", "depends_on": ["t1"]}]}'
DRAFTS = (
    TaskDraft(id="t1", prompt="one"),
    TaskDraft(id="t2", prompt="two", depends_on=("t1",)),
)


def streamed(text, size):
    """The drafts that come out when the text arrives in pieces of `size` characters."""
    stream = PlanStream()
    return tuple(d for i in range(0, len(text), size) for d in stream.feed(text[i : i + size]))


def fault(text):
    with pytest.raises(PlanError) as caught:
        parse_plan(text, repair=json_repair.loads)
    return caught.value.message


def test_a_task_is_handed_over_with_its_closing_brace():
    """The first agent starts one brace after its prompt, not when the plan ends."""
    stream = PlanStream()
    before, brace, after = PLAN.partition('"one"}')

    assert [] == stream.feed(before + brace[:-1])
    assert [DRAFTS[0]] == stream.feed("}")
    assert [DRAFTS[1]] == stream.feed(after)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize(
    "text",
    [
        PLAN,
        f"Here is my plan {{it is good}} [really]:\n```json\n{PLAN}\n```\nDone {{}}.",
        f'I would say "tasks" and then: {PLAN}',
        f'The form is {{"tasks": [...]}}, so:\n\n{PLAN}',
        f"\n\n{json.dumps(json.loads(PLAN), indent=4)}\n\n",
        PLAN.replace('"tasks": [', '"version": 1, "mode": "swarm", "tasks"  :\n\n  ['),
        f'{{"reasoning": "the \\"tasks\\": [ are two", "plan": {PLAN}}}',
    ],
    ids=["bare", "prose and fence", "prose names tasks", "the form first", "indented", "keys before", "wrapped"],
)  # fmt: skip
def test_prose_fences_and_spacing_around_a_plan_do_not_matter(text, size):
    """Models say something before and after; the plan is read all the same, whole and in pieces."""
    assert DRAFTS == parse_plan(text).drafts
    assert DRAFTS == streamed(text, size)


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


def test_line_breaks_within_a_prompt_are_read_while_it_streams():
    """Weak models do not escape them."""
    text = PLAN.replace("one", "one\n\tand more")

    assert "one\n\tand more" == parse_plan(text).drafts[0].prompt
    assert parse_plan(text).drafts == streamed(text, 3)


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
        ('{"steps": [{"id": "t1", "prompt": "x"}]}', 'holds no "tasks"'),
        ('{"tasks": {"id": "t1"}}', 'holds no "tasks"'),
        (PLAN[:-1], "truncated"),
        (PLAN[:-40], "truncated"),
        ('{"tas', "truncated"),
        ('{"meta": {"n": 2}, "tasks": [{"id": "t1", "prompt": "one"}', "truncated"),
        ('{"tasks": [{"id": "t1"}]}', "task 't1' has no \"prompt\""),
        ('{"tasks": [{"prompt": "x"}]}', 'a task has no "id": {"prompt": "x"}'),
        ('{"tasks": ["one", "two"]}', 'a task is an object, not "one"'),
        ('{"tasks": [{"id": "a", "prompt": "x", "depends_on": "b"}]}', "is not a list"),
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
    assert "malformed" in fault_without_repair(text)


def test_dots_and_slashes_within_a_prompt_leave_nothing_out():
    """Only what stands between the values says that tasks are missing."""
    text = "{'tasks': [{'id': 't1', 'prompt': 'read http://x/#y ... all',}, {\"id\": 't2', \"prompt\": \"so // on\"}]}"

    drafts = parse_plan(text, repair=json_repair.loads).drafts
    assert ["read http://x/#y ... all", "so // on"] == [d.prompt for d in drafts]


def fault_without_repair(text):
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    return caught.value.message


json_text = st.text(max_size=12) | st.sampled_from(
    ['{"tasks": [', "}]}", "```", '"', "\\", "[{", '{"id": "x", "prompt": "y"}', "\U0001f600", "\ud83d"]
)  # fmt: skip
documents = st.builds(
    lambda tasks, head: {**head, "tasks": tasks},
    st.lists(
        st.builds(
            lambda n, prompt, needs, more: {"id": f"t{n}", "prompt": prompt, "depends_on": needs} | more,
            st.integers(0, 99),
            json_text,
            st.lists(st.sampled_from(["t1", "t2"]), max_size=2),
            st.dictionaries(
                st.sampled_from(["notes", "sub"]),
                json_text | st.lists(st.builds(lambda p: {"id": "in", "prompt": p}, json_text), max_size=2),
                max_size=2,
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["version"]), st.just(1))
    | st.builds(lambda text: {"reasoning": text}, json_text),
)  # fmt: skip
spacing = st.sampled_from([None, 0, 2])
prose = st.sampled_from(["", "Plan:\n", "```json\n", "I see {this} and [that]. ", 'Say "tasks". '])


@settings(max_examples=200, deadline=None)
@given(documents, spacing, prose, prose, st.integers(1, 40), st.booleans())
def test_pieces_of_every_size_give_the_drafts_of_the_whole(
    document, indent, head, tail, size, ascii_
):
    """How the network cuts the stream never changes the plan, whatever stands in prompts and around them."""
    text = head + json.dumps(document, indent=indent, ensure_ascii=ascii_) + tail
    whole = parse_plan(text).drafts

    assert tuple(map(draft_of, document["tasks"])) == whole
    assert whole == streamed(text, size)


@settings(max_examples=60, deadline=None)
@given(documents, spacing, prose, st.booleans())
def test_a_truncated_plan_is_never_whole(document, indent, head, as_list):
    """Cut at any character, also with the lenient reader: half a plan is never run as if it were whole."""
    body = json.dumps(document["tasks"] if as_list else document, indent=indent)
    for cut in range(len(body)):
        with pytest.raises(PlanError):
            parse_plan(head + body[:cut], repair=json_repair.loads)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('{}[]":,\\ tasksidprompt1\n'), max_size=80) | st.text(max_size=40))
def test_no_text_breaks_the_reader(text):
    """Garbage is a plan or a `PlanError`, in pieces too, and never anything else."""
    streamed(text, 3)
    document = None
    with contextlib.suppress(PlanError):
        document = parse_plan(text, repair=json_repair.loads)

    drafts = document.drafts if document is not None else ()
    assert all(isinstance(d.id, str) and isinstance(d.prompt, str) for d in drafts)


HALF = MAX_PLAN_CHARS // 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * HALF,
        "{" * HALF,
        '{"a":' * (HALF // 5),
        '"tasks": [' * (HALF // 10),
        '"tasks"' + " " * HALF,
        "{x} " * (HALF // 4),
        '{"a": 1} ' * (HALF // 9),
        '{"a\\"' * (HALF // 5),
        '{"tasks": [{"id": "t1", "prompt": "' + "x" * HALF,
        '{"tasks": [{"id": "t1", "prompt": "' + "\\" * HALF,
        '{"tasks": [{"id": "t1", "n": ' + "[" * HALF,
        '{"tasks": [{"id": "t1", "n": ' + "[" * 100_000 + "]" * 100_000 + "}]}",
        "[" * 900 + "1," * (HALF // 2),
        '{"tasks": [' + "1" * 5000 + "]}",
    ],
    ids=["brackets", "braces", "nested objects", "heads", "a gap", "prose braces", "small objects", "quotes",
         "an endless prompt", "backslashes", "an endless nest", "a closed nest", "nested starts", "a long number"],
)  # fmt: skip
def test_hostile_text_is_refused_in_linear_time(text):
    """A megabyte of anything, streamed in tiny pieces; a reader that looks at it again and again would not end."""
    stream = PlanStream()
    for i in range(0, len(text), 4):
        assert [] == stream.feed(text[i : i + 4])
    assert fault_without_repair(text)


def test_a_plan_longer_than_any_plan_is_refused_while_it_streams():
    """A model that never stops is stopped."""
    stream = PlanStream()
    stream.feed("x" * MAX_PLAN_CHARS)

    with pytest.raises(PlanError, match="longer than 2,000,000 characters"):
        stream.feed("x")
    assert "longer than" in fault("x" * (MAX_PLAN_CHARS + 1))


def test_a_plan_that_streams_as_one_huge_prompt_is_read_once():
    """The open object is not scanned again for every piece: half a million characters would take hours."""
    text = json.dumps({"tasks": [{"id": "t1", "prompt": "x" * HALF}]})

    assert 1 == len(streamed(text, 4))


def test_a_plan_file_is_read_strictly():
    """A typo in a file that a person wrote is an error that names the key."""
    good = {"version": 1, "mode": "swarm", "tasks": [{"id": "a", "prompt": "x", "agent": None}]}
    assert "a" == document_of(good, strict=True).drafts[0].id

    with pytest.raises(PlanError, match="the plan has the unknown key 'taks'"):
        document_of({**good, "taks": []}, strict=True)
    with pytest.raises(PlanError, match="task 'a' has the unknown key 'dependson'"):
        document_of({"tasks": [{"id": "a", "prompt": "x", "dependson": []}]}, strict=True)
    with pytest.raises(PlanError, match='has no "id"'):
        document_of({"tasks": [{"id": 1, "prompt": "x"}]}, strict=True)
    with pytest.raises(PlanError, match='"tasks" is not a list'):
        document_of({"tasks": {}}, strict=True)
    with pytest.raises(PlanError, match="a plan is a JSON object"):
        document_of("tasks", strict=True)


def test_the_schema_for_constrained_planners_admits_plans_and_bounds_them():
    """The grammar of the embedded model can only write what the reader accepts."""
    import jsonschema

    schema = tiny_plan_schema(4)
    questions = [f"What is the part {number} of it?" for number in range(5)]
    tasks = [{"id": f"t{n}", "prompt": q} for n, q in enumerate(questions, 1)]

    jsonschema.validate({"tasks": tasks[:3]}, schema)
    assert 4 == len(document_of({"tasks": tasks[:4]}).drafts)
    for bad in ([], tasks[:2], tasks, [{"id": "t1", "prompt": "Go " * 90}] * 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"tasks": bad}, schema)
