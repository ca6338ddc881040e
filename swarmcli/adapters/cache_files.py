"""The files of the answer cache: which are ours, and which of them nobody needs."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

DATABASE = "cache.db"
LOCK = "open.lock"
"""Held while a process opens the database."""

_FILE_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


def is_ours(file_name: object) -> bool:
    """True for the name of a value's file, relative to the cache's folder."""
    return isinstance(file_name, str) and _FILE_NAME.fullmatch(file_name) is not None


def our_files(folder: Path) -> Iterator[Path]:
    """All files that the cache has made in `folder`."""
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", LOCK):
        yield from folder.glob(name)
    yield from _value_files(folder)


def size_of(folder: Path) -> int:
    """Bytes in our files; 0 when they cannot be looked at."""
    with contextlib.suppress(OSError):
        return sum(file.stat().st_size for file in our_files(folder))
    return 0


def remove_files(folder: Path) -> None:
    """Remove all our files, and nothing else.

    Raises:
        OSError: one of them cannot be removed.
    """
    for file in list(our_files(folder)):
        file.unlink(missing_ok=True)


def remove_orphans(folder: Path, written_before: float) -> None:
    """Remove value files that no entry names, such as a killed process leaves.

    Args:
        folder: the cache's.
        written_before: seconds since the epoch; younger files may be in the making.

    Raises:
        sqlite3.Error: the database cannot be read.
        OSError: a file cannot be removed.
    """
    old = [file for file in _value_files(folder) if file.stat().st_mtime < written_before]
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        found = database.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")
        named = {name for (name,) in found}
    for file in old:
        if file.relative_to(folder).as_posix() not in named:
            file.unlink(missing_ok=True)


def _value_files(folder: Path) -> Iterator[Path]:
    for file in folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*.val"):
        if is_ours(file.relative_to(folder).as_posix()):
            yield file
