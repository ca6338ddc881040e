"""The runs on disk: one folder each, named by an id that people can read and type.

Rule: `run.json` says what was asked and never changes its mind about how it went; that is read from
the journal's last event and the lock. Nothing here raises for one broken folder among many.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from swarmcli.adapters.atomic import storage_error, sync_folder, write_atomic
from swarmcli.adapters.folders import private_folder
from swarmcli.adapters.journal import unframe
from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    CallCompleted,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from swarmcli.errors import StorageError, UsageError
from swarmcli.recipe.values import Json

Command = Literal["run", "solve", "map"]
RunStatus = Literal[
    "running",
    "ok",
    "partial",
    "failed",
    "interrupted",
    "budget",
    "timeout",
    "crashed",  # it has no end, and nobody works on it
    "unreadable",
]
RESUMABLE: frozenset[str] = frozenset(get_args(RunStatus)) - {"running", "ok", "unreadable"}

META_VERSION = 1
STDIN_INLINE = 64 * 1024
"""Longer input stands in `stdin.txt` beside `run.json`."""

_ID = re.compile(r"\d{8}-\d{4}-[a-z2-7]{4}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ENDS = {RunCompleted.type, RunFailed.type, RunInterrupted.type}
_AGENT_STATES = {
    AgentCompleted.type: "done",
    AgentFailed.type: "failed",
    AgentSkipped.type: "skipped",
    AgentCancelled.type: "cancelled",
}
_COUNTED = re.compile(
    rb'"type":"(?:plan\.task|call\.completed|agent\.(?:completed|failed|skipped|cancelled))"'
)
_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.01


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
    version: str = ""
    cwd: str = ""
    id: str = ""
    created: str = ""
    """RFC 3339, UTC, microseconds: the order of runs that share a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCounts:
    """How far a run came."""

    total: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One row of `swarm runs`."""

    id: str
    recipe: str
    status: RunStatus
    started: str
    duration_s: float | None = None
    agents: AgentCounts = AgentCounts()
    cost_usd: float | None = None
    """None when a price is unknown."""
    problem: str = ""
    """Why it is unreadable."""


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

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Be the only process that works on this run. The kernel lets go when the process dies.

        Raises:
            StorageError: another process has it, the folder is not private, or cannot be locked.
        """
        private_folder(self.folder)
        path = self.folder / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise storage_error("lock", path, exc) from exc
        try:
            self._acquire(fd)
            with contextlib.suppress(OSError):  # only for the message; the lock holds without
                os.ftruncate(fd, 0)
                os.pwrite(fd, _holder().encode(), 0)
            yield
        finally:
            os.close(fd)

    def locked(self) -> bool:
        """Whether a process works on this run now."""
        try:
            fd = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
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

    def _acquire(self, fd: int) -> None:
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # `locked` of a `swarm runs` that passes by holds it for an instant.
                if attempt < _LOCK_TRIES - 1:
                    time.sleep(_LOCK_PAUSE_S)
            except OSError as exc:
                raise StorageError(
                    f"cannot lock {self.folder}: {exc.strerror}",
                    hint="some network disks have no locks; set SWARM_HOME to a local folder",
                ) from exc
            else:
                return
        who = os.pread(fd, 400, 0).decode("utf-8", "replace").strip() or "another process"
        raise StorageError(
            f"run {self.id} is in use by {who}", hint=f"to look on: swarm watch {self.id}"
        )


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
        try:
            run = RunDir(self._claim(now))
            run.out.mkdir(mode=0o700)
            sync_folder(self._runs)
        except OSError as exc:
            raise storage_error("create a run in", self._runs, exc) from exc
        sha256 = hashlib.sha256(meta.recipe_text.encode("utf-8", "surrogatepass")).hexdigest()
        created = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        run.write_meta(replace(meta, id=run.id, created=created, recipe_sha256=sha256))
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
        """Newest first. The id holds the minute; only where runs share one is `created` read."""
        try:
            names = [path.name for path in self._runs.iterdir() if _ID.fullmatch(path.name)]
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise storage_error("read", self._runs, exc) from exc
        minutes = Counter(name[:13] for name in names)

        def age(name: str) -> tuple[str, str]:
            shared = minutes[name[:13]] > 1
            return name[:13], _created(RunDir(self._runs / name)) if shared else ""

        return tuple(sorted(names, key=age, reverse=True))


