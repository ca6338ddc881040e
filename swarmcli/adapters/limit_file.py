"""The file that limits are kept in for all processes: how it is opened, tidied and written in, and who lives.

Rules:
- It is kept for the last minute only: one that is broken is begun anew, and power loss may void it (synchronous=OFF).
  A process that is killed tears nothing (write-ahead log).
- Each process holds a lock on a file of its own, which the kernel lets go when it dies. Files of holders are made and
  removed under the write lock only, so nobody takes a file that is just being made for a dead one's.
- Nothing here waits for long: it all happens on the event loop.
"""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Generator
from pathlib import Path

from swarmcli.adapters.file_system import NETWORK_FILE_SYSTEMS, file_system_of
from swarmcli.adapters.folders import private_folder

FILE = "books-1.db"
"""The number is that of the tables below: other tables, another file."""
_BUSY_TIMEOUT_S = 0.02
_PAGES = 100
"""Of 4 KiB, before the write-ahead log is folded into the file: both stay small."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS buckets (
        bucket BLOB PRIMARY KEY, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
        paused_until REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS departures (
        bucket BLOB, at REAL, holder INTEGER, claim INTEGER, tokens INTEGER NOT NULL,
        PRIMARY KEY (bucket, at, holder, claim)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS slots (
        bucket BLOB, holder INTEGER, claim INTEGER,
        PRIMARY KEY (bucket, holder, claim)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS waiters (
        bucket BLOB, holder INTEGER, since REAL NOT NULL, seen REAL NOT NULL,
        PRIMARY KEY (bucket, holder)) WITHOUT ROWID""",
)


class BooksBusy(Exception):
    """Another process is writing: ask again in a moment."""


class BooksUnusable(Exception):
    """The books cannot be kept here."""


def open_file(folder: Path) -> sqlite3.Connection:
    """The file in `folder`, which is made private.

    Raises:
        BooksBusy: another process opens it in this instant.
        BooksUnusable, StorageError, OSError, sqlite3.Error: it cannot be kept here.
    """
    private_folder(folder)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)
    kind = file_system_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise BooksUnusable(f"{folder} is on a network file system ({kind})")
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # SQLite itself does not wait for others while it gives a new file its write-ahead log.
        with busy():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            return _open(folder)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                (folder / name).unlink(missing_ok=True)
            return _open(folder)
    finally:
        os.close(lock)


def _open(folder: Path) -> sqlite3.Connection:
    path = folder / FILE
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        with busy():
            _set_up(db)
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise BooksUnusable("the disk cannot hold a file that processes share")
    db.execute("PRAGMA synchronous = OFF")
    db.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
    for table in _TABLES:
        db.execute(table)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """All or nothing, with nobody else writing meanwhile.

    Raises:
        BooksBusy: somebody else is; nothing was done.
    """
    with busy():
        db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def busy() -> Generator[None]:
    """Tell a lock that another process holds from real faults."""
    try:
        yield
    except BlockingIOError as exc:
        raise BooksBusy from exc
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BooksBusy from exc
        raise


def tidy(db: sqlite3.Connection, *, oldest: float, absent: float, now: float, until: float) -> None:
    """Strike what is old, and what lies ahead of the clock: it was written before the machine started anew.

    Args:
        db: in a transaction.
        oldest: departures until then are a minute old.
        absent: who has not asked since then no longer waits.
        now: the time.
        until: no true pause ends later.
    """
    db.execute("DELETE FROM departures WHERE at <= ? OR at > ?", (oldest, now))
    db.execute(
        "UPDATE buckets SET"
        " requests = (SELECT count(*) FROM departures d WHERE d.bucket = buckets.bucket),"
        " tokens = (SELECT ifnull(sum(tokens), 0) FROM departures d WHERE d.bucket = buckets.bucket)"
    )
    db.execute("UPDATE buckets SET paused_until = 0 WHERE paused_until > ?", (until,))
    db.execute("DELETE FROM waiters WHERE seen <= ? OR seen > ?", (absent, now))
    db.execute(
        "DELETE FROM buckets WHERE requests = 0 AND paused_until <= ?"
        " AND bucket NOT IN (SELECT bucket FROM slots)",
        (now,),
    )


class Holders:
    """The processes that hold slots, each by a lock on a file of its own.

    Args:
        folder: of these files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Drawn at random: process ids come again, and two containers may have the same.
        self.me = int.from_bytes(os.urandom(7))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._lock = os.open(self._file_of(self.me), flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def known(self) -> list[int]:
        """All that have a file, dead or alive."""
        return [int(file.stem, 16) for file in self._folder.glob("?" * 14 + ".holder")]

    def lives(self, holder: int) -> bool:
        """Whether the process of this number still runs."""
        if holder == self.me:
            return True
        try:
            fd = os.open(self._file_of(holder), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def forget(self, holder: int) -> None:
        """Remove the file of a process that has ended."""
        self._file_of(holder).unlink(missing_ok=True)

    def close(self) -> None:
        """Let our own lock go: the others then take us for dead."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _file_of(self, holder: int) -> Path:
        return self._folder / f"{holder:014x}.holder"
