"""Where swarm keeps its files: config, state and cache, private to one user.

Rule: a folder that someone else owns or can write to is refused; prompts, answers and trust live there.
"""

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs.unix import Unix

from swarmcli.adapters.atomic import storage_error, sync_folder, write_all
from swarmcli.errors import StorageError

_MOVE_HINT = "set SWARM_HOME to a folder that you can write: export SWARM_HOME=/tmp/my-swarm"
_KEY_BYTES = 32
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The three places. Knowing them creates nothing; see `private_folder`."""

    config: Path
    state: Path
    cache: Path

    @classmethod
    def locate(cls, env: Mapping[str, str]) -> "Folders":
        """`$SWARM_HOME/{config,state,cache}`, else the XDG folders (the Unix layout on macOS too).

        Args:
            env: only `SWARM_HOME` is read from it; `HOME` and `XDG_*` are the process's own.

        Raises:
            StorageError: there is no home folder.
        """
        home = env.get("SWARM_HOME")
        if home:
            root = Path(os.path.expanduser(home)).absolute()  # noqa: PTH111 - Path's raises
            return cls(config=root / "config", state=root / "state", cache=root / "cache")
        places = Unix("swarm", appauthor=False)
        try:
            found = cls(
                config=places.user_config_path,
                state=places.user_state_path,
                cache=places.user_cache_path,
            )
        except RuntimeError as exc:
            raise StorageError("there is no home folder", hint=_MOVE_HINT) from exc
        if not all(path.is_absolute() for path in (found.config, found.state, found.cache)):
            raise StorageError("there is no home folder", hint=_MOVE_HINT)  # older platformdirs
        return found

    @property
    def config_file(self) -> Path:
        """The user's settings."""
        return self.config / "config.toml"


def private_folder(path: Path) -> Path:
    """Return `path` after making sure that it is a folder of ours alone; made with 0700 if absent.

    Raises:
        StorageError: it cannot be made or used, someone else owns it, or others can write to it.
    """
    try:
        _make(path)
        found = path.stat()
    except OSError as exc:
        error = storage_error("create", path, exc)
        error.hint = _MOVE_HINT
        raise error from exc
    name = shlex.quote(str(path))
    me = os.geteuid()
    if found.st_uid not in {me, 0}:
        raise StorageError(
            f"{path} belongs to user {found.st_uid}, you are user {me}",
            hint=f"chown {me} {name}, or set SWARM_HOME to a folder of your own",
        )
    if stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(f"{path} can be written by other users", hint=f"chmod 700 {name}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageError(f"{path} cannot be written", hint=_MOVE_HINT)
    return path


def _make(path: Path) -> None:
    """`mkdir -p`; each folder that is new gets 0700, as the XDG specification asks."""
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster, or it is a file
        path.mkdir(mode=0o700)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def block_key(state: Path) -> bytes:
    """The random key of this installation: the tags of data blocks are HMACs under it.

    Made on first use. Processes that start at the same moment all get the same key.

    Raises:
        StorageError: it cannot be made or read.
    """
    path = private_folder(state) / "block.key"
    try:
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            _publish(path, os.urandom(_KEY_BYTES))
            key = path.read_bytes()
    except OSError as exc:
        raise storage_error("use", path, exc) from exc
    if len(key) != _KEY_BYTES:
        raise StorageError(f"{path} is damaged", hint=f"delete it: rm {shlex.quote(str(path))}")
    return key


def _publish(path: Path, content: bytes) -> None:
    """Let `path` appear with all of `content`, unless it exists by then."""
    temp = path.with_name(f".{path.name}-{os.urandom(6).hex()}.tmp")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            path.hardlink_to(temp)  # like O_EXCL, but never seen half written
        except FileExistsError:
            pass
        except OSError as exc:
            if exc.errno not in _NO_HARD_LINKS:
                raise
            # Two processes in this same instant may then differ, once: a cache miss, no more.
            temp.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temp.unlink()
    sync_folder(path.parent)
