"""The reduce tree: nothing is dropped, nothing is too large, and it ends."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.blocks import DataBlocks
from swarmcli.core.mergetree import (
    LEAST_BUDGET,
    Piece,
    groups,
    input_budget,
    piece_budget,
    split_large,
)
from swarmcli.core.tokens import bytes_in, estimate_tokens

words = st.text(st.characters(codec=None), max_size=20)
texts = st.lists(
    words | st.sampled_from([" ", "\n", "\n\n", "漢字" * 20, "x" * 200]), max_size=40
).map("".join)
budgets = st.integers(LEAST_BUDGET, 2000)


def pieces_of(made):
    return [Piece(name=f"t{i}", agents=(f"t{i}",), text=text) for i, text in enumerate(made)]


def letters(text):
    return "".join(text.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=8), st.integers(64, 500))
def test_splitting_drops_nothing_and_leaves_nothing_too_large(made, budget):
    """Every letter of every result stands in some part, in order, and each part names its agent."""
    pieces = pieces_of(made)
    parts = split_large(pieces, budget)

    assert all(estimate_tokens(part.text) <= budget for part in parts)
    for piece in pieces:
        own = [part for part in parts if part.agents == piece.agents]
        assert letters(piece.text) == "".join(letters(part.text) for part in own)


def test_a_text_is_cut_between_paragraphs_before_lines_before_words():
    """A cut never stands inside a word where there is a better place."""
    paragraphs = "\n\n".join("word " * 9 + f"end{i}" for i in range(40))
    parts = split_large(pieces_of([paragraphs]), 100)

    assert all(part.text.rsplit(maxsplit=1)[-1].startswith("end") for part in parts)
    parts = split_large(pieces_of(["word " * 500]), 64)
    assert {"word"} == {word for part in parts for word in part.text.split()}


def test_parts_say_which_part_of_whom_they_are():
    """The writer can put them together again."""
    parts = split_large(pieces_of(["x" * 600]), 64)

    assert [f"t0 part {i + 1}/{len(parts)}" for i in range(len(parts))] == [p.name for p in parts]
    assert {("t0",)} == {p.agents for p in parts}


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=12), budgets)
def test_groups_hold_every_piece_in_order_and_never_more_than_one_call_takes(made, budget):
    """Measured with the data blocks around them, as they are sent."""
    parts = split_large(pieces_of(made), piece_budget(budget))
    packed = groups(parts, budget)
    blocks = DataBlocks(b"0123456789abcdef")

    assert parts == [piece for group in packed for piece in group]
    for group in packed:
        sent = "\n\n".join(blocks.wrap("n" * 200, piece.text) for piece in group)
        assert estimate_tokens(sent) <= budget


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 300), budgets, st.data())
def test_the_tree_ends_when_each_group_becomes_one_piece_of_any_allowed_size(count, budget, data):
    """With reducers that only just keep within their piece, each level has at most half the groups and one more."""
    pieces = pieces_of(["x" * 100] * count)
    levels = 0
    while len(packed := groups(split_large(pieces, piece_budget(budget)), budget)) > 1:
        size = bytes_in(piece_budget(budget)) - data.draw(st.integers(0, 3))
        pieces = pieces_of(["x" * size] * len(packed))
        levels += 1
        assert len(groups(pieces, budget)) <= (len(packed) + 1) // 2
    assert levels <= 10


@pytest.mark.parametrize(
    ("window", "output"), [(None, None), (2048, None), (8192, 4096), (128_000, 16_000)]
)
def test_the_material_takes_at_most_half_the_window_and_leaves_room_for_the_answer(window, output):
    """Instructions and answer always fit beside it."""
    budget = input_budget(window, output)

    assert budget <= (window or 16_384) // 2
    assert budget + (output or 0) + 512 <= (window or 16_384)


def test_a_tiny_window_still_takes_two_pieces_in_a_call():
    """With less the tree would have no end."""
    budget = input_budget(300, 10_000)

    assert 1 == len(groups(pieces_of(["x" * 200] * 2), budget))
    assert estimate_tokens("x" * 200) <= piece_budget(budget)


@pytest.mark.parametrize("letter", ["x", " ", "漢", "\ud800", "\n"])
def test_a_megabyte_without_a_place_to_cut_is_split_quickly(letter):
    """Also text that is no valid Unicode comes to an end."""
    started = time.perf_counter()

    split_large(pieces_of([letter * 1_000_000]), 64)
    assert time.perf_counter() - started < 3
