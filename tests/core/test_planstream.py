"""Reading plans while they stream: in pieces of every size, broken and hostile."""

import contextlib
import json

import json_repair
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.planform import draft_of
from swarmcli.core.planstream import MAX_PLAN_CHARS, PlanStream
from swarmcli.core.plantext import parse_plan
from swarmcli.errors import PlanError
from tests.core.plans import DRAFTS, PLAN, fault, streamed


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


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_a_planner_thinks_starts_nobody(size):
    """Reasoning models sketch plans between tags that some servers leave in the answer."""
    sketch = '{"tasks": [{"id": "t1", "prompt": "a sketch"}]}'
    text = f"<think>\nFirst {sketch}, but two are better: {sketch[:30]}\n</think>\n\n{PLAN}"

    assert DRAFTS == streamed(text, size) == parse_plan(text).drafts
    assert "instant" == parse_plan(f'<thinking>{sketch}</thinking>{{"mode": "instant"}}').mode


def test_tags_that_are_no_thoughts_hide_no_plan():
    """A thought that nobody ends, and a task about thoughts."""
    about = PLAN.replace("one", "Explain <think> and </think>.")

    assert DRAFTS == parse_plan(f"<think> {PLAN}").drafts
    assert "Explain <think> and </think>." == parse_plan(about).drafts[0].prompt
    assert parse_plan(about).drafts == streamed(about, 3)


def test_line_breaks_within_a_prompt_are_read_while_it_streams():
    """Weak models do not escape them."""
    text = PLAN.replace("one", "one\n\tand more")

    assert "one\n\tand more" == parse_plan(text).drafts[0].prompt
    assert parse_plan(text).drafts == streamed(text, 3)


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
        "<think></think>" * (HALF // 15),
        "<think>" * (HALF // 7),
        '{"tasks": [' + "1" * 5000 + "]}",
    ],
    ids=["brackets", "braces", "nested objects", "heads", "a gap", "prose braces", "small objects", "quotes",
         "an endless prompt", "backslashes", "an endless nest", "a closed nest", "nested starts", "thoughts",
         "open thoughts", "a long number"],
)  # fmt: skip
def test_hostile_text_is_refused_in_linear_time(text):
    """A megabyte of anything, streamed in tiny pieces; a reader that looks at it again and again would not end."""
    stream = PlanStream()
    for i in range(0, len(text), 4):
        assert [] == stream.feed(text[i : i + 4])
    assert fault(text, repair=None)


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
