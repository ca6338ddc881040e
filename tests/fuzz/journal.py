"""Any bytes as a journal: its events are read, or it is refused; only files in its own folder are opened.

The first byte of an input chooses: even, the rest is the file as it is; odd, each line of the rest gets its checksum
and counts as written, so that the fuzzer reaches what lies behind it.
"""

import atexit
import codecs
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is started as a script, too

from tests.fuzz.target import fuzz, instrumented

with instrumented(__name__):
    from swarmcli.adapters.journal import JournalTail, frame, read_journal
    from swarmcli.core.replay import replay
    from swarmcli.errors import StorageError


class _Opened:
    """Which files are opened while it looks. An audit hook cannot be removed, so it is told when to look."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.looks = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.looks and event == "open" and isinstance(arguments[0], str | bytes):
            self.paths.append(os.fsdecode(arguments[0]))

    def __enter__(self) -> list[str]:
        self.paths, self.looks = [], True
        return self.paths

    def __exit__(self, *_: object) -> None:
        self.looks = False


OPENED = _Opened()
# `json` guesses the encoding of bytes, and a codec is a file of Python's own.
for codec in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
    codecs.lookup(codec)


def _folder() -> Path:
    """In memory where that is possible; removed at the end."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    where = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="swarm-fuzz-", dir=where))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


FOLDER = _folder()


def read(data: bytes) -> None:
    """Read a journal at once, and as it grows; repair it; replay what it tells."""
    kind, rest = data[:1] or b"\0", data[1:]
    text = b"".join(frame(line) for line in rest.split(b"\n")) if kind[0] % 2 else rest
    run = FOLDER / "run"
    shutil.rmtree(run, ignore_errors=True)
    (run / "out").mkdir(parents=True)
    (run / "out" / "a.txt").write_bytes(b"hello")
    with OPENED as paths:
        _read_all(run / "journal.jsonl", text)
    outside = [path for path in paths if not _is_inside(path, run)]
    assert not outside, outside


def _is_inside(path: str, run: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(run) and ".." not in Path(path).parts


def _read_all(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    try:
        whole = read_journal(path)
    except StorageError:
        whole = None
    if whole is not None:
        replay(stamped.event for stamped in whole.events)
        assert whole.last_t >= 0
        assert whole.next_seq > 0
    _grow(path, text, None if whole is None else len(whole.events))
    _repair(path)


def _grow(path: Path, text: bytes, events: int | None) -> None:
    """A reader that follows sees what a later one sees."""
    tail, seen = JournalTail(path), 0
    try:
        for end in (len(text) // 3, len(text) // 2, len(text)):
            path.write_bytes(text[:end])
            seen += len(tail.read())
        tail.read()
    except StorageError:
        return
    assert events is None or seen == events, (seen, events)


def _repair(path: Path) -> None:
    """What was repaired needs no repair."""
    try:
        once = read_journal(path, repair=True)
        again = read_journal(path)
    except StorageError:
        return
    assert len(once.events) == len(again.events)


if __name__ == "__main__":
    fuzz(read)
