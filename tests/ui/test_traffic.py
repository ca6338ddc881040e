"""What holds calls back, in the words of a display."""

from swarmcli.adapters.queue_report import LimitReport
from swarmcli.core.events import CallFailed, CallRetry, Event, LimitChanged, LimitWaiting
from swarmcli.ui.traffic import Traffic
from tests.ui.runs import BUCKET, MODEL


def folded(*events: tuple[float, Event]) -> Traffic:
    """What a display knows after these events."""
    traffic = Traffic()
    for t, event in events:
        assert isinstance(event, LimitWaiting | LimitChanged | CallRetry | CallFailed)
        traffic.feed(event, t)
    return traffic


def lines(traffic: Traffic, now_t: float, width: int = 200) -> list[str]:
    """The limits that are shown."""
    return [traffic.line(limit, now_t, width) for limit in traffic.shown(now_t)]


def test_a_refusal_is_recognised_as_it_is_reported() -> None:
    """The limiter's own report, unchanged: a 429 makes the line say so, growth does not."""
    told: list[Event] = []
    report = LimitReport(BUCKET, 64, told.append)
    report.changed(48, 8.0, 1.0, refused=True)
    refused = folded((1.0, told[0]))
    report.changed(50, 0.0, 20.0)
    grown = folded((20.0, told[1]))

    assert lines(refused, 1.0) == [f"{MODEL}: 48 at once, 429: paused 8s"]
    assert refused.limits[BUCKET].has_refused
    assert lines(grown, 20.0) == []
    assert not grown.limits[BUCKET].has_refused


def test_a_pause_without_a_refusal_is_not_called_one() -> None:
    """A provider may say in an answer that its limit is used up."""
    event = LimitChanged(bucket="m", parallel=16, reason="answers come", pause_s=5.0)

    assert lines(folded((0.0, event)), 0.0) == ["m: 16 at once, paused 5s"]


def test_the_growing_limit_is_said_once() -> None:
    """The queue names the limit it waits for, the limiter what it has learnt: the newer number counts."""
    waits = LimitWaiting(bucket="m", waiting=284, reason="16 at once")
    grown = LimitChanged(bucket="m", parallel=32, reason="answers come")

    assert lines(folded((0.0, waits)), 0.0) == ["m: 16 at once, 284 wait"]
    assert lines(folded((0.0, waits), (1.0, grown)), 1.0) == ["m: 32 at once, 284 wait"]


def test_a_limit_that_never_held_anybody_back_is_not_shown() -> None:
    """Also when its queue says that nobody waits."""
    event = LimitWaiting(bucket="m", waiting=0, reason="")

    assert lines(folded((0.0, event)), 0.0) == []


def test_the_name_gives_way_to_the_facts() -> None:
    """Without its provider it may fit."""
    waits = LimitWaiting(bucket=BUCKET, waiting=212, reason="40 at once")

    assert lines(folded((0.0, waits)), 0.0, 36) == ["gpt-5-mini: 40 at once, 212 wait"]


def test_each_refusal_counts_once() -> None:
    """A 429 is a failed call and mostly a retry as well; an older log has the retries only."""
    failed = CallFailed(model=MODEL, purpose="agent", kind="rate_limit")
    retry = CallRetry(
        model=MODEL, purpose="agent", attempt=1, max=5, delay_s=1.0, kind="rate_limit"
    )
    broken = CallRetry(model=MODEL, purpose="agent", attempt=1, max=5, delay_s=1.0, kind="server")

    assert folded((0.0, failed), (0.0, retry), (1.0, failed)).summary() == "429s: 2"
    assert folded((0.0, retry), (0.0, broken)).summary() == "429s: 1; 1 other retry"
    assert folded((0.0, broken), (0.0, broken)).summary() == "2 retries"
    assert folded().summary() == ""
