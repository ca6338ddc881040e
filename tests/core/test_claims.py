"""Conflicts between agents' claims."""

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.claims import find_conflicts
from swarmcli.core.replies import Claim


def claim(key: str, value: object, unit: str = "", source: str = "") -> Claim:
    return Claim(key=key, value=value, unit=unit, source=source)  # pyright: ignore[reportArgumentType]


def test_the_same_key_with_two_values_is_a_conflict():
    """With everybody who said what, and where they had it from."""
    found = find_conflicts(
        [
            ("a", claim("Revenue 2023", "$1,000", source="p. 3")),
            ("b", claim(" revenue  2023 ", 1000)),
            ("c", claim("Revenue 2023", 1200, source="p. 9")),
        ]
    )

    assert [("Revenue 2023", ("a", "b", "c"))] == [(c.key, c.agents) for c in found]
    assert [("$1,000", ("a", "b"), ("p. 3",)), (1200, ("c",), ("p. 9",))] == [
        (p.value, p.agents, p.sources) for p in found[0].positions
    ]


def test_equal_values_and_different_units_are_none():
    """5 km and 5000 m may both be right; a unit that is left out is the only one that was named."""
    assert not find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 5000, "m"))])
    assert not find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", "5"))])
    assert find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 6))])
    assert find_conflicts([("a", claim("d", 5, "km")), ("b", claim("d", 6, "KM"))])


def test_claims_without_key_or_value_say_nothing():
    """A model that leaves them empty contradicts nobody."""
    assert not find_conflicts([("a", claim(" ", 1)), ("b", claim(" ", 2))])
    assert not find_conflicts([("a", claim("k", None)), ("b", claim("k", 2))])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.sets(st.integers(0, 59), max_size=8),
    st.randoms(use_true_random=False),
)
def test_planted_contradictions_are_all_found_and_none_is_invented(values, planted, rng):
    """Whatever the order in which agents speak."""
    said = [(f"t{i}", claim(f"fact {i}", value)) for i, value in enumerate(values)]
    said += [(f"u{i}", claim(f"Fact  {i}", f"{value}.00")) for i, value in enumerate(values)]
    wrong = {i for i in planted if i < len(values)}
    said += [(f"x{i}", claim(f"FACT {i}", values[i] + 1)) for i in wrong]
    rng.shuffle(said)

    found = find_conflicts(said)

    assert {f"fact {i}" for i in wrong} == {c.key.casefold() for c in found}
    assert all(len(c.positions) == 2 for c in found)
