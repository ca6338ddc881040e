"""The books of all limits on this machine, which every swarm process of this user writes in.

Rules:
- Every answer is one short transaction, and its time is read inside: the books are never in two minds.
- Time is `time.monotonic()`, which all processes on Linux and macOS share, counted since the machine started. What lies
  ahead of it is from before a restart and void; what does not yet counts for a minute more, no worse.
- A free slot goes to the waiting process that holds the fewest, of equals to the one that waits longest. What frees
  itself by time goes to whoever asks first.
- Slots of a process that died are found when no other is free.
"""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmcli.adapters.allowance import Caps, Standing, Wait, obstacle
from swarmcli.adapters.limit_file import BooksBusy, Holders, busy, open_file, tidy, transaction

LONGEST_PAUSE_S = 30.0
RECHECK_S = 0.025
"""How soon to ask again for what only another process can free."""
_RECHECK_TOKENS_S = 0.25
"""The same for tokens: another process's answer may be shorter than it was thought to be."""
_PRESENT_S = 0.25
"""Who asked no longer ago still waits."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A request that has left, as the books know it."""

    bucket: bytes
    at: float
    claim: int
    tokens: int


class LimitBooks:
    """One process's hand in the books; not to be carried over a fork.

    Args:
        folder: of the books; made private.
        window_s: how long a departure counts; the same for all processes.
        now: the clock that all processes share.

    Raises:
        BooksBusy: another process opens them in this instant.
        BooksUnusable, StorageError, OSError, sqlite3.Error: they cannot be kept here.
    """

    def __init__(self, folder: Path, window_s: float, now: Callable[[], float]) -> None:
        self._window_s = window_s
        self._now = now
        self._numbers = itertools.count(1)
        self._ended: list[tuple[Departure, int | None]] = []
        with contextlib.ExitStack() as undo:
            self._db = open_file(folder)
            undo.callback(self._db.close)
            with transaction(self._db):
                self._holders = Holders(folder)
                undo.callback(self._holders.close)
                slots = self._db.execute("SELECT DISTINCT holder FROM slots").fetchall()
                for holder in {*self._holders.known(), *(holder for (holder,) in slots)}:
                    self._bury_if_dead(holder)
                self._tidy(now())
            undo.pop_all()

    def claim(self, bucket: bytes, caps: Caps, tokens: int) -> Departure | Wait:
        """Write a departure down, or say what it waits for.

        Raises:
            BooksBusy: nothing was written.
        """
        with self._transaction() as now:
            wait = self._obstacle(bucket, caps, tokens, now)
            return wait or self._depart(bucket, tokens, now)

    def free(self, departure: Departure, tokens: int | None) -> None:
        """The request has ended; `tokens`: what the provider counted, None: not known.

        When another process is writing, it is written with whatever comes next.
        """
        self._ended.append((departure, tokens))
        with contextlib.suppress(BooksBusy), self._transaction():
            pass

    def pause(self, bucket: bytes, seconds: float) -> None:
        """Nothing of this bucket may leave for so long, at most `LONGEST_PAUSE_S`.

        Raises:
            BooksBusy: nothing was written.
        """
        with self._transaction() as now:
            self._db.execute(
                "INSERT INTO buckets VALUES (?, 0, 0, ?) ON CONFLICT (bucket)"
                " DO UPDATE SET paused_until = max(paused_until, excluded.paused_until)",
                (bucket, now + min(seconds, LONGEST_PAUSE_S)),
            )

    def paused_s(self, bucket: bytes) -> float:
        """How long nothing of this bucket may leave; 0 or less: no pause.

        Raises:
            BooksBusy: it cannot be read in this instant.
        """
        with busy():
            row = self._row("SELECT paused_until FROM buckets WHERE bucket = ?", (bucket,))
        left_s = row[0] - self._now() if row else 0.0
        return left_s if left_s <= LONGEST_PAUSE_S else 0.0

    def close(self) -> None:
        """Give all slots back; what fails then is put right by others, as after a kill."""
        with contextlib.suppress(sqlite3.Error, OSError, BooksBusy), self._transaction() as now:
            self._bury(self._holders.me)
            self._tidy(now)
        self.drop()

    def drop(self) -> None:
        """Let go of everything without writing."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._holders.close()

    @contextlib.contextmanager
    def _transaction(self) -> Generator[float]:
        """A transaction that yields its time; what has ended meanwhile is written first."""
        ended = tuple(self._ended)
        with transaction(self._db):
            for departure, tokens in ended:
                self._end(departure, tokens)
            yield self._now()
        del self._ended[: len(ended)]

    def _obstacle(self, bucket: bytes, caps: Caps, tokens: int, now: float) -> Wait | None:
        standing = self._standing(bucket, now)
        if caps.parallel is not None and standing.in_flight >= caps.parallel:
            self._bury_dead(bucket)
            standing = self._standing(bucket, now)
        wait = obstacle(caps, standing, tokens, RECHECK_S)
        if wait is not None and caps.tpm is not None:
            wait = Wait(min(wait.seconds, _RECHECK_TOKENS_S), wait.reason)
        if caps.parallel is None:
            return wait
        full = standing.in_flight >= caps.parallel
        if full or (wait is None and self._is_outranked(bucket, now)):
            self._line_up(bucket, now)
            return wait or Wait(RECHECK_S, f"{caps.parallel:,} at once")
        return wait

    def _standing(self, bucket: bytes, now: float) -> Standing:
        self._prune(bucket, now)
        found = self._read(bucket, now)
        if found.oldest_s > self._window_s + 1 or found.paused_s > LONGEST_PAUSE_S + 1:
            self._tidy(now)
            found = self._read(bucket, now)
        return found

    def _read(self, bucket: bytes, now: float) -> Standing:
        row = self._row(
            "SELECT requests, tokens, paused_until,"
            " (SELECT min(at) FROM departures d WHERE d.bucket = b.bucket),"
            " (SELECT count(*) FROM slots s WHERE s.bucket = b.bucket)"
            " FROM buckets b WHERE bucket = ?",
            (bucket,),
        )
        requests, tokens, paused_until, oldest_at, in_flight = row or (0, 0, now, None, 0)
        return Standing(
            paused_s=paused_until - now,
            requests=requests,
            tokens=tokens,
            oldest_s=0.0 if oldest_at is None else oldest_at + self._window_s - now,
            in_flight=in_flight,
        )

    def _prune(self, bucket: bytes, now: float) -> None:
        """Strike what is a minute old. Sums are kept, for counting thousands of rows takes too long."""
        old = (bucket, now - self._window_s)
        gone = self._row(
            "SELECT count(*), sum(tokens) FROM departures WHERE bucket = ? AND at <= ?", old
        )
        if gone is not None and gone[0]:
            self._db.execute("DELETE FROM departures WHERE bucket = ? AND at <= ?", old)
            self._db.execute(
                "UPDATE buckets SET requests = requests - ?, tokens = tokens - ? WHERE bucket = ?",
                (*gone, bucket),
            )

    def _tidy(self, now: float) -> None:
        tidy(
            self._db,
            oldest=now - self._window_s,
            absent=now - _PRESENT_S,
            now=now,
            until=now + LONGEST_PAUSE_S,
        )

    def _depart(self, bucket: bytes, tokens: int, now: float) -> Departure:
        departure = Departure(bucket, now, next(self._numbers), tokens)
        me, claim = self._holders.me, departure.claim
        self._db.execute(
            "INSERT INTO departures VALUES (?, ?, ?, ?, ?)", (bucket, now, me, claim, tokens)
        )
        self._db.execute(
            "INSERT INTO buckets VALUES (?, 1, ?, 0) ON CONFLICT (bucket)"
            " DO UPDATE SET requests = requests + 1, tokens = tokens + excluded.tokens",
            (bucket, tokens),
        )
        self._db.execute("INSERT INTO slots VALUES (?, ?, ?)", (bucket, me, claim))
        self._db.execute("DELETE FROM waiters WHERE bucket = ? AND holder = ?", (bucket, me))
        return departure

    def _end(self, departure: Departure, tokens: int | None) -> None:
        bucket, me, claim = departure.bucket, self._holders.me, departure.claim
        self._db.execute(
            "DELETE FROM slots WHERE bucket = ? AND holder = ? AND claim = ?", (bucket, me, claim)
        )
        if tokens is None or tokens == departure.tokens:
            return
        changed = self._db.execute(
            "UPDATE departures SET tokens = ? WHERE bucket = ? AND at = ? AND holder = ? AND claim = ?",
            (tokens, bucket, departure.at, me, claim),
        )
        if changed.rowcount == 1:  # else it is older than a minute
            self._db.execute(
                "UPDATE buckets SET tokens = tokens + ? WHERE bucket = ?",
                (tokens - departure.tokens, bucket),
            )

    def _is_outranked(self, bucket: bytes, now: float) -> bool:
        """Whether a slot that is free should go to another process that waits."""
        row = self._row(
            "SELECT 1 FROM waiters w WHERE bucket = :bucket AND holder <> :me AND seen > :absent AND"
            " ((SELECT count(*) FROM slots s WHERE s.bucket = w.bucket AND s.holder = w.holder), since)"
            " < ((SELECT count(*) FROM slots WHERE bucket = :bucket AND holder = :me),"
            " ifnull((SELECT since FROM waiters WHERE bucket = :bucket AND holder = :me"
            " AND seen > :absent), :now))",
            {"bucket": bucket, "me": self._holders.me, "now": now, "absent": now - _PRESENT_S},
        )
        return row is not None

    def _line_up(self, bucket: bytes, now: float) -> None:
        self._db.execute(
            "INSERT INTO waiters VALUES (?, ?, ?, ?) ON CONFLICT (bucket, holder) DO UPDATE SET"
            " since = CASE WHEN seen > ? THEN since ELSE excluded.since END, seen = excluded.seen",
            (bucket, self._holders.me, now, now, now - _PRESENT_S),
        )

    def _bury_dead(self, bucket: bytes) -> None:
        query = "SELECT DISTINCT holder FROM slots WHERE bucket = ?"
        for (holder,) in self._db.execute(query, (bucket,)).fetchall():
            self._bury_if_dead(holder)

    def _bury_if_dead(self, holder: int) -> None:
        if not self._holders.lives(holder):
            self._bury(holder)

    def _bury(self, holder: int) -> None:
        self._db.execute("DELETE FROM slots WHERE holder = ?", (holder,))
        self._db.execute("DELETE FROM waiters WHERE holder = ?", (holder,))
        self._holders.forget(holder)

    def _row(
        self, query: str, values: tuple[object, ...] | dict[str, object]
    ) -> tuple[Any, ...] | None:
        return self._db.execute(query, values).fetchone()
