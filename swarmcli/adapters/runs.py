"""The runs on disk: one folder each, named by an id that people can read and type.

Rule: `run.json` says what was asked and never changes its mind about how it went; that is read from
the journal's last event and the lock (`run_summary`).
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from swarmcli.adapters import run_lock
from swarmcli.adapters.atomic import storage_error, sync_folder, write_atomic
from swarmcli.adapters.failpoints import hit
from swarmcli.adapters.folders import private_folder
from swarmcli.adapters.run_summary import RESUMABLE, RunSummary, summary
from swarmcli.errors import StorageError, UsageError
from swarmcli.recipe.values import Json

Command = Literal["run", "solve", "map"]
META_VERSION = 1
STDIN_INLINE = 64 * 1024
"""Longer input stands in `stdin.txt` beside `run.json`."""

_ID = re.compile(r"\d{8}-\d{4}-[a-z2-7]{4}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMeta:
    """What was asked: all that `swarm resume` needs to ask it again."""

    command: Command
    recipe_source: str
    """What the user called it: a path, `-`, or a shipped recipe's name."""
    recipe_text: str
    recipe_sha256: str = ""
    """`RunStore.create` fills it, `id` and `created` in."""
    params: Mapping[str, Json] = field(default_factory=dict[str, Json])
    stdin: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """The flags that matter again on resume."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Role -> LiteLLM id, as they were chosen when the run began."""
    version: str = ""
    cwd: str = ""
    id: str = ""
    created: str = ""
    """RFC 3339, UTC, microseconds: the order of runs that share a minute."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """The folder of one run."""

    folder: Path

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def meta_path(self) -> Path:
        """What was asked."""
        return self.folder / "run.json"

    @property
    def journal(self) -> Path:
        """What happened."""
        return self.folder / "journal.jsonl"

    @property
    def out(self) -> Path:
        """The agents' outputs, one file each (see `journal.output_name`)."""
        return self.folder / "out"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def result_path(self, extension: str) -> Path:
        """Where the result is kept, for example `result.md`."""
        return self.folder / f"result.{extension.lstrip('.')}"

    def write_meta(self, meta: RunMeta) -> None:
        """Store what was asked, atomically.

        Raises:
            StorageError: it cannot be written.
        """
        record: dict[str, object] = {"schema_version": META_VERSION, **_fields(meta)}
        if meta.stdin is not None and len(meta.stdin) > STDIN_INLINE:
            data = meta.stdin.encode("utf-8", "surrogatepass")
            write_atomic(self.folder / "stdin.txt", data, mode=0o600)
            record["stdin"] = {"file": "stdin.txt", "sha256": hashlib.sha256(data).hexdigest()}
        # ASCII, so that a lone surrogate in a parameter survives.
        text = json.dumps(record, indent=2, default=_plain) + "\n"
        write_atomic(self.meta_path, text.encode("ascii"), mode=0o600)

    def read_meta(self) -> RunMeta:
        """What was asked.

        Raises:
            StorageError: it is missing, damaged, or of a newer swarm.
        """
        try:
            record = json.loads(self.meta_path.read_bytes())
            if record["schema_version"] > META_VERSION:
                raise StorageError(
                    f"{self.meta_path} was written by a newer swarm", hint="upgrade swarm"
                )
            known = {f.name: record[f.name] for f in fields(RunMeta) if f.name in record}
            if isinstance(known.get("stdin"), dict):
                known["stdin"] = self._stored_stdin(known["stdin"])
            return _checked(RunMeta(**known))
        except OSError as exc:
            raise storage_error("read", self.meta_path, exc) from exc
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise StorageError(
                f"{self.meta_path} is damaged: {exc}", hint=f"ls -l {self.folder}"
            ) from exc

    def _stored_stdin(self, reference: Mapping[str, str]) -> str:
        path = self.folder / "stdin.txt"
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != reference["sha256"]:
            raise ValueError(f"{path} was changed")
        return data.decode("utf-8", "surrogatepass")

    def lock(self) -> AbstractContextManager[None]:
        """Be the only process that works on this run, for the time of a `with`.

        Raises:
            StorageError: another process has it, the folder is not private, or cannot be locked.
        """
        return run_lock.hold(self.folder)

    def locked(self) -> bool:
        """Whether a process works on this run now."""
        return run_lock.is_held(self.folder)


