"""Token estimates and cuts: bounds that hold without a tokenizer."""

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.tokens import bytes_in, cut_to_tokens, estimate_tokens, fair_shares

any_text = st.text(st.characters(codec=None), max_size=60).flatmap(
    lambda text: st.integers(1, 30).map(lambda times: text * times)
)


@given(any_text, st.integers(16, 400))
def test_a_cut_text_fits(text, tokens):
    """Whatever the script: letters that take four bytes, lone surrogates, anything."""
    cut = cut_to_tokens(text, tokens)

    assert estimate_tokens(cut) <= tokens
    assert cut == text or "characters left out" in cut


def test_a_cut_keeps_both_ends_and_says_how_much_is_missing():
    """The question at the start and the conclusion at the end survive."""
    cut = cut_to_tokens("start " + "x" * 10_000 + " end", 100)

    assert cut.startswith("start xxx")
    assert cut.endswith("xxx end")
    left_out = int(cut.partition("[... ")[2].partition(" ")[0].replace(",", ""))
    kept = len(cut) - len(f"\n[... {left_out:,} characters left out ...]\n")
    assert 10_010 == kept + left_out


def test_a_cut_fits_also_where_only_one_end_is_heavy():
    """Half English, half Chinese: the heavy half counts too."""
    for text in ("a" * 2000 + "漢" * 2000, "漢" * 2000 + "a" * 2000):
        assert estimate_tokens(cut_to_tokens(text, 300)) <= 300


@given(st.integers(0, 10**6))
def test_the_longest_text_of_so_many_tokens_is_exact(tokens):
    """One byte more is one token too many, at any size."""
    assert (
        estimate_tokens("x" * bytes_in(tokens))
        <= tokens
        < estimate_tokens("x" * (bytes_in(tokens) + 1))
    )


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(0, 5000))
def test_shares_are_fair(sizes, budget):
    """Nobody gets more than it needs, nothing is wasted, and only those are cut who want more than the others get."""
    shares = fair_shares(sizes, budget)

    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) <= budget
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    if cut:
        assert max(shares) - min(cut) <= 1
        assert budget - sum(shares) < len(sizes)
    else:
        assert sum(shares) == sum(sizes)


def test_small_inputs_stay_whole_beside_a_huge_one():
    """A log of 100,000 tokens does not take the room of three short notes."""
    assert [10, 20, 30, 40] == fair_shares([10, 20, 30, 100_000], 100)
