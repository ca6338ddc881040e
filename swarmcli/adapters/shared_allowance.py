"""An allowance that all swarm processes of this user on this machine share, through books on disk.

Declared limits are shared, and the pauses that a provider asks any of us for. A process applies its own limits to what
all who declare any have sent. How many requests an undeclared model takes at once is not shared: each process learns
it from its own answers and finds its part by itself, as connections on one line do; a number that a dead process left
would only mislead.

Rules:
- The books are never a reason for a run to fail: whatever is wrong with them is one warning, and from then on each
  process keeps to its own books, which it has kept all along.
- They are opened by the first request that needs them; without declared limits nothing is made before a provider's
  first pause, and the disk is looked at a few times a second at most.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from swarmcli.adapters.allowance import WINDOW_S, Caps, Claim, LocalAllowance, Wait
from swarmcli.adapters.bucket import Bucket
from swarmcli.core.events import Warned
from swarmcli.core.ports import Clock, Emit
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    from swarmcli.adapters.allowance import Allowance
    from swarmcli.adapters.limit_books import Departure, LimitBooks

LIMITS = "limits"
"""The folder of the books, below the user's state folder."""
_LOOK_EVERY_S = 0.25
"""How often a process without declared limits looks whether others were told to pause."""
_SAME_S = 0.01
"""Pauses that end no further apart are one; a burst of refusals tells of the same one many times."""
_PATIENCE = 50
"""Times in a row that the books may be locked by others; each takes about 20 ms, in which our event loop stands."""
_BUSY = Wait(0.025, "another swarm counts")

_T = TypeVar("_T")


class SharedAllowances:
    """The allowances of one process, and its hand in the books that all share.

    Args:
        folder: of the books; made private when it is first used.
        secret: the key that bucket names are hashed under; read when the books are opened.
        clock: time of this process.
        emit: gets one `Warned` when the books cannot be used.
        now: the clock that all processes share.
        window_s: how long a departure counts; the same for all processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        secret: Callable[[], bytes],
        clock: Clock,
        emit: Emit,
        now: Callable[[], float] = time.monotonic,
        window_s: float = WINDOW_S,
    ) -> None:
        self._folder = folder
        self._secret = secret
        self._clock = clock
        self._emit = emit
        self._now = now
        self._window_s = window_s
        self._books: LimitBooks | None = None
        self._key = b""
        self._usable = True
        self._found_busy = 0

    def allowance(self, bucket: Bucket, caps: Caps, *, declared: bool = True) -> "SharedAllowance":
        """The books of one bucket; touches nothing yet.

        Args:
            bucket: what is counted.
            caps: its limits.
            declared: the user has said so; a guess of ours binds this process alone.
        """
        local = LocalAllowance(caps, self._clock, self._window_s)
        shared_caps = caps if declared else Caps()
        return SharedAllowance(self, bucket, shared_caps, local, self._clock)

    def ask(
        self, bucket: Bucket, question: "Callable[[LimitBooks, bytes], _T]"
    ) -> _T | Wait | None:
        """What the books answer; a `Wait` when others write in them, None when they cannot be used."""
        if not self._usable:
            return None
        # Most runs declare no limits, and need none of this.
        from swarmcli.adapters.limit_books import LimitBooks
        from swarmcli.adapters.limit_file import BooksBusy, BooksUnusable

        try:
            if self._books is None:
                self._key = self._secret()
                self._books = LimitBooks(self._folder, self._window_s, self._now)
            answer = question(self._books, bucket.digest(self._key))
        except BooksBusy:
            self._found_busy += 1
            if self._found_busy < _PATIENCE:
                return _BUSY
            self._give_up("another process keeps the books locked")
        except (StorageError, BooksUnusable) as exc:
            self._give_up(str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with them, the run goes on
            self._give_up(" ".join(f"{type(exc).__name__}: {exc}".split()))
        else:
            self._found_busy = 0
            return answer
        return None

    @property
    def in_use(self) -> bool:
        """Whether any process has ever had something to share."""
        return self._usable and (self._books is not None or self._folder.is_dir())

    def close(self) -> None:
        """Give everything back; the allowances then count for this process alone."""
        self._usable = False
        if self._books is not None:
            self._books.close()
            self._books = None

    def _give_up(self, reason: str) -> None:
        self._usable = False
        if self._books is not None:
            self._books.drop()  # frees our slots for the others
            self._books = None
        self._emit(Warned(message=f"limits are not shared with other swarm runs: {reason}"))


class SharedAllowance:
    """The books of one bucket, for all processes. Made by `SharedAllowances.allowance`."""

    def __init__(
        self,
        shared: SharedAllowances,
        bucket: Bucket,
        caps: Caps,
        local: LocalAllowance,
        clock: Clock,
    ) -> None:
        self._shared = shared
        self._bucket = bucket
        self._caps = caps
        self._declared = caps != Caps()
        self._local = local
        self._clock = clock
        self._departures: dict[int, Departure] = {}
        self._settled: dict[int, int] = {}
        self._looked_at = -math.inf
        self._told_until = -math.inf

    def claim(self, tokens: int) -> Claim | Wait:
        if not self._declared:
            self._look_for_pause()
        # What our own requests forbid needs no look at the disk.
        wait = self._local.obstacle(tokens)
        if wait is not None or not self._declared:
            return wait or self._local.depart(tokens)
        answer = self._shared.ask(
            self._bucket, lambda books, name: books.claim(name, self._caps, tokens)
        )
        if isinstance(answer, Wait):
            return answer
        claim = self._local.depart(tokens)
        if answer is not None:
            self._departures[claim.id] = answer
        return claim

    def settle(self, claim: Claim, tokens: int) -> None:
        self._local.settle(claim, tokens)
        if claim.id in self._departures:
            self._settled[claim.id] = tokens  # written down by `free`, in one go

    def free(self, claim: Claim) -> None:
        self._local.free(claim)
        tokens = self._settled.pop(claim.id, None)
        departure = self._departures.pop(claim.id, None)
        if departure is not None:
            self._shared.ask(self._bucket, lambda books, _: books.free(departure, tokens))

    def pause(self, seconds: float) -> None:
        self._local.pause(seconds)
        until = self._clock.monotonic() + seconds
        if until > self._told_until + _SAME_S and seconds > 0:
            self._told_until = until
            self._shared.ask(self._bucket, lambda books, name: books.pause(name, seconds))

    def _look_for_pause(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        if self._shared.in_use:
            answer = self._shared.ask(self._bucket, lambda books, name: books.paused_s(name))
            if isinstance(answer, float):
                self._local.pause(answer)


if TYPE_CHECKING:
    _allowance: type[Allowance] = SharedAllowance