class RunStore:
    """All runs of this user, in `<state>/runs`. Reading creates nothing.

    Args:
        state: the state folder.
        now: the wall clock, for ids.
    """

    def __init__(
        self, state: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._state = state
        self._runs = state / "runs"
        self._now = now

    def create(self, meta: RunMeta) -> RunDir:
        """Make a folder for a new run and store what was asked in it.

        Raises:
            StorageError: it cannot be made.
        """
        private_folder(self._state)
        private_folder(self._runs)
        now = self._now().astimezone(UTC)
        sha256 = hashlib.sha256(meta.recipe_text.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            run = RunDir(self._claim(now))
            try:
                run.out.mkdir(mode=0o700)
                sync_folder(self._runs)
                hit("run.claimed")
                run.write_meta(replace(meta, id=run.id, created=_moment(now), recipe_sha256=sha256))
                hit("run.described")
            except OSError:
                shutil.rmtree(run.folder, ignore_errors=True)
                raise
        except OSError as exc:
            raise storage_error("create a run in", self._runs, exc) from exc
        return run

    def open(self, ref: str) -> RunDir:
        """The run that `ref` means: an id, the end of one, `last`, `-1`, `-2`, ...

        Raises:
            UsageError: there is no such run, or several.
        """
        ids = self._ids()
        if not ids:
            raise UsageError("there are no runs yet", hint="swarm run RECIPE")
        if ref == "last" or re.fullmatch(r"-[1-9]\d{0,8}", ref):
            back = 1 if ref == "last" else int(ref[1:])
            if back > len(ids):
                raise UsageError(f"there is no run {ref}: {len(ids)} are kept", hint="swarm runs")
            return RunDir(self._runs / ids[back - 1])
        matches = [name for name in ids if ref and name.endswith(ref.lower())]
        if len(matches) == 1:
            return RunDir(self._runs / matches[0])
        if matches:
            raise UsageError(f"'{ref}' means several runs: {_few(matches)}", hint="swarm runs")
        raise UsageError(f"there is no run '{ref}'; the newest: {_few(ids)}", hint="swarm runs")

    def list(self) -> tuple[RunSummary, ...]:
        """Every run, newest first; a broken folder is a row with status `unreadable`."""
        return tuple(summary(RunDir(self._runs / name)) for name in self._ids())

    def last_unfinished(self) -> RunDir | None:
        """The newest run that ended short of `ok` and that nobody works on."""
        for name in self._ids():
            run = RunDir(self._runs / name)
            if summary(run).status in RESUMABLE:
                return run
        return None

    def _claim(self, now: datetime) -> Path:
        """A new folder; `mkdir` decides between two who want the same name."""
        while True:
            letters = "".join(_ALPHABET[byte % 32] for byte in os.urandom(4))
            path = self._runs / f"{now:%Y%m%d-%H%M}-{letters}"
            if letters == "last":  # the ref `last` means something else
                continue
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                return path

    def _ids(self) -> tuple[str, ...]:
        """The latest first. The id holds the minute; where runs share one, `created` decides."""
        try:
            names = [path.name for path in self._runs.iterdir() if _ID.fullmatch(path.name)]
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise storage_error("read", self._runs, exc) from exc
        minutes = Counter(name[:13] for name in names)

        def age(name: str) -> tuple[str, str, str]:
            shared = minutes[name[:13]] > 1
            return name[:13], _created(RunDir(self._runs / name)) if shared else "", name

        return tuple(sorted(names, key=age, reverse=True))


def _created(run: RunDir) -> str:
    """When the run was made: by `run.json`, else (not written yet, or damaged) by its folder's time."""
    try:
        created = json.loads(run.meta_path.read_bytes())["created"]
        if isinstance(created, str):
            return created
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    try:
        return _moment(datetime.fromtimestamp(run.folder.stat().st_mtime, UTC))
    except OSError:
        return ""


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _fields(meta: RunMeta) -> dict[str, object]:
    return {f.name: getattr(meta, f.name) for f in fields(meta)}


def _plain(value: object) -> object:
    """What `json` does not know: another kind of mapping, a path."""
    return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else str(value)


def _checked(meta: RunMeta) -> RunMeta:
    """Refuse what a hand or a disk has changed into another type.

    Raises:
        TypeError: naming the field.
    """
    for f in fields(RunMeta):
        value: object = getattr(meta, f.name)
        if f.name in {"params", "options", "models"}:
            good = isinstance(value, dict)
        else:
            good = isinstance(value, str) or (f.name == "stdin" and value is None)
        if not good:
            raise TypeError(f"'{f.name}' has the wrong type")
    if meta.command not in get_args(Command):
        raise TypeError(f"'command' is '{meta.command}'")
    return meta
