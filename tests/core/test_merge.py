"""Merging in code: every leaf has its place, also the failed one."""

import json

import pytest
from markdown_it import MarkdownIt

from swarmcli.core.merge import lines, merge_in_code, record_of
from tests.core.tasks import done, failed, skipped, task


def item(name, index, value):
    return task(f"{name}[{index}]", index=index, item=value, item_name="item")


LEAVES = [
    done("m[0]", "A", task=item("m", 0, "a"), model="x/y", cost_usd=0.5, busy_s=1.23456),
    failed("m[1]", "timeout", "no answer", task=item("m", 1, {"k": 1}), model="x/y", cost_usd=None),
    skipped("m[2]", "interrupted", task=item("m", 2, "a")),
]


def test_a_record_says_what_went_in_and_what_came_out():
    """One record per input of `map --jsonl`, the failed ones with `output: null` and the error."""
    ok, bad, never = (record_of(leaf, i) for i, leaf in enumerate(LEAVES))

    assert {
        "index": 0, "agent": "m[0]", "input": "a", "output": "A", "status": "ok", "model": "x/y",
        "cached": False, "cost_usd": 0.5, "seconds": 1.235,
    } == ok  # fmt: skip
    assert {
        "index": 1, "agent": "m[1]", "input": {"k": 1}, "output": None, "status": "failed", "model": "x/y",
        "cached": False, "cost_usd": None, "seconds": 0.0, "error": {"kind": "timeout", "message": "no answer"},
    } == bad  # fmt: skip
    assert ("skipped", {"kind": "uncalled", "message": "interrupted"}) == (
        never["status"],
        never["error"],
    )


def test_the_input_of_a_single_task_is_its_prompt():
    """A leaf that is no item was asked its prompt."""
    assert "do t1" == record_of(done("t1"), 0)["input"]


@pytest.mark.parametrize("strategy", ["json", "jsonl"])
def test_json_and_jsonl_hold_one_record_per_leaf_in_order(strategy):
    """A script finds record i for input i, whatever happened to the others."""
    merged = merge_in_code(strategy, LEAVES)
    records = [record_of(leaf, i) for i, leaf in enumerate(LEAVES)]

    read = (
        json.loads(merged.text)
        if strategy == "json"
        else list(map(json.loads, merged.text.split("\n")))
    )
    assert records == read == merged.structured


def test_jsonl_keeps_line_breaks_inside_their_line():
    """An answer of three lines is one line of JSON, and its letters stay readable."""
    text = merge_in_code("jsonl", [done("t1", "eins\nzwei\u2028drei größer")]).text

    assert 1 == len(text.split("\n"))
    assert "größer" in text


def test_concat_heads_each_answer_and_states_each_failure():
    """A reader sees whose text is whose, and that something is missing."""
    text = merge_in_code("concat", [done("a", " one "), failed("b", "timeout", "no answer")]).text

    assert "## a: do a\n\none\n\n## b: do b\n\n(timeout: no answer)" == text


def test_a_heading_says_what_an_agent_worked_on_where_one_line_says_it():
    """The item, or a planner's short prompt; a recipe's template, a record or a long text is left out."""
    by = {"index": 0, "item_name": "item", "template": True}
    own = [
        task("s[0]", item="src/a.py", **by),
        task("s[1]", item={"path": "x"}, **by),
        task("s[2]", item="two\n# lines", **by),
        task("s[3]", item="x" * 81, **by),
        task("t1", template=True),
        task("t2", prompt="Compare prices"),
    ]
    text = merge_in_code("concat", [done(t.id, "x", task=t) for t in own]).text

    expected = [
        "## s[0]: src/a.py",
        "## s[1]",
        "## s[2]",
        "## s[3]",
        "## t1",
        "## t2: Compare prices",
    ]
    assert expected == [line for line in text.split("\n") if line.startswith("#")]