def summary(run: RunDir) -> RunSummary:
    """How a run went, from both ends of its journal; only an unfinished one is read whole."""
    try:
        meta = run.read_meta()
        recipe, course = _history(run)
    except StorageError as exc:
        return RunSummary(
            id=run.id,
            recipe="",
            status="unreadable",
            started=_minute(run.id),
            problem=exc.message,
        )
    return RunSummary(
        id=run.id,
        recipe=recipe or meta.recipe_source,
        status=course.status,
        started=meta.created,
        duration_s=course.duration_s,
        agents=course.agents,
        cost_usd=course.cost_usd,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    status: RunStatus
    duration_s: float | None = None
    agents: AgentCounts = AgentCounts()
    cost_usd: float | None = None


def _history(run: RunDir) -> tuple[str, _Course]:
    """The recipe's name and the run's course; a run without a journal did nothing yet."""
    # The lock first: a run that ends between the two looks is then seen at its end.
    unfinished: RunStatus = "running" if run.locked() else "crashed"
    try:
        with run.journal.open("rb") as journal:
            first = _record(journal.readline())
            last = _last_record(journal)
            ended = last.get("type") in _ENDS
            course = _ended(last) if ended else _tally(journal, last, unfinished)
    except FileNotFoundError:
        return "", _Course(status=unfinished)
    except OSError as exc:
        raise storage_error("read", run.journal, exc) from exc
    recipe = first.get("recipe") if first.get("type") == RunStarted.type else None
    return str(recipe or ""), course


def _record(line: bytes) -> dict[str, Any]:
    """The event in a journal line; empty when there is none."""
    payload = unframe(line)
    if payload is None:
        return {}
    try:
        return cast("dict[str, Any]", json.loads(payload))
    except (ValueError, RecursionError):
        return {}


def _last_record(journal: io.BufferedReader) -> dict[str, Any]:
    """The last whole event of a journal, from a window at its end that grows until it holds one."""
    size = journal.seek(0, os.SEEK_END)
    window = 64 * 1024
    while True:
        start = max(0, size - window)
        journal.seek(start)
        lines = list(io.BytesIO(journal.read(size - start)))
        for line in reversed(lines[1:] if start else lines):
            record = _record(line)
            if record:
                return record
        if not start:
            return {}
        window *= 8


def _ended(end: Mapping[str, Any]) -> _Course:
    status = end.get("status")
    totals = _mapping(end.get("totals"))
    counts = _mapping(totals.get("agents"))
    known = {f.name: int(_number(counts.get(f.name)) or 0) for f in fields(AgentCounts)}
    return _Course(
        status=cast("RunStatus", status) if status in RESUMABLE | {"ok"} else "failed",
        duration_s=_number(totals.get("duration_s", end.get("t"))),
        agents=AgentCounts(**known),
        cost_usd=_number(totals.get("cost_usd")),
    )


def _tally(journal: io.BufferedReader, last: Mapping[str, Any], status: RunStatus) -> _Course:
    """Count what an unfinished run has done; events that do not count are not even parsed."""
    states: dict[str, str] = {}
    cached: set[str] = set()
    cost: float | None = 0.0
    journal.seek(0)
    for line in journal:
        if not _COUNTED.search(line, 0, 300):
            continue
        record = _record(line)
        agent, kind = str(record.get("agent")), record.get("type")
        if kind == PlanTask.type:
            states.setdefault(agent, "waiting")
        elif kind == CallCompleted.type:
            spent = _number(record.get("cost_usd"))
            cost = None if cost is None or spent is None else cost + spent
        elif kind in _AGENT_STATES:
            states[agent] = _AGENT_STATES[kind]
            if record.get("cached") is True:
                cached.add(agent)
    tally = Counter(states.values())
    return _Course(
        status=status,
        duration_s=_number(last.get("t")),
        agents=AgentCounts(
            total=len(states),
            done=tally["done"],
            failed=tally["failed"],
            skipped=tally["skipped"],
            cached=len(cached),
        ),
        cost_usd=cost,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _minute(run_id: str) -> str:
    """When a run began, as far as its id tells."""
    return f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T{run_id[9:11]}:{run_id[11:13]}:00Z"


def _created(run: RunDir) -> str:
    try:
        return run.read_meta().created
    except StorageError:
        return ""


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _holder() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {os.uname().nodename} (since {since})\n"


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
        if f.name in {"params", "options"}:
            good = isinstance(value, dict)
        else:
            good = isinstance(value, str) or (f.name == "stdin" and value is None)
        if not good:
            raise TypeError(f"'{f.name}' has the wrong type")
    if meta.command not in get_args(Command):
        raise TypeError(f"'command' is '{meta.command}'")
    return meta
