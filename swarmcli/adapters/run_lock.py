"""One process works on a run: a lock on a file in its folder, which the kernel lets go when the process dies.

Rule: looking at the lock changes nothing, and holds nobody up for longer than an instant.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

from swarmcli.adapters.atomic import storage_error
from swarmcli.adapters.folders import private_folder
from swarmcli.errors import StorageError

FILE = "lock"
_TRIES = 10
_PAUSE_S = 0.01


@contextlib.contextmanager
def hold(folder: Path) -> Generator[None]:
    """Be the only process that works in this run's folder.

    Raises:
        StorageError: another process has it, the folder is not private, or cannot be locked.
    """
    private_folder(folder)
    path = folder / FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise storage_error("lock", path, exc) from exc
    try:
        _acquire(fd, folder)
        with contextlib.suppress(OSError):  # only for the message; the lock holds without
            os.ftruncate(fd, 0)
            os.pwrite(fd, _me().encode(), 0)
        yield
    finally:
        os.close(fd)


def is_held(folder: Path) -> bool:
    """Whether a process works in this run's folder now."""
    try:
        fd = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(fd)


def _acquire(fd: int, folder: Path) -> None:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # `is_held` of a `swarm runs` that passes by holds it for an instant.
            if attempt < _TRIES - 1:
                time.sleep(_PAUSE_S)
        except OSError as exc:
            raise StorageError(
                f"cannot lock {folder}: {exc.strerror}",
                hint="some network disks have no locks; set SWARM_HOME to a local folder",
            ) from exc
        else:
            return
    who = os.pread(fd, 400, 0).decode("utf-8", "replace").strip() or "another process"
    raise StorageError(
        f"run {folder.name} is in use by {who}", hint=f"to look on: swarm watch {folder.name}"
    )


def _me() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {os.uname().nodename} (since {since})\n"
