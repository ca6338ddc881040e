"""The numbers of `--json`: an unknown price is unknown, and nothing is counted twice."""

import pytest

from swarmcli.core.events import Usage
from swarmcli.core.receipt import Receipt
from swarmcli.core.totals import totals
from tests.core.tasks import done, failed, skipped

RECEIPT = Receipt(speedup=2.5, critical_path_s=3.0, critical_path=("a", "writer"))


def added_up(*outcomes, usage=(), costs=(), calls=0):
    return totals(
        outcomes, receipt=RECEIPT, other_usage=usage, other_costs=costs, calls=calls, duration_s=4.56789
    )  # fmt: skip


def test_agents_are_counted_by_how_they_ended():
    """`done + failed + skipped + cancelled = total`."""
    agents = added_up(done("a"), done("b", cached=True), failed("c"), skipped("d"))["agents"]

    assert {
        "total": 4, "done": 2, "failed": 1, "skipped": 1, "cancelled": 0, "cached": 1, "hedged": 0
    } == agents  # fmt: skip


def test_tokens_of_agents_planner_and_writer_are_added():
    """Cached answers were paid by somebody else, unknown usage adds nothing."""
    own = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
    found = added_up(
        done("a", usage=own), done("b", usage=own, cached=True), done("c"), usage=[own, None], calls=7
    )  # fmt: skip

    assert {"input_tokens": 20, "output_tokens": 10, "cached_tokens": 8, "calls": 7} == found[
        "usage"
    ]


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [(0.25, [0.5, 0.0], 0.75), (None, [0.5], None), (0.25, [None], None), (0.0, [], 0.0)],
)
def test_one_unknown_price_makes_the_sum_unknown(own, others, expected):
    """`cost_usd` is null rather than too small."""
    assert expected == added_up(done("a", cost_usd=own), costs=others)["cost_usd"]


def test_failures_name_agent_kind_and_message():
    """What was skipped because of them is not listed again."""
    found = added_up(done("a"), failed("b", "timeout", "no answer"), skipped("c"))

    assert [{"agent": "b", "kind": "timeout", "message": "no answer"}] == found["failures"]


def test_times_are_those_of_the_receipt():
    """`critical_path`, `speedup` and the wall time."""
    found = added_up()

    assert {"seconds": 3.0, "agents": ["a", "writer"]} == found["critical_path"]
    assert (2.5, 4.568) == (found["speedup"], found["duration_s"])
