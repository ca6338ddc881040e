"""The run's journal: its format, and reading it.

One line is one event:

    crc32 of the JSON as 8 hex digits, a space, the JSON of `events.to_record` (UTF-8), LF

The JSON begins with `epoch`, which `events.to_record` does not know: the number of the session that
wrote it, from 1 (0 where an older swarm wrote it). A line of an older epoch behind one of a newer was
written by a session that had lost the run, and does not count.

Rule: a kill at any byte leaves at most a torn tail, which the next writer cuts off. A bad line with
good ones after it was not our doing and is refused. An agent's output stands in `out/<agent>.txt`
too; above `journal_writer.INLINE_BYTES` only there, and the line holds its size and SHA-256 instead.
"""

import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from swarmcli.adapters.atomic import storage_error, write_atomic
from swarmcli.core.event_json import from_record
from swarmcli.core.events import SCHEMA_VERSION, Stamped
from swarmcli.errors import StorageError

# --- one line ---


def frame(payload: bytes) -> bytes:
    """One journal line around one JSON object."""
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def unframe(line: bytes) -> bytes | None:
    """The JSON object in a journal line; None when the line is not whole and unchanged."""
    payload = line[9:-1]
    if not (payload.startswith(b"{") and line.endswith(b"}\n")):
        return None
    return payload if line[:9] == b"%08x " % zlib.crc32(payload) else None


def _other(value: object) -> object:
    """A mapping that is no dict, else the text of what JSON has no word for: never no event."""
    return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else str(value)


_EPOCH = re.compile(rb'\{"epoch":(\d{1,9}),')


def epoch_of(payload: bytes) -> int:
    """Which session wrote this JSON object."""
    match = _EPOCH.match(payload)
    return int(match[1]) if match else 0


_JSON, _ASCII_JSON = (
    json.JSONEncoder(ensure_ascii=ascii_only, separators=(",", ":"), default=_other, skipkeys=True)
    for ascii_only in (False, True)
)


def encode(record: Mapping[str, object]) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot hold, turns it all to escapes."""
    try:
        return _JSON.encode(record).encode()
    except UnicodeEncodeError:
        return _ASCII_JSON.encode(record).encode()


def output_name(agent: str) -> str:
    """The file in `out/` for an agent: its id, with everything escaped that a path could abuse."""
    name = re.sub(
        r"^\.|[^A-Za-z0-9_.\[\]-]",
        lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "surrogatepass")),
        agent,
    )
    if len(name) > 150:
        name = f"{name[:120]}~{zlib.crc32(name.encode()):08x}"
    return f"{name}.txt"


# --- reading ---


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRead:
    """What a journal tells."""

    events: list[Stamped]
    """In file order. An `AgentCompleted` whose output is gone or changed is left out."""
    torn: bool
    """It ends in a part of a line: a crash, or a writer at work."""
    next_seq: int
    last_t: float
    """Seconds of work up to the last event; a resumed run counts on from here."""
    problems: tuple[str, ...] = ()
    """What was left out, and why."""


class Scan(NamedTuple):
    """The lines in a piece of a journal."""

    lines: list[tuple[int, bytes]]
    """Number and JSON of each good line."""
    damaged: list[int]
    """Numbers of bad lines that have good ones after them."""
    good_end: int
    """Where the next writer goes on; anything behind it is torn."""


def read_journal(path: Path, *, repair: bool = False) -> JournalRead:
    """Read a run's journal, and its outputs from `out/` beside it. No file: nothing has happened.

    Args:
        path: the journal.
        repair: leave damaged lines out instead of refusing; the damaged file is kept beside it.
            Only under the run's lock.

    Raises:
        StorageError: it cannot be read, is damaged in the middle, or a newer swarm wrote it.
    """
    data = read_bytes(path)
    found = scan(data)
    if found.damaged:
        if not repair:
            raise damage(path, found.damaged[0])
        _set_aside(path, data, found)
    reading = _Reading(path)
    reading.problems += [f"line {n} was damaged and is left out" for n in found.damaged]
    return JournalRead(
        events=reading.take(found.lines),
        torn=found.good_end < len(data),
        next_seq=reading.seq + 1,
        last_t=reading.last_t,
        problems=tuple(reading.problems),
    )


class JournalTail:
    """A journal that grows while it is read. Nothing is written, and nobody is held up.

    Args:
        path: the journal; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = _Reading(path)
        self._offset = 0
        """Behind the last good line."""
        self._lines = 0
        """How many lines that were."""
        self._suspicious = False

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out so far, and why."""
        return tuple(self._reading.problems)

    def read(self) -> list[Stamped]:
        """The events since the last call; half a line waits for its other half.

        Raises:
            StorageError: as for `read_journal`.
        """
        found = scan(read_bytes(self._path, self._offset), lines_before=self._lines)
        if found.damaged:
            # We may have looked while a writer cut off a torn tail and wrote on: look again.
            if self._suspicious:
                raise damage(self._path, found.damaged[0])
            self._suspicious = True
            return []
        self._suspicious = False
        self._offset += found.good_end
        self._lines += len(found.lines)
        return self._reading.take(found.lines)


class _Reading:
    """Turns lines into events, and keeps what is known about them all."""

    def __init__(self, path: Path) -> None:
        self.seq = 0
        self.epoch = 0
        self.last_t = 0.0
        self.problems: list[str] = []
        self._path = path

    def take(self, lines: Iterable[tuple[int, bytes]]) -> list[Stamped]:
        events: list[Stamped] = []
        for number, payload in lines:
            epoch = epoch_of(payload)
            if epoch < self.epoch:
                self.problems.append(
                    f"line {number} is left out: session {epoch} wrote it when {self.epoch} had the run"
                )
                continue
            self.epoch = epoch
            record = decode_record(self._path, number, payload)
            if isinstance(record, str):
                self.problems.append(record)
                continue
            seq = int(record["seq"])
            if seq <= self.seq:
                self.problems.append(
                    f"line {number}: seq {seq} follows {self.seq}; did two processes write?"
                )
            self.seq, self.last_t = max(self.seq, seq), max(self.last_t, float(record["t"]))
            stamped = _event(record, self._path.parent / "out")
            if isinstance(stamped, str):
                self.problems.append(stamped)
            elif stamped is not None:
                events.append(stamped)
        return events


def read_bytes(path: Path, offset: int = 0) -> bytes:
    """The journal from `offset` on; no file is an empty one.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as journal:
            journal.seek(offset)
            return journal.read()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        raise storage_error("read", path, exc) from exc


