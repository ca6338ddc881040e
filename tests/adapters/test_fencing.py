"""One session at a time owns a run: epochs in the journal, and a writer that notices that it has lost it."""

import json
from pathlib import Path

import pytest

from swarmcli.adapters.journal import JournalTail, frame, read_journal, unframe
from swarmcli.adapters.journal_writer import INLINE_BYTES
from swarmcli.core.event_json import to_record
from swarmcli.core.events import AgentCompleted, Warned
from swarmcli.errors import StorageError
from tests.adapters.journals import Display, line, open_log


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def put(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"".join(lines))


def epochs(path: Path) -> list[int]:
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(unframe(text) or b"{}")["epoch"] for text in lines]


def in_epoch(epoch: int, seq: int, **fields: object) -> bytes:
    """A line as session `epoch` writes it."""
    record = json.loads(unframe(line(seq, **fields)) or b"")
    return frame(json.dumps({"epoch": epoch, **record}, separators=(",", ":")).encode())


def messages(path: Path) -> list[str]:
    return [stamped.event.message for stamped in read_journal(path).events]


async def session(path: Path, *texts: str) -> None:
    log = open_log(path)
    for text in texts:
        await log.commit(Warned(message=text))
    await log.close()


async def test_each_session_has_the_next_epoch(journal: Path) -> None:
    """It stands in every line of the journal, and in nothing that a display gets."""
    display = Display()
    for number in range(3):
        log = open_log(journal, display)
        await log.commit(Warned(message=f"s{number}"))
        await log.commit(Warned(message=f"s{number} again"))
        await log.close()

    assert [1, 1, 2, 2, 3, 3] == epochs(journal)
    assert [1, 2, 3, 4, 5, 6] == [s.seq for s in read_journal(journal).events]
    assert all("epoch" not in to_record(stamped) for stamped in display.shown)


async def test_a_journal_without_epochs_is_read_and_continued(journal: Path) -> None:
    """An older swarm wrote it: its lines are those of session 0."""
    put(journal, line(1), line(2))
    await session(journal, "new")

    assert ["1", "2", "new"] == messages(journal)
    assert ["1", "2", "new"] == [s.event.message for s in JournalTail(journal).read()]
    assert () == read_journal(journal).problems
    assert b'{"epoch":1,"v":1,"seq":3,' in content(journal)


def test_lines_of_a_session_that_had_lost_the_run_do_not_count(journal: Path) -> None:
    """They are told, and neither their numbers nor their times disturb what follows."""
    stale = in_epoch(1, 900, t=9e9)
    put(journal, in_epoch(1, 1), in_epoch(2, 2), stale, in_epoch(2, 3), line(901))
    read = read_journal(journal)

    assert ["1", "2", "3"] == [s.event.message for s in read.events]
    assert (4, 0.5) == (read.next_seq, read.last_t)
    assert ["line 3 is left out: session 1 wrote it", "line 5 is left out: session 0 wrote it"] == [
        problem.partition(" when")[0] for problem in read.problems
    ]


async def test_a_stale_line_at_the_end_does_not_set_the_next_session_back(journal: Path) -> None:
    """Epoch and number go on from the newest session, not from the last line."""
    put(journal, in_epoch(1, 1), in_epoch(4, 2), in_epoch(1, 900, t=9e9))
    await session(journal, "next")

    assert [1, 4, 1, 5] == epochs(journal)
    read = read_journal(journal)
    assert ([1, 2, 3], "next") == ([s.seq for s in read.events], read.events[-1].event.message)
    assert read.last_t < 1e9


async def test_a_writer_that_finds_foreign_lines_stops(journal: Path) -> None:
    """Its commits fail with the reason; not a byte of the other session is touched, also not at its end."""
    failures: list[StorageError] = []
    stale = open_log(journal, on_failure=failures.append)
    await stale.commit(Warned(message="mine"))
    await session(journal, "the new owner's")
    there = content(journal)

    for _ in range(2):
        with pytest.raises(StorageError, match="this one has lost the run") as caught:
            await stale.commit(Warned(message="too late"))
    stale.emit(Warned(message="too late as well"))
    await stale.close()

    assert "swarm watch" in caught.value.hint
    assert 1 == len(failures)
    assert there == content(journal)
    assert ["mine", "the new owner's"] == messages(journal)


async def test_a_stale_writer_leaves_the_outputs_of_the_new_one(journal: Path) -> None:
    """Large and small ones: the file of an agent is the one that the journal means."""
    stale = open_log(journal)
    await stale.commit(Warned(message="mine"))
    large = "n" * (INLINE_BYTES + 1)
    log = open_log(journal)
    await log.commit(AgentCompleted(agent="a", output=large))
    await log.close()

    for output in ("o" * (INLINE_BYTES + 1), "small"):
        with pytest.raises(StorageError):
            await stale.commit(AgentCompleted(agent="a", output=output))
    await stale.close()

    assert large.encode() == content(journal.parent / "out" / "a.txt")
    assert large == read_journal(journal).events[-1].event.output


@pytest.mark.parametrize("how", ["removed", "replaced", "cut"])
async def test_a_journal_that_changes_under_its_writer_stops_it(journal: Path, how: str) -> None:
    """Removed, replaced (as a repair does) or cut: what is committed now could not be found again."""
    log = open_log(journal)
    await log.commit(Warned(message="one"))
    before = content(journal)
    change(journal, how)

    with pytest.raises(StorageError, match="has lost the run"):
        await log.commit(Warned(message="two"))
    await log.close()

    assert {"removed": None, "replaced": before, "cut": b""}[how] == content(journal)


def change(journal: Path, how: str) -> None:
    before = journal.read_bytes()
    if how == "cut":
        journal.write_bytes(b"")
        return
    journal.unlink()
    if how == "replaced":
        journal.write_bytes(before)
