"""The answer cache on disk: diskcache, made safe to read and quiet to fail.

Rules:
- The cache is never a source of truth: whatever is wrong with it is a miss, one warning, and then no cache for
  the rest of the run. It never fails a call.
- Nothing that is read is executed: a pickled value or key, or a file name that leaves the folder, is a miss.
- Nothing is evicted behind anybody's back.
- Writes come from one thread of their own; reads are quick enough to do inline.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from swarmcli.adapters.cache_files import LOCK, is_ours
from swarmcli.adapters.file_system import NETWORK_FILE_SYSTEMS, file_system_of
from swarmcli.adapters.folders import private_folder
from swarmcli.core.events import Warned
from swarmcli.core.ports import Emit
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    import diskcache

    from swarmcli.adapters.cached_client import Store

ANSWERS = "answers"
"""The folder of the answer cache, below the user's cache folder."""

_T = TypeVar("_T")
_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_BUSY_TIMEOUT_S = 5
_SETTINGS: dict[str, object] = {
    # All of them, for a database keeps the settings that it was last opened with.
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",
    "size_limit": 2**62,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**11,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # a mapped file that somebody truncates kills its reader
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": 4,
}


class Database(Protocol):
    """What is used of `diskcache.Cache`."""

    def get(self, key: str) -> object: ...
    def set(self, key: str, value: bytes, expire: float | None) -> object: ...
    def delete(self, key: str, *, retry: bool) -> bool: ...
    def expire(self, *, retry: bool) -> int: ...
    def clear(self, *, retry: bool) -> int: ...
    def volume(self) -> int: ...
    def close(self) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[object]: ...


class CacheUnusable(Exception):
    """The folder or the database cannot be used. Never leaves this module."""


class Refused(Exception):
    """A stored key or value that we did not write."""


class DiskStore:
    """A `Store` on diskcache in a folder of its own; opened when it is first used.

    Args:
        folder: made with 0700 when absent; holds nothing but the cache.
        emit: gets one `Warned` when the cache cannot be used; called on the caller's thread.
    """

    def __init__(self, folder: Path, *, emit: Emit) -> None:
        self._folder = folder
        self._emit = emit
        self._cache: Database | None = None
        self._opening: Future[None] | None = None
        self._problem: str | None = None
        self._told = False
        self._unwritten: dict[str, bytes] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    async def get(self, key: str) -> bytes | None:
        value = self._unwritten.get(key)
        if value is not None:
            return value
        await self._opened()
        if self._cache is None or self._problem is not None:
            self._tell()
            return None
        try:
            return cast("bytes | None", self._cache.get(key))
        except Refused:
            return None
        except Exception as exc:  # noqa: BLE001 - any fault of the cache is a miss
            self._disable(exc)
            self._tell()
            return None

    def put(self, key: str, value: bytes, ttl_s: float | None = None) -> None:
        if self._problem is not None:
            self._tell()
            return
        self._unwritten[key] = value
        self._start()
        self._jobs.put(functools.partial(self._write, key, value, ttl_s))

    async def close(self) -> None:
        if self._writer is not None:
            self._jobs.put(self._close_connection)
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join, _CLOSE_TIMEOUT_S)
            self._writer = None
        self._close_connection()
        self._tell()

    async def _opened(self) -> None:
        """Return when the database is open, or known to be unusable."""
        if self._cache is not None or self._problem is not None:
            return
        if self._opening is None:
            self._opening = Future()
            self._start()
            self._jobs.put(functools.partial(self._open, self._opening))
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                # Shielded: many may wait for this one, and any of them may be cancelled.
                await asyncio.shield(asyncio.wrap_future(self._opening))
        except TimeoutError:
            self._disable(CacheUnusable("another process keeps it locked"))

    def _start(self) -> None:
        if self._writer is None:
            # A daemon: a disk that hangs must not keep the program from ending.
            self._writer = threading.Thread(target=self._work, name="swarm-cache", daemon=True)
            self._writer.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _open(self, opening: "Future[None]") -> None:
        try:
            self._cache = open_database(self._folder)
        except Exception as exc:  # noqa: BLE001 - any fault of the cache is a miss
            self._disable(exc)
        finally:
            opening.set_result(None)

    def _write(self, key: str, value: bytes, ttl_s: float | None) -> None:
        try:
            if self._cache is None and self._problem is None:
                self._cache = open_database(self._folder)
            if self._cache is not None and self._problem is None:
                with _one_at_a_time(self._folder):
                    self._cache.set(key, value, expire=ttl_s)
        except Exception as exc:  # noqa: BLE001 - an answer that is not kept is asked again, no more
            self._disable(exc)
        finally:
            if self._unwritten.get(key) is value:
                del self._unwritten[key]

    def _close_connection(self) -> None:
        """Each thread has its own connection and must close it itself."""
        if self._cache is not None:
            with contextlib.suppress(Exception):
                self._cache.close()

    def _disable(self, exc: Exception) -> None:
        if self._problem is None:
            self._problem = reason_of(exc)

    def _tell(self) -> None:
        if self._problem is not None and not self._told:
            self._told = True
            self._emit(Warned(message=f"no answer cache in this run: {self._problem}"))


def open_database(folder: Path) -> Database:
    """The database in `folder`.

    Raises:
        Exception: of any kind; it cannot be used.
    """
    import diskcache

    private_folder(folder)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)
    kind = file_system_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise CacheUnusable(f"{folder} is on a network file system ({kind})")
    if os.path.expandvars(folder) != str(folder):
        raise CacheUnusable(f"{folder} would be taken for another folder")
    with _one_at_a_time(folder):
        cache = diskcache.Cache(
            str(folder), timeout=_BUSY_TIMEOUT_S, disk=_safe_disk(), **_SETTINGS
        )
    return cast("Database", cache)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Generator[None]:
    """Of all processes, one opens the database or writes to it.

    Hundreds of them may start together. The kernel lets them in one by one; SQLite and diskcache would have each of
    them try again every millisecond, until nobody gets through.
    """
    with (folder / LOCK).open("ab") as file:
        with contextlib.suppress(OSError):  # a disk without locks: slower, not wrong
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def _safe_disk() -> "type[diskcache.Disk]":
    """The class that diskcache reads and writes with: text keys, byte values, and never pickle."""
    from diskcache import core

    # Untyped in diskcache; what we rely on stands in the signatures below.
    untyped = cast("Any", core)
    disk: Any = untyped.Disk

    class SafeDisk(disk):
        def put(self, key: object) -> tuple[object, bool]:
            return _must_be(str, key), True

        def get(self, key: object, raw: object) -> object:
            return key if raw == 1 else None

        def store(self, value: object, read: object, key: object = None) -> object:
            return disk.store(self, _must_be(bytes, value), read=False)

        def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
            if mode == untyped.MODE_RAW:
                return _must_be(bytes, value)
            if mode == untyped.MODE_BINARY and is_ours(filename):
                return Path(self._directory, str(filename)).read_bytes()
            raise Refused(f"mode {mode}, file {filename!r}")

        def remove(self, file_path: object) -> None:
            if is_ours(file_path):
                disk.remove(self, file_path)

    return SafeDisk


def _must_be(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind):
        raise Refused(f"{type(value).__name__}, not {kind.__name__}")
    return value


def reason_of(exc: Exception) -> str:
    """Why the cache cannot be used, in one line."""
    if isinstance(exc, CacheUnusable | StorageError):
        return str(exc)
    return " ".join(f"{type(exc).__name__}: {exc}".split())


if TYPE_CHECKING:
    _store: type[Store] = DiskStore
