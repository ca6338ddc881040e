"""The run's journal: every event, durable before anyone sees it as done.

Rule: facts reach the displays only after they reached the file. One line is one event:

    crc32 of the JSON as 8 hex digits, a space, the JSON of `events.to_record` (UTF-8), LF

A kill at any byte leaves at most a torn tail, which the next writer cuts off. A bad line with good
ones after it was not our doing and is refused. An agent's output stands in `out/<agent>.txt` too;
above 4 KiB only there, and the line holds its size and SHA-256 instead.
"""

import contextlib
import hashlib
import io
import json
import os
import queue
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from swarmcli.adapters.atomic import (
    replace_file,
    storage_error,
    sync_folder,
    write_all,
    write_atomic,
)
from swarmcli.core.events import (
    SCHEMA_VERSION,
    AgentCompleted,
    Event,
    Sink,
    Stamped,
    from_record,
    to_record,
)
from swarmcli.core.ports import Clock, Recorder
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    import asyncio

INLINE_BYTES = 4096
"""Outputs up to this size stand in the journal itself."""
UNSYNCED_BYTES = 256 * 1024
"""So much may be written before a sync is due; until then it is kept in memory as well."""
JOIN_S = 10.0
"""How long `EventLog.close_now` waits for a disk that hangs."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


# --- one line ---


def frame(payload: bytes) -> bytes:
    """One journal line around one JSON object."""
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def unframe(line: bytes) -> bytes | None:
    """The JSON object in a journal line; None when the line is not whole and unchanged."""
    payload = line[9:-1]
    if not (payload.startswith(b"{") and line.endswith(b"}\n")):
        return None
    return payload if line[:9] == b"%08x " % zlib.crc32(payload) else None


def _other(value: object) -> object:
    """A mapping that is no dict, else the text of what JSON has no word for: never no event."""
    return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else str(value)


_JSON, _ASCII_JSON = (
    json.JSONEncoder(ensure_ascii=ascii_only, separators=(",", ":"), default=_other, skipkeys=True)
    for ascii_only in (False, True)
)


def encode(record: Mapping[str, object]) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot hold, turns it all to escapes."""
    try:
        return _JSON.encode(record).encode()
    except UnicodeEncodeError:
        return _ASCII_JSON.encode(record).encode()


def output_name(agent: str) -> str:
    """The file in `out/` for an agent: its id, with everything escaped that a path could abuse."""
    name = re.sub(
        r"^\.|[^A-Za-z0-9_.\[\]-]",
        lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "surrogatepass")),
        agent,
    )
    if len(name) > 150:
        name = f"{name[:120]}~{zlib.crc32(name.encode()):08x}"
    return f"{name}.txt"


# --- reading ---


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRead:
    """What a journal tells."""

    events: list[Stamped]
    """In file order. An `AgentCompleted` whose output is gone or changed is left out."""
    torn: bool
    """It ends in a part of a line: a crash, or a writer at work."""
    next_seq: int
    last_t: float
    """Seconds of work up to the last event; a resumed run counts on from here."""
    problems: tuple[str, ...] = ()
    """What was left out, and why."""


class _Scan(NamedTuple):
    lines: list[tuple[int, bytes]]
    """Number and JSON of each good line."""
    damaged: list[int]
    """Numbers of bad lines that have good ones after them."""
    good_end: int
    """Where the next writer goes on; anything behind it is torn."""


