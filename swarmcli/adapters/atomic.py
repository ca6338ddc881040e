"""Files that are there whole or not at all: temp file, fsync, rename, fsync of the folder.

Rule: an `OSError` leaves this package as a `StorageError` that says what, where and what to do next.
"""

import contextlib
import errno
import os
import re
import shlex
import stat
from pathlib import Path

from swarmcli.adapters.failpoints import hit
from swarmcli.errors import StorageError

_NAMED_DESCRIPTOR = re.compile(r"/dev/(?:(stdin|stdout|stderr)|fd/(\d+))|/proc/self/fd/(\d+)")
_STANDARD_DESCRIPTORS = {"stdin": 0, "stdout": 1, "stderr": 2}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EROFS}


def storage_error(action: str, path: Path, exc: OSError) -> StorageError:
    """The error that a user reads for `exc`: `cannot <action> <path>: <reason>`, and one hint."""
    if isinstance(exc, StorageError):
        return exc
    folder = shlex.quote(str(path.parent))
    hints = {
        errno.ENOSPC: f"free some space there: df -h {folder}",
        errno.EDQUOT: f"free some space there, your quota is used up: df -h {folder}",
        errno.EFBIG: "the limit for a file's size is reached: ulimit -f",
        errno.EACCES: f"check who may write there: ls -ld {folder}",
        errno.EPERM: f"check who may write there: ls -ld {folder}",
        errno.EROFS: "that disk is mounted read-only; choose another folder",
        errno.EISDIR: "name a file, not a folder",
        errno.ENOTDIR: f"a part of that path is a file: ls -ld {folder}",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EIO: "the disk reports errors; choose another one, and check it: dmesg | tail",
    }
    reason = exc.strerror or str(exc) or type(exc).__name__
    error = StorageError(f"cannot {action} {path}: {reason}", hint=hints.get(exc.errno or 0))
    error.errno = exc.errno
    return error


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put `data` at `path`, durably; a reader sees the old content or the new one, nothing between.

    Missing parents are made. A symlink stays and its target is replaced. A file that exists keeps
    its permissions. What is no regular file (`/dev/stdout`, a FIFO, a terminal) is written directly.

    Args:
        path: where to.
        data: all of the new content.
        mode: permissions of a new file, before the umask.

    Raises:
        StorageError: nothing was changed (a direct write may have got a part through).
        BrokenPipeError: the reader of a pipe has gone.
    """
    try:
        descriptor = _named_descriptor(path)
        if descriptor is not None:
            write_all(descriptor, data)
            return
        existing = _stat(path)
        if existing is not None and not stat.S_ISREG(existing.st_mode):
            _write_directly(path, data)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, data, mode=mode, like=existing)
        sync_folder(target.parent)
        hit("file.durable")
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise storage_error("write", path, exc) from exc


def replace_file(
    target: Path,
    data: bytes,
    *,
    mode: int,
    sync: bool = True,
    like: os.stat_result | None = None,
) -> None:
    """Swap in a file with `data`; the folder itself is not synced.

    Args:
        target: no symlink.
        data: all of the new content.
        mode: permissions, before the umask.
        sync: wait until the content is on the disk.
        like: the file that is replaced, to keep its owner and permissions.

    Raises:
        OSError: as the system says it; the temp file is gone.
    """
    if like is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # Short and without the target's name, which may already be as long as a name can be.
    temp = target.with_name(f".swarm-{os.urandom(6).hex()}.tmp")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            hit("file.created")
            write_all(fd, data)
            hit("file.written")
            if like is not None:
                _take_after(fd, like)
            if sync:
                os.fsync(fd)
            hit("file.synced")
        finally:
            os.close(fd)
        temp.replace(target)
        hit("file.renamed")
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise


def write_all(fd: int, data: bytes) -> None:
    """`os.write` until everything is written: a full disk may take a part first."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_folder(folder: Path) -> None:
    """Make names that were added to `folder` durable, where its file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno not in _NO_FOLDER_SYNC:
            raise


def _named_descriptor(path: Path) -> int | None:
    """The open descriptor that `path` names.

    Opening `/dev/stdout` again would truncate, or overwrite from the start, what it is redirected to.
    """
    match = _NAMED_DESCRIPTOR.fullmatch(str(path))
    if match is None:
        return None
    name, *numbers = match.groups()
    return _STANDARD_DESCRIPTORS[name] if name else int(numbers[0] or numbers[1])


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _write_directly(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def _take_after(fd: int, like: os.stat_result) -> None:
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(fd, like.st_uid, like.st_gid)
    os.fchmod(fd, stat.S_IMODE(like.st_mode))
