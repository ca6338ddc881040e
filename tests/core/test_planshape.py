"""Warnings about the shape of a plan: chains, and agents that are told to do the same."""

import pytest

from swarmcli.core.planshape import longest_chain, shape_warnings
from tests.core.tasks import task


def chain(length):
    return [task(f"t{i}", *([f"t{i - 1}"] if i else [])) for i in range(length)]


@pytest.mark.parametrize(
    ("tasks", "warned"),
    [
        (chain(3), False),
        (chain(4), True),
        (chain(300), True),
        ([*chain(8), task("side")], True),
        ([*chain(4), task("x"), task("y")], False),
        ([task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")], False),
        ([task(f"t{i}") for i in range(60)], False),
        ([], False),
    ],
    ids=["three", "four", "300", "a side branch", "half a chain", "a diamond", "side by side", "none"],
)  # fmt: skip
def test_a_plan_that_is_a_chain_is_told(tasks, warned):
    """From four tasks on; a diamond and a list are no chains."""
    warnings = shape_warnings(tasks)

    assert warned == any("is a chain" in warning for warning in warnings)
    if warned:
        assert f"{longest_chain(tasks)} of its {len(tasks)} tasks" in warnings[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("List the advantages of SQLite.", "Please list advantages of sqlite"),
        ("What is the price of apples?", "the apples: what is their price"),
    ],
)
def test_the_same_question_in_other_words_is_told(first, second):
    """Spurious parallelism: two agents, one piece of work."""
    warnings = shape_warnings([task("a", prompt=first), task("b", prompt=second)])

    assert ["tasks of the plan ask for the same: a and b"] == warnings


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Describe France: capital, population and area.", "Describe Spain: capital, population and area."),
        ("Summarise chapter 1 of the book.", "Summarise chapter 11 of the book."),
        ("Is it safe?", "Is it not safe?"),
        ("Rate offer A.", "Rate offer B."),
        ("?", "!"),
    ],
)  # fmt: skip
def test_one_item_each_is_no_duplicate(first, second):
    """However long the rest of the prompt is: one word that differs is another task."""
    assert [] == shape_warnings([task("a", prompt=first), task("b", prompt=second)])


def test_the_same_question_about_other_inputs_is_no_duplicate():
    """Two reviews of two drafts."""
    tasks = [
        task("a"),
        task("b"),
        task("x", "a", prompt="Review it"),
        task("y", "b", prompt="Review it."),
    ]

    assert [] == shape_warnings(tasks)
