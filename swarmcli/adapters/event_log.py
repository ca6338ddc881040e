"""The `Recorder` of a run: what happens is stamped, journalled, and only then shown.

Rule: facts reach the displays only after they reached the file, in one order for all.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from swarmcli.adapters.journal_writer import Entry, JournalWriter
from swarmcli.core.events import Event, Sink, Stamped
from swarmcli.core.ports import Clock, Recorder
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    import asyncio

JOIN_S = 10.0
"""How long `EventLog.close_now` waits for a disk that hangs."""


class EventLog:
    """The `Recorder` of a run: stamps events, journals them, then shows them to the sinks.

    Must be made in the event loop that it will deliver in. An existing journal is continued: `seq`
    and `t` count on.

    After a failure (`failed`) commits raise at once. Events that were only emitted are still shown,
    so that displays can tell the end of the story; a commit that failed is shown to nobody.

    Args:
        journal: the file; `out/` lies beside it.
        run: the run's id.
        clock: for `t`.
        sinks: the displays, fed and closed in the event loop.
        on_failure: called once, in the event loop, when the journal cannot be written any more.
        on_sink_error: called in the event loop when a sink raises; the sink is left out from then
            on. Default: the event loop's exception handler.
        now: the wall clock, for `ts`.

    Raises:
        StorageError: see `JournalWriter`.
    """

    def __init__(
        self,
        journal: Path,
        *,
        run: str,
        clock: Clock,
        sinks: Iterable[Sink] = (),
        on_failure: Callable[[StorageError], None] | None = None,
        on_sink_error: Callable[[Sink, Exception], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        import asyncio  # here: `swarm runs` and completion read journals without a loop

        self._loop = asyncio.get_running_loop()
        self._run = run
        self._clock = clock
        self._now = now
        self._sinks = list(sinks)
        self._on_failure = on_failure
        self._on_sink_error = on_sink_error
        self._lock = threading.Lock()
        self._closed = False
        self._outbox: deque[Sequence[Entry]] = deque()
        self._drained = asyncio.Event()
        self._writer = JournalWriter(journal, deliver=self._receive, ended=self._writer_ended)
        self._seq = self._writer.next_seq
        self._began = clock.monotonic() - self._writer.last_t

    @property
    def failed(self) -> StorageError | None:
        """Why nothing can be made durable any more; None while all is well."""
        return self._writer.failed

    @property
    def unflushed(self) -> tuple[Stamped, ...]:
        """After a failure: the events that are not durable. Empty again if `close` could save them."""
        return self._writer.unflushed

    def emit(self, event: Event) -> None:
        """Record; returns at once and never raises. From any thread. Dropped after `close`."""
        self._submit(event)

    async def commit(self, event: Event) -> None:
        """Record, and return when it is durable.

        Raises:
            StorageError: it is not, because the journal cannot be written or is closed.
        """
        failed = self._writer.failed
        waiter = None if failed else self._loop.create_future()
        accepted = self._submit(event, committed=True, waiter=waiter)
        if failed is not None:
            raise _again(failed)
        if not accepted:
            raise StorageError("the journal is closed")
        if waiter is not None:
            await waiter

    async def close(self) -> None:
        """Make everything durable, show the rest, close the sinks. May be called again."""
        self._stop()
        try:
            await self._drained.wait()
        finally:
            self.close_now()

    def close_now(self) -> None:
        """`close` without an event loop, for a program that is being torn down: blocks a moment."""
        self._stop()
        self._writer.join(JOIN_S)
        self._show()
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            try:
                sink.close()
            except Exception as exc:  # noqa: BLE001 - see _feed
                self._report(sink, exc)

    def _stop(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._writer.stop()

    def _submit(
        self,
        event: Event,
        *,
        committed: bool = False,
        waiter: "asyncio.Future[None] | None" = None,
    ) -> bool:
        with self._lock:
            if self._closed:
                return False
            stamped = Stamped(
                seq=self._seq,
                ts=self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                run=self._run,
                t=self._clock.monotonic() - self._began,
                event=event,
            )
            self._seq += 1
            self._writer.append(Entry(stamped=stamped, committed=committed, waiter=waiter))
            return True

    def _receive(self, batch: Sequence[Entry]) -> None:
        """In the writer's thread. A closed loop is no loss: `close_now` empties the outbox."""
        self._outbox.append(batch)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._show)

    def _writer_ended(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drained.set)

    def _show(self) -> None:
        if self._writer.failed is not None and self._on_failure is not None:
            on_failure, self._on_failure = self._on_failure, None
            on_failure(self._writer.failed)
        while self._outbox:
            batch = self._outbox.popleft()
            for entry in batch:
                _release(entry)
            for entry in batch:
                if entry.error is None or not entry.committed:
                    self._feed(entry.stamped)

    def _feed(self, stamped: Stamped) -> None:
        for sink in tuple(self._sinks):
            try:
                sink.feed(stamped)
            except Exception as exc:  # noqa: BLE001 - a broken display must not stop the work
                self._sinks.remove(sink)
                self._report(sink, exc)

    def _report(self, sink: Sink, exc: Exception) -> None:
        if self._on_sink_error is not None:
            self._on_sink_error(sink, exc)
        else:
            context = {"message": f"{type(sink).__name__} is broken", "exception": exc}
            self._loop.call_exception_handler(context)


def _release(entry: Entry) -> None:
    """Wake the committer. Its task may be gone (cancelled), or its loop (a program torn down)."""
    waiter = entry.waiter
    if waiter is None or waiter.done():
        return
    with contextlib.suppress(RuntimeError):
        if entry.error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(_again(entry.error))


def _again(error: StorageError) -> StorageError:
    """A copy: one exception object raised in 300 tasks would pile up their tracebacks."""
    copy = StorageError(error.message, hint=error.hint)
    copy.errno = error.errno
    copy.__cause__ = error
    return copy


if TYPE_CHECKING:
    _: type[Recorder] = EventLog
