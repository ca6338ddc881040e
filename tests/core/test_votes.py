"""When two answers say the same thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.votes import canonical_text, majority


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris. "),
        ("Paris", '"Paris".'),
        ("Paris", "**Paris**!"),
        ("Paris", "'Paris.'"),
        ("New  York", "new\nyork"),
        ("STRASSE", "straße"),
    ],
)
def test_spelling_is_no_disagreement(one, other):
    """Case, spacing, quotes, emphasis and a final stop do not count."""
    assert canonical_text(one) == canonical_text(other)


@pytest.mark.parametrize(
    ("one", "other"), [(".5", "5"), ("1.0", "10"), ("A", "B"), ("-1", "1"), ("C", "C++")]
)
def test_different_answers_stay_different(one, other):
    """Nothing that carries meaning is folded away."""
    assert canonical_text(one) != canonical_text(other)


@given(st.lists(st.sampled_from(["a", "A.", "b", "c"]), max_size=9))
def test_the_winner_has_most_votes_and_came_first_among_equals(answers):
    """Counted by hand for any votes."""
    counts = {key: [canonical_text(a) for a in answers].count(key) for key in ("a", "b", "c")}
    won = majority(answers)
    if not answers:
        assert won is None
        return
    best = max(counts.values())
    first = next(a for a in answers if counts[canonical_text(a)] == best)
    assert (first, best) == won
