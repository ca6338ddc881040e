"""Finding what has the same canonical value, without comparing everything with everything."""

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.alike import Alike
from swarmcli.core.canonical import same

# Steps around both tolerances, so that values stand in chains in which neighbours are the same and ends are not.
near = st.builds(
    lambda base, step: base + step * max(1e-6, abs(base) * 1e-9) / 3,
    st.sampled_from([0.0, -0.0, 1.0, -5.0, 999.999999, 1000.0, 1000.000001, 1e6, -1e15, 1e300]),
    st.integers(-12, 12),
)
values_ = (
    near | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["", "1.0", "x"])
)


@given(st.lists(values_, max_size=60))
def test_it_finds_what_a_search_from_the_first_on_finds(values):
    """Also where a value is the same as two that are not the same as each other: the first one of them counts."""
    alike, known, wanted, found = Alike(), [], [], []
    for place, value in enumerate(values):
        first = next((at for at, other in known if same(other, value)), place)
        if first == place:
            known.append((place, value))
        wanted.append(first)
        found.append(alike.put(value, place))

    assert wanted == found


class Counted:
    """A number that counts how often it is compared."""

    compared = 0

    def __init__(self, number):
        self.number = number

    def __float__(self):
        Counted.compared += 1
        return self.number

    def __mul__(self, other):
        return self.number * other


def test_the_work_for_one_value_does_not_grow_with_their_number():
    """A hundred thousand agents' values for one key, also where each is the same as its neighbours."""
    alike = Alike()
    Counted.compared = 0
    for place in range(3000):
        alike.put(Counted(place * 0.9e-6), place)

    assert Counted.compared <= 3000 * 2 * 9
