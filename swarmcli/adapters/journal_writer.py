"""The journal's writing end: one thread per run that appends events and makes them durable.

Rule: what is handed over is written in order, and told as written only when it is. All that piled up
while the disk worked is one batch with one sync. Each session writes under an epoch of its own, and
one that finds the file changed by somebody else has lost the run: it writes nothing more.
"""

import contextlib
import hashlib
import itertools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarmcli.adapters.atomic import replace_file, storage_error, sync_folder, write_all
from swarmcli.adapters.failpoints import hit
from swarmcli.adapters.journal import (
    damage,
    decode_record,
    encode,
    epoch_of,
    frame,
    output_name,
    read_bytes,
    scan,
)
from swarmcli.core.event_json import to_record
from swarmcli.core.events import AgentCompleted, Stamped
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    import asyncio

INLINE_BYTES = 64 * 1024
"""Outputs up to this size stand in the journal itself; a file of its own costs each one a sync."""
UNSYNCED_BYTES = 256 * 1024
"""So much may be written before a sync is due; until then it is kept in memory as well."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


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
        self._owned = True
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
        data = read_bytes(self.path)
        found = scan(data)
        if found.damaged:
            raise damage(self.path, found.damaged[0])
        self.next_seq, self.last_t = 1, 0.0
        newest = max((epoch_of(payload) for _, payload in found.lines), default=0)
        self.epoch = newest + 1
        counted = (line for line in reversed(found.lines) if epoch_of(line[1]) == newest)
        for number, payload in itertools.islice(counted, 1):
            record = decode_record(self.path, number, payload)
            if isinstance(record, str):
                raise StorageError(f"{self.path}: {record}")
            self.next_seq, self.last_t = int(record["seq"]) + 1, float(record["t"])
        self._out.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._size = self._durable = found.good_end
        if found.good_end < len(data):
            os.ftruncate(self._fd, found.good_end)
        os.fsync(self._fd)
        sync_folder(self.path.parent)
        hit("journal.opened")

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
        if not self._owned:
            return
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
                self.failed = self._failure(exc)
            except Exception as exc:  # noqa: BLE001 - a bug of ours must leave nobody waiting
                self.failed = StorageError(f"cannot write {self.path}: {exc!r}")
        if self.failed is not None:
            for entry in batch:
                entry.error = self.failed
        self._deliver(batch)

    def _store(self, batch: Sequence[Entry]) -> None:
        self._check_ownership(self._fd)
        self._refers = False
        lines = b"".join(map(self._line, batch))
        if self._refers:
            sync_folder(self._out)
            hit("output.stored")
        hit("journal.write")
        self._write(lines)
        hit("journal.written")
        awaited = any(entry.committed for entry in batch)
        if awaited or self._size - self._durable >= UNSYNCED_BYTES:
            _sync_data(self._fd)
            self._durable = self._size
            self._unsynced.clear()
            hit("journal.synced")

    def _failure(self, exc: OSError) -> StorageError:
        """What to do about it, and how to go on then."""
        error = storage_error("write", self.path, exc)
        if self._owned:
            go_on = f"then: swarm resume {self.path.parent.name}"
            error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
        return error

    def _write(self, lines: bytes) -> None:
        """Append. The size counts also what a full disk took of the lines before it refused the rest."""
        rest = memoryview(lines)
        while rest:
            written = os.write(self._fd, rest)
            self._size += written
            rest = rest[written:]

    def _check_ownership(self, fd: int) -> None:
        """Behind `fd` is the file that we write, it has a name, and it holds what we wrote and no more.

        Raises:
            StorageError: another process works on the run. It is never given back.
        """
        mine = os.fstat(self._fd)
        if os.path.samestat(os.fstat(fd), mine) and mine.st_nlink and mine.st_size == self._size:
            return
        self._owned = False
        raise StorageError(
            f"{self.path} was changed or removed by another process: this one has lost the run",
            hint=f"see what the other does: swarm watch {self.path.parent.name}",
        )

    def _line(self, entry: Entry) -> bytes:
        try:
            record = to_record(entry.stamped)
            if isinstance(entry.stamped.event, AgentCompleted):
                self._store_output(entry.stamped.event, record)
            return frame(encode({"epoch": self.epoch, **record}))
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
                if not self._owned:
                    return
                self._reopen()
                self._store(kept)
            if kept:
                _sync_data(self._fd)
                self._unsynced.clear()
        except OSError as exc:
            self.failed = self.failed or self._failure(exc)

    def _reopen(self) -> None:
        """A new descriptor, behind the last good sync."""
        fresh = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            self._check_ownership(fresh)
        except StorageError:
            os.close(fresh)
            raise
        os.close(self._fd)
        self._fd = fresh
        os.ftruncate(fresh, self._durable)
        self._size = self._durable
