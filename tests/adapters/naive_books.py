"""The limits by their definition: every departure is kept, and every question counts them all again.

`AgainstNaiveBooks` is the state machine that both kinds of allowance must pass.
"""

import math
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarmcli.adapters.allowance import Caps, Claim
from swarmcli.testing import ManualClock


@dataclass(eq=False)
class Sent:
    """One request."""

    at: float
    tokens: int
    is_in_flight: bool = True


class NaiveBooks:
    """What an allowance must agree with."""

    def __init__(self, caps: Caps, window_s: float) -> None:
        self.caps = caps
        self.window_s = window_s
        self.sent: list[Sent] = []
        self.open_at = -math.inf

    def fits(self, tokens: int, now: float) -> bool:
        """Whether a request may leave now."""
        minute = self.minute(now)
        used = sum(sent.tokens for sent in minute)
        caps = self.caps
        return (
            now >= self.open_at
            and (caps.rpm is None or len(minute) < caps.rpm)
            and (caps.tpm is None or used == 0 or used + tokens <= caps.tpm)
            and (caps.parallel is None or self.in_flight < caps.parallel)
        )

    def minute(self, now: float) -> list[Sent]:
        """The departures that count."""
        return [sent for sent in self.sent if sent.at + self.window_s > now]

    @property
    def in_flight(self) -> int:
        return sum(sent.is_in_flight for sent in self.sent)

    def leave(self, tokens: int, now: float) -> Sent:
        self.sent.append(Sent(now, tokens))
        return self.sent[-1]


class Ticks(ManualClock):
    """A clock that a synchronous test moves."""

    def pass_by(self, seconds):
        self._now += seconds


class AgainstNaiveBooks(RuleBasedStateMachine):
    """Any order of claims, answers, ends, pauses and time: the same decisions as counting by hand."""

    window_s = 60.0

    @initialize(
        caps=st.builds(
            Caps,
            rpm=st.none() | st.integers(1, 6),
            tpm=st.none() | st.integers(1, 1000),
            parallel=st.none() | st.integers(1, 4),
        )
    )
    def declare(self, caps):
        self.clock = Ticks()
        self.naive = NaiveBooks(caps, self.window_s)
        self.allowance = self.make(caps)
        self.running = []

    def make(self, caps):
        raise NotImplementedError

    @property
    def now(self):
        return self.clock.monotonic()

    def ask(self, tokens):
        """Claim; the answer is the naive one."""
        fits = self.naive.fits(tokens, self.now)
        answer = self.allowance.claim(tokens)
        assert isinstance(answer, Claim) == fits, answer
        return answer

    def took(self, answer, tokens):
        self.running.append((self.allowance, answer, self.naive.leave(tokens, self.now)))

    @rule(tokens=st.integers(0, 1500))
    def claim(self, tokens):
        answer = self.ask(tokens)
        if isinstance(answer, Claim):
            self.took(answer, tokens)
        else:
            assert 0 < answer.seconds < self.window_s + 0.001  # a clock rounds

    @rule(tokens=st.integers(0, 1500))
    def wait_as_told(self, tokens):
        """No wait is longer than it must be."""
        answer = self.ask(tokens)
        if isinstance(answer, Claim):
            self.took(answer, tokens)
            return
        if not answer.reason.endswith("at once"):
            assert not self.naive.fits(tokens, self.now + answer.seconds - 0.002)
        self.clock.pass_by(answer.seconds)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.none() | st.integers(0, 3000))
    def end(self, data, tokens):
        index = data.draw(st.integers(0, len(self.running) - 1))
        allowance, claim, sent = self.running.pop(index)
        if tokens is not None:
            allowance.settle(claim, tokens)
            sent.tokens = tokens
        allowance.free(claim)
        sent.is_in_flight = False

    @rule(seconds=st.floats(0, 30))
    def pause(self, seconds):
        self.allowance.pause(seconds)
        if seconds > 0:
            self.naive.open_at = max(self.naive.open_at, self.now + seconds)

    @rule(seconds=st.sampled_from([0.25, 1.0, 59.75, 60.0]) | st.floats(0, 130))
    def pass_time(self, seconds):
        self.clock.pass_by(seconds)

    @invariant()
    def no_limit_is_passed(self):
        caps, sent = self.naive.caps, self.naive.sent
        starts = [one.at for one in sent]
        if caps.rpm is not None:
            most = max((sum(s <= t < s + 60 for t in starts) for s in starts), default=0)
            assert most <= caps.rpm
        if caps.parallel is not None:
            assert self.naive.in_flight <= caps.parallel
