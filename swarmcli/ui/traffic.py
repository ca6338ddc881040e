"""What holds requests back, as a display needs it: limits, pauses, retries and hedges. Pure.

Rule: a limit is one line, and only while it says something: calls wait for it, or the provider made it pause. It
stays a little longer than that, so that a line does not come and go with every answer.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

from swarmcli.core.events import (
    BY_PROVIDER,
    CallFailed,
    CallHedged,
    CallRetry,
    LimitChanged,
    LimitWaiting,
)
from swarmcli.ui.cells import cells, duration
from swarmcli.ui.clean import one_line

HOLD_S = 3.0
"""A limit is shown at least this long after it last held a call back."""
AT_ONCE = " at once"
"""How a reason to wait ends that is a number of requests in flight."""
REFUSED = "rate_limit"
"""The kind of failure that a 429 is."""

_RETRY_WORDS = {REFUSED: "429", "server": "server error"}


def retry_word(kind: str) -> str:
    """What a display calls a failure that will be tried again."""
    return _RETRY_WORDS.get(kind) or one_line(kind)


@dataclass(slots=True, kw_only=True)
class Limit:
    """The limits of one endpoint, model and key: of one bucket."""

    name: str
    waiting: int = 0
    """Calls that stand in its queue."""
    reason: str = ""
    """What the first of them waits for, or waited for last."""
    parallel: int | None = None
    """Requests at once as they were learnt; None while nothing was."""
    slowed_to: int | None = None
    """The lowest that a refusal brought `parallel` down to."""
    paused_until_t: float = -math.inf
    paused_by: str = ""
    """`429: ` where that was the cause; a provider may also say in an answer that nothing is left."""
    held_t: float = -math.inf
    """When it last held a call back."""

    def is_holding(self, now_t: float) -> bool:
        """Calls wait for it, or it is paused."""
        return self.waiting > 0 or self.paused_until_t > now_t

    def is_shown(self, now_t: float) -> bool:
        """It holds calls back, or did a moment ago."""
        last_t = max(self.held_t, self.paused_until_t)
        return self.is_holding(now_t) or now_t < last_t + HOLD_S

    @property
    def has_refused(self) -> bool:
        """The provider has made it pause or slow down."""
        return self.slowed_to is not None

    def facts(self, now_t: float) -> str:
        """`40 at once, 429: paused 8s, 212 wait`."""
        pause_s = self.paused_until_t - now_t
        by_number = self.reason.endswith(AT_ONCE)
        at_once = "" if self.parallel is None else f"{self.parallel}{AT_ONCE}"
        hidden = pause_s > 0 or (at_once and (by_number or self.reason == BY_PROVIDER))
        facts = (
            at_once if by_number or pause_s > 0 or self.slowed_to is not None else "",
            f"{self.paused_by}paused {duration(pause_s + 0.999)}" if pause_s > 0 else "",
            "" if hidden else self.reason,
            f"{self.waiting} wait" if self.waiting else "",
        )
        return ", ".join(fact for fact in facts if fact) or at_once


@dataclass(slots=True)
class Traffic:
    """The fold of everything that happens between a call and its answer."""

    limits: dict[str, Limit] = field(default_factory=dict[str, Limit])
    """By bucket, in the order in which they were heard of: a line keeps its place."""
    retries: Counter[str] = field(default_factory=Counter[str])
    """Calls that were tried again, by the kind of failure."""
    hedges: int = 0
    _refused: int = 0

    def feed(
        self, event: LimitWaiting | LimitChanged | CallRetry | CallFailed | CallHedged, t: float
    ) -> None:
        """Fold one event."""
        match event:
            case LimitWaiting():
                self._on_waiting(event, t)
            case LimitChanged():
                self._on_changed(event, t)
            case CallRetry():
                self.retries[event.kind] += 1
            case CallFailed():
                self._refused += event.kind == REFUSED
            case CallHedged():
                self.hedges += 1

    @property
    def holds(self) -> bool:
        """Some calls wait for a limit."""
        return any(limit.waiting for limit in self.limits.values())

    @property
    def refused(self) -> int:
        """Requests that were answered by a 429."""
        return max(self._refused, self.retries[REFUSED])  # older logs tell only the retries

    def shown(self, now_t: float) -> list[Limit]:
        """The limits that are worth a line now."""
        return [limit for limit in self.limits.values() if limit.is_shown(now_t)]

    def line(self, limit: Limit, now_t: float, width: int = 10_000) -> str:
        """`openai/gpt-5: 40 at once, 212 wait`; the name gives way where that is too wide."""
        facts = limit.facts(now_t)
        for name in (self.name(limit), limit.name.partition(" @ ")[0].rpartition("/")[2]):
            line = f"{name}: {facts}" if facts else name
            if cells(line) <= width:
                break
        return line

    def name(self, limit: Limit) -> str:
        """The bucket without its address, unless another one differs from it only there."""
        model = limit.name.partition(" @ ")[0]
        twins = sum(other.name.partition(" @ ")[0] == model for other in self.limits.values())
        return model if twins == 1 else limit.name

    def summary(self) -> str:
        """`429s: 14, slowed to 40 at once; 9 other retries; 2 hedged`, or nothing."""
        refusals = f"429s: {self.refused}" if self.refused else ""
        others = self.retries.total() - self.retries[REFUSED]
        noun = ("retries" if others > 1 else "retry") if not refusals else "other retries"
        noun = "other retry" if refusals and others == 1 else noun
        facts = (
            ", ".join(fact for fact in (refusals, self._slowed()) if fact),
            f"{others} {noun}" if others else "",
            f"{self.hedges} hedged" if self.hedges else "",
        )
        return "; ".join(fact for fact in facts if fact)

    def _slowed(self) -> str:
        slowed = [limit for limit in self.limits.values() if limit.slowed_to is not None]
        if not slowed:
            return ""
        most = min(slowed, key=lambda limit: limit.slowed_to or 0)
        learnt = sum(limit.parallel is not None for limit in self.limits.values())
        who = f"{self.name(most)} " if learnt > 1 else ""
        return f"{who}slowed to {most.slowed_to}{AT_ONCE}"

    def _on_waiting(self, event: LimitWaiting, t: float) -> None:
        if event.waiting <= 0 and event.bucket not in self.limits:
            return
        limit = self._limit(event.bucket)
        if limit.waiting or event.waiting > 0:
            limit.held_t = t
        limit.waiting = max(0, event.waiting)
        if event.waiting > 0:
            limit.reason = one_line(event.reason)

    def _on_changed(self, event: LimitChanged, t: float) -> None:
        limit = self._limit(event.bucket)
        is_refusal = event.reason == BY_PROVIDER
        if event.pause_s > 0 and t + event.pause_s > limit.paused_until_t:
            limit.paused_until_t = t + event.pause_s
            limit.paused_by = "429: " if is_refusal else ""
        if is_refusal:
            limit.slowed_to = min(event.parallel, limit.slowed_to or event.parallel)
        limit.parallel = event.parallel

    def _limit(self, bucket: str) -> Limit:
        limit = self.limits.get(bucket)
        if limit is None:
            limit = self.limits[bucket] = Limit(name=one_line(bucket))
        return limit