def test_concat_of_one_answer_is_the_answer():
    """No heading for a single voice; not even its spaces are touched."""
    assert " just this \n" == merge_in_code("concat", [done("a", " just this \n")]).text
    assert "## a: do a\n\n(server: it broke)" == merge_in_code("concat", [failed("a")]).text


def test_map_prints_one_line_per_input_and_keeps_them_aligned():
    """`paste inputs -` works: a failed item leaves an empty line, an answer's line breaks become spaces."""
    leaves = [done("a", "one\ntwo"), failed("b"), done("c", "three")]

    assert "one two\n\nthree" == lines(leaves).text


def cells(markdown):
    """The table as a CommonMark reader with tables sees it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    rows = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def test_a_table_has_a_row_per_agent_and_a_column_per_key():
    """JSON answers become columns; what is missing is empty, what is nested is JSON."""
    leaves = [done("a", '{"x": 1, "y": "why"}'), done("b", '{"y": [1, 2], "z": null}')]
    merged = merge_in_code("table", leaves)

    assert [["agent", "x", "y", "z"], ["a", "1", "why", ""], ["b", "", "[1, 2]", ""]] == cells(
        merged.text
    )
    assert [
        {"agent": "a", "x": 1, "y": "why"},
        {"agent": "b", "y": [1, 2], "z": None},
    ] == merged.structured


def test_plain_answers_and_failures_stand_in_one_column():
    """A list, a number or prose is an output; a failure says why."""
    leaves = [done("a", "prose"), done("b", "[1]"), failed("c", "timeout", "no answer")]

    assert [
        ["agent", "output"],
        ["a", "prose"],
        ["b", "[1]"],
        ["c", "(timeout: no answer)"],
    ] == cells(merge_in_code("table", leaves).text)


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "a\\|b",
        "a\\\\|b",
        "|",
        "x\\",
        "a\nb | c",
        "| --- |",
        "a\rb",
        pytest.param("\\" * 50_000, id="many backslashes"),
    ],
)
def test_no_answer_breaks_out_of_its_cell(text):
    """Pipes, backslashes and line breaks in an answer never make a new column or row."""
    table = merge_in_code("table", [done("a", text), done("b", "next")]).text

    found = cells(table)
    assert [["agent", "output"], ["b", "next"]] == [found[0], found[-1]]
    assert [2, 2, 2] == [len(row) for row in found]
    unescaped = "".join(found[1][1].split()).replace("\\", "")
    assert "".join(text.split()).replace("\\", "") == unescaped


def test_an_answer_with_a_key_agent_does_not_rename_the_agent():
    """The row still says who answered, and the answer's own word is kept."""
    merged = merge_in_code("table", [done("a", '{"agent": "Smith"}')])

    assert [{"agent": "a", "output.agent": "Smith"}] == merged.structured


def test_the_majority_wins_in_the_words_of_its_first_voice():
    """Case, quotes and a full stop do not split a vote; failures give none but were asked."""
    leaves = [done("a", "Berlin"), done("b", '"Paris".'), done("c", "**paris**"), failed("d")]
    merged = merge_in_code("majority", leaves)

    assert '"Paris".' == merged.text
    assert {"answer": '"Paris".', "votes": 2, "asked": 4} == merged.structured


def test_a_tie_goes_to_the_answer_that_came_first():
    """The order of the plan decides, not the order of finishing."""
    leaves = [done("a", "no"), done("b", "yes"), done("c", "yes"), done("d", "no")]

    assert "no" == merge_in_code("majority", leaves).text


def test_a_majority_of_nobody_is_empty():
    """All failed: there is no answer to make up."""
    assert "" == merge_in_code("majority", [failed("a")]).text


@pytest.mark.parametrize("strategy", ["auto", "write"])
def test_what_needs_a_model_is_not_done_in_code(strategy):
    """The caller decides what `auto` means and asks the writer."""
    with pytest.raises(ValueError, match=strategy):
        merge_in_code(strategy, LEAVES)