def read_journal(path: Path, *, repair: bool = False) -> JournalRead:
    """Read a run's journal, and its outputs from `out/` beside it. No file: nothing has happened.

    Args:
        path: the journal.
        repair: leave damaged lines out instead of refusing; the damaged file is kept beside it.
            Only under the run's lock.

    Raises:
        StorageError: it cannot be read, is damaged in the middle, or a newer swarm wrote it.
    """
    data = _read(path)
    scan = _scan(data)
    problems = [f"line {n} was damaged and is left out" for n in scan.damaged]
    if scan.damaged:
        if not repair:
            raise _damage(path, scan.damaged[0])
        _set_aside(path, data, scan)
    events: list[Stamped] = []
    seq, last_t = 0, 0.0
    for number, payload in scan.lines:
        record = _decode(path, number, payload)
        if isinstance(record, str):
            problems.append(record)
            continue
        this = int(record["seq"])
        if this <= seq:
            problems.append(f"line {number}: seq {this} follows {seq}; did two processes write?")
        seq, last_t = max(seq, this), max(last_t, float(record["t"]))
        stamped = _event(record, path.parent / "out")
        if isinstance(stamped, str):
            problems.append(stamped)
        elif stamped is not None:
            events.append(stamped)
    return JournalRead(
        events=events,
        torn=scan.good_end < len(data),
        next_seq=seq + 1,
        last_t=last_t,
        problems=tuple(problems),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        raise storage_error("read", path, exc) from exc


def _scan(data: bytes) -> _Scan:
    lines: list[tuple[int, bytes]] = []
    bad: list[int] = []
    end = good_end = 0
    for number, line in enumerate(io.BytesIO(data), 1):
        end += len(line)
        payload = unframe(line)
        if payload is None:
            bad.append(number)
        else:
            lines.append((number, payload))
            good_end = end
    last = lines[-1][0] if lines else 0
    return _Scan(lines, [n for n in bad if n < last], good_end)


def _damage(path: Path, line: int) -> StorageError:
    return StorageError(
        f"{path}:{line}: the line is damaged, and good ones follow: this was no crash of swarm",
        hint="to go on with the good lines, add --repair",
    )


def _set_aside(path: Path, data: bytes, scan: _Scan) -> None:
    write_atomic(path.with_name(f"{path.name}.damaged"), data, mode=0o600)
    write_atomic(path, b"".join(frame(payload) for _, payload in scan.lines))


def _decode(path: Path, number: int, payload: bytes) -> dict[str, Any] | str:
    """The record of a line, or why it is none."""
    try:
        record = cast("dict[str, Any]", json.loads(payload))
        version, _, _ = record["v"], int(record["seq"]), float(record["t"])
        newer = version > SCHEMA_VERSION
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        return f"line {number} is no event: {exc!r}"
    if newer:
        raise StorageError(
            f"{path}:{number}: a newer swarm wrote this (events version {version})",
            hint="upgrade swarm to use this run",
        )
    return record


def _event(record: dict[str, Any], out: Path) -> Stamped | str | None:
    """The event of a record, None for a type we do not know, or why it does not count."""
    if "output_sha256" in record:
        output = _stored_output(record, out)
        if output is None:
            agent = record.get("agent")
            return f"{agent}: its output in {out} is gone or changed; it counts as not finished"
        record["output"] = output
    try:
        return from_record(record)
    except (KeyError, TypeError, ValueError) as exc:
        return f"event {record['seq']} cannot be understood: {exc!r}"


def _stored_output(record: Mapping[str, Any], out: Path) -> str | None:
    try:
        data = (out / output_name(str(record.get("agent")))).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != record["output_sha256"]:
        return None
    return data.decode("utf-8", "surrogatepass")


# --- writing ---


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """An event on its way."""

    stamped: Stamped
    committed: bool = False
    """Someone relies on it: sync after it, and show it only once it is durable."""
    waiter: "asyncio.Future[None] | None" = None
    error: StorageError | None = None
    """Why it is not durable, set by the writer."""


class JournalWriter:
    """Appends events to one file from a thread of its own; what piled up meanwhile is one batch.

    After the first error it writes nothing more: a failed fsync may have dropped pages, and a second
    one would claim success. Everything since the last good sync stays in memory; `stop` makes one
    attempt to write that again, through a new descriptor.

    Args:
        path: the journal; created with 0600, or continued after its last good line.
        deliver: called in the writer's thread with each batch, in order, after it was written.
        ended: called in the writer's thread when it has nothing more to do.

    Raises:
        StorageError: the journal cannot be opened, or is damaged in the middle.
    """

    def __init__(
        self, path: Path, *, deliver: Callable[[Sequence[Entry]], None], ended: Callable[[], None]
    ) -> None:
        self.path = path
        self.failed: StorageError | None = None
        self._out = path.parent / "out"
        self._deliver = deliver
        self._ended = ended
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._unsynced: list[Entry] = []
        self._refers = False
        self._copies: deque[tuple[Path, bytes]] = deque()
        try:
            self._open()
        except OSError as exc:
            raise storage_error("open", path, exc) from exc
        # A daemon: a program that dies without `stop` must not hang in its exit.
        self._thread = threading.Thread(target=self._run, name="swarm-journal", daemon=True)
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """Hand over an event; returns at once. Not after `stop`."""
        self._queue.put(entry)

    def stop(self) -> None:
        """Let the thread end after what it was given."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for that end."""
        self._thread.join(timeout_s)

    @property
    def unflushed(self) -> tuple[Stamped, ...]:
        """What is not known to be durable, oldest first."""
        return tuple(entry.stamped for entry in self._unsynced)

    def _open(self) -> None:
        data = _read(self.path)
        scan = _scan(data)
        if scan.damaged:
            raise _damage(self.path, scan.damaged[0])
        self.next_seq, self.last_t = 1, 0.0
        for number, payload in scan.lines[-1:]:
            record = _decode(self.path, number, payload)
            if isinstance(record, str):
                raise StorageError(f"{self.path}: {record}")
            self.next_seq, self.last_t = int(record["seq"]) + 1, float(record["t"])
        self._out.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._size = self._durable = scan.good_end
        if scan.good_end < len(data):
            os.ftruncate(self._fd, scan.good_end)
        os.fsync(self._fd)
        sync_folder(self.path.parent)

    def _run(self) -> None:
        try:
            stopping = False
            while not stopping:
                taken = [self._next()]
                with contextlib.suppress(queue.Empty):
                    while True:
                        taken.append(self._queue.get_nowait())
                batch = [entry for entry in taken if entry is not None]
                stopping = len(batch) < len(taken)
                self._take(batch)
            self._finish()
            while self._copies:
                self._write_copy()
        finally:
            os.close(self._fd)
            self._ended()

    def _next(self) -> Entry | None:
        """Wait for an entry; until one comes, write copies of outputs that are safe already."""
        while self._copies:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                self._write_copy()
        return self._queue.get()

    def _write_copy(self) -> None:
        path, data = self._copies.popleft()
        with contextlib.suppress(OSError):  # it is for people to look at; the journal has it
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)

    def _take(self, batch: list[Entry]) -> None:
        self._unsynced += batch
        if self.failed is None:
            try:
                self._store(batch)
            except OSError as exc:
                self.failed = storage_error("write", self.path, exc)
            except Exception as exc:  # noqa: BLE001 - a bug of ours must leave nobody waiting
                self.failed = StorageError(f"cannot write {self.path}: {exc!r}")
        if self.failed is not None:
            for entry in batch:
                entry.error = self.failed
        self._deliver(batch)

    def _store(self, batch: Sequence[Entry]) -> None:
        self._refers = False
        lines = b"".join(map(self._line, batch))
        if self._refers:
            sync_folder(self._out)
        write_all(self._fd, lines)
        self._size += len(lines)
        awaited = any(entry.committed for entry in batch)
        if awaited or self._size - self._durable >= UNSYNCED_BYTES:
            _sync_data(self._fd)
            self._durable = self._size
            self._unsynced.clear()

    def _line(self, entry: Entry) -> bytes:
        try:
            record = to_record(entry.stamped)
            if isinstance(entry.stamped.event, AgentCompleted):
                self._store_output(entry.stamped.event, record)
            return frame(encode(record))
        except (TypeError, ValueError, RecursionError) as exc:
            what = entry.stamped.event.type
            entry.error = StorageError(f"the journal cannot hold this {what} event: {exc!r}")
            return b""

    def _store_output(self, event: AgentCompleted, record: dict[str, object]) -> None:
        """Write `out/<agent>.txt`: now and synced if the journal refers to it, else when idle."""
        path = self._out / output_name(event.agent)
        data = event.output.encode("utf-8", "surrogatepass")
        if len(data) <= INLINE_BYTES:
            self._copies.append((path, data))
            return
        # By rename: a kill here must not harm the same agent's output from an earlier session.
        replace_file(path, data, mode=0o600)
        self._refers = True
        del record["output"]
        record["output_sha256"] = hashlib.sha256(data).hexdigest()
        record["output_bytes"] = len(data)

    def _finish(self) -> None:
        """The last sync; after a failure, everything since the last good one is written anew."""
        kept = list(self._unsynced)
        try:
            if self.failed is not None:
                fresh = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                os.close(self._fd)
                self._fd = fresh
                os.ftruncate(fresh, self._durable)
                self._store(kept)
            if kept:
                _sync_data(self._fd)
                self._unsynced.clear()
        except OSError as exc:
            self.failed = self.failed or storage_error("write", self.path, exc)


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