def scan(data: bytes, *, lines_before: int = 0) -> Scan:
    """Tell good lines from bad ones."""
    lines: list[tuple[int, bytes]] = []
    bad: list[int] = []
    end = good_end = 0
    for number, line in enumerate(io.BytesIO(data), lines_before + 1):
        end += len(line)
        payload = unframe(line)
        if payload is None:
            bad.append(number)
        else:
            lines.append((number, payload))
            good_end = end
    last = lines[-1][0] if lines else 0
    return Scan(lines, [n for n in bad if n < last], good_end)


def damage(path: Path, line: int) -> StorageError:
    """The error for a bad line that has good ones after it."""
    return StorageError(
        f"{path}:{line}: the line is damaged, and good ones follow: this was no crash of swarm",
        hint="to go on with the good lines, add --repair",
    )


def _set_aside(path: Path, data: bytes, found: Scan) -> None:
    write_atomic(path.with_name(f"{path.name}.damaged"), data, mode=0o600)
    write_atomic(path, b"".join(frame(payload) for _, payload in found.lines))


def decode_record(path: Path, number: int, payload: bytes) -> dict[str, Any] | str:
    """The record of a line, or why it is none.

    Raises:
        StorageError: a newer swarm wrote it.
    """
    try:
        record = cast("dict[str, Any]", json.loads(payload))
        version, _, _ = record["v"], int(record["seq"]), float(record["t"])
        newer = version > SCHEMA_VERSION
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        return f"line {number} is no event: {exc!r}"
    if newer:
        raise StorageError(
            f"{path}:{number}: a newer swarm wrote this (events version {version})",
            hint="upgrade swarm to use this run",
        )
    return record


def _event(record: dict[str, Any], out: Path) -> Stamped | str | None:
    """The event of a record, None for a type we do not know, or why it does not count."""
    if "output_sha256" in record:
        output = _stored_output(record, out)
        if output is None:
            agent = record.get("agent")
            return f"{agent}: its output in {out} is gone or changed; it counts as not finished"
        record["output"] = output
    try:
        return from_record(record)
    except (KeyError, TypeError, ValueError) as exc:
        return f"event {record['seq']} cannot be understood: {exc!r}"


def _stored_output(record: Mapping[str, Any], out: Path) -> str | None:
    try:
        data = (out / output_name(str(record.get("agent")))).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != record["output_sha256"]:
        return None
    return data.decode("utf-8", "surrogatepass")
