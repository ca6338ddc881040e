"""The numbers of `--json`: an unknown price is unknown, and nothing is counted twice."""

import pytest

from swarmcli.core.accounts import Accounts
from swarmcli.core.events import Usage
from swarmcli.core.receipt import Receipt
from swarmcli.core.spend import TURNED_AWAY, Amount, Spent, one_call
from swarmcli.core.totals import totals
from tests.core.tasks import done, failed, skipped

RECEIPT = Receipt(speedup=2.5, critical_path_s=3.0, critical_path=("a", "writer"))


def added_up(*outcomes, spent=Spent(), **more):  # noqa: B008 - a frozen value
    return totals(outcomes, receipt=RECEIPT, spent=spent, duration_s=4.56789, **more)


def test_agents_are_counted_by_how_they_ended():
    """`done + failed + skipped + cancelled = total`."""
    agents = added_up(done("a"), done("b", cached=True), failed("c"), skipped("d"))["agents"]

    assert {
        "total": 4, "done": 2, "failed": 1, "skipped": 1, "cancelled": 0, "cached": 1, "hedged": 0
    } == agents  # fmt: skip


def test_usage_is_what_providers_counted_and_nothing_of_ours():
    """A call that was cut off counts under the caps with its estimate, but nobody has counted its tokens."""
    counted = Usage(input_tokens=20, output_tokens=10, cached_tokens=8)
    ten = Amount(tokens=10, cost_usd=0.5)
    answered = one_call(Amount(tokens=30, cost_usd=0.25), estimate=ten, usage=counted, certain=True)
    cut_off = one_call(ten, estimate=ten, usage=None, certain=False)

    found = added_up(spent=answered + cut_off)

    assert {"input_tokens": 20, "output_tokens": 10, "cached_tokens": 8, "calls": 2} == found[
        "usage"
    ]
    assert (found["cost_usd"], found["booked"]) == (None, {"cost_usd": 0.75, "tokens": 40})
    assert found["estimate"] == {"cost_usd": 1.0, "tokens": 20}


@pytest.mark.parametrize(
    ("spent", "cost_usd", "booked_usd"),
    [
        (Spent(), 0.0, 0.0),
        (Spent(calls=1, cost_usd=0.75), 0.75, 0.75),
        (Spent(calls=1, cost_usd=0.75, cost_known=False), None, 0.75),
        (Spent(calls=2, cost_known=False, estimate=Amount(cost_usd=None)), None, None),
        (TURNED_AWAY + TURNED_AWAY, 0.0, 0.0),
    ],
)
def test_one_unknown_price_makes_the_sum_unknown(spent, cost_usd, booked_usd):
    """`cost_usd` is null rather than too small, and so is what is booked where a price is missing."""
    found = added_up(spent=spent)

    assert (cost_usd, booked_usd) == (found["cost_usd"], found["booked"]["cost_usd"])
    assert found["usage"]["calls"] == spent.calls


def test_failures_name_agent_kind_and_message():
    """What was skipped because of them is not listed again."""
    found = added_up(done("a"), failed("b", "timeout", "no answer"), skipped("c"))

    assert [{"agent": "b", "kind": "timeout", "message": "no answer"}] == found["failures"]


def test_times_are_those_of_the_receipt():
    """`critical_path`, `speedup` and the wall time."""
    found = added_up()

    assert {"seconds": 3.0, "agents": ["a", "writer"]} == found["critical_path"]
    assert (2.5, 4.568) == (found["speedup"], found["duration_s"])


def test_answers_in_doubt_are_named():
    """By those who gave them, and by their critics."""
    found = added_up(
        done("a", status="insufficient"),
        done("b", status="conflict", verdict="reject"),
        done("c"),
        done("d", status="conflict", verdict="accept"),
    )

    assert {"insufficient": ["a"], "conflicting": ["d"], "rejected": ["b"]} == found["doubts"]


def test_unused_work_is_named_with_what_it_took():
    """Tokens of cached answers were paid by nobody; one unknown price makes the sum unknown."""
    usage = Usage(input_tokens=20, output_tokens=10)
    paid = done("a", usage=usage, cost_usd=0.25)
    unused = added_up(
        paid, done("b", cached=True, usage=usage), done("c"), unused=("a", "b")
    )["receipt"]["unused"]  # fmt: skip
    unknown = added_up(paid, done("b", cost_usd=None), unused=("a", "b"))["receipt"]["unused"]

    assert {"agents": ["a", "b"], "tokens": 30, "cost_usd": 0.25} == unused
    assert unknown["cost_usd"] is None


def test_a_receipt_without_accounts_has_the_same_shape():
    """A script may read every key of every run."""
    receipt = added_up(done("a"))["receipt"]

    assert ({}, 0, 0, 0) == tuple(receipt[key] for key in ("roles", "hedged", "folded", "cached"))
    assert {"calls": 0, "cost_usd": 0.0, "tokens": 0} == receipt["lost"]


def test_what_a_revised_plan_took_out_is_unused_work():
    """Its outcome is gone from the plan, its price is not."""
    accounts = Accounts()
    accounts.discarded.append(("gone", Amount(tokens=7, cost_usd=0.5)))
    found = added_up(done("a", cost_usd=0.25), accounts=accounts, unused=("a",))

    assert {"agents": ["gone", "a"], "tokens": 7, "cost_usd": 0.75} == found["receipt"]["unused"]
