"""The answer cache from outside of a run: how large it is, emptying it, and removing what is of no use."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from swarmcli.adapters.cache import Database, Refused, open_database, reason_of
from swarmcli.adapters.cache_entry import decode
from swarmcli.adapters.cache_files import remove_files, remove_orphans, size_of
from swarmcli.errors import StorageError

_IN_THE_MAKING_S = 3600.0
"""The file of a value is written before the entry that names it."""


class CacheInfo(NamedTuple):
    """What `swarm cache info` tells."""

    folder: Path
    entries: int
    bytes: int
    problem: str | None
    """Why it cannot be used; None when it can."""


class Pruned(NamedTuple):
    """What `swarm cache prune` did."""

    entries: int
    bytes: int
    """By how much the files became smaller."""


def info(folder: Path) -> CacheInfo:
    """Number and size of the entries; makes nothing that is not there."""
    if not folder.is_dir():
        return CacheInfo(folder, 0, 0, None)
    try:
        with contextlib.closing(open_database(folder)) as cache:
            return CacheInfo(folder, len(cache), cache.volume(), None)
    except Exception as exc:  # noqa: BLE001 - told, not raised
        return CacheInfo(folder, 0, size_of(folder), reason_of(exc))


def clear(folder: Path) -> int:
    """Remove all entries, and a broken database as a whole; how many entries there were.

    Raises:
        OSError: the files cannot be removed.
    """
    if not folder.is_dir():
        return 0
    try:
        with contextlib.closing(open_database(folder)) as cache:
            return cache.clear(retry=True)
    except Exception:  # noqa: BLE001 - then without the database's help
        remove_files(folder)
        return 0


def prune(
    folder: Path, older_than_s: float | None = None, *, now: Callable[[], float] = time.time
) -> Pruned:
    """Remove what can never be an answer again: expired and unreadable entries, and files without an entry.

    Args:
        folder: the cache's.
        older_than_s: remove readable answers too that are older than this; None: none of them.
        now: seconds since the epoch.

    Raises:
        StorageError: the cache cannot be used.
    """
    if not folder.is_dir():
        return Pruned(0, 0)
    oldest = None if older_than_s is None else now() - older_than_s
    before = size_of(folder)
    try:
        with contextlib.closing(open_database(folder)) as cache:
            removed = cache.expire(retry=True) + _remove_useless(cache, oldest)
        remove_orphans(folder, now() - _IN_THE_MAKING_S)
    except Exception as exc:
        raise StorageError(
            f"cannot prune {folder}: {reason_of(exc)}", hint="swarm cache clear"
        ) from exc
    return Pruned(removed, max(0, before - size_of(folder)))


def _remove_useless(cache: Database, oldest: float | None) -> int:
    """Remove entries that nobody can read, and those from before `oldest`."""
    removed = 0
    for key in list(cache):
        if not isinstance(key, str):
            continue  # planted: diskcache cannot name it; `clear` removes it
        with contextlib.suppress(Refused):
            entry = decode(cache.get(key))
            if entry is not None and (oldest is None or entry.created >= oldest):
                continue
        removed += bool(cache.delete(key, retry=True))
    return removed
