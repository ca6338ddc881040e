"""The journal's writing end: what stands where, and when it is synced."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from swarmcli.adapters import journal_writer
from swarmcli.adapters.journal import output_name, read_journal, unframe
from swarmcli.adapters.journal_writer import INLINE_BYTES
from swarmcli.core.events import (
    AgentCompleted,
    Stamped,
    Warned,
)
from swarmcli.errors import StorageError
from tests.adapters.journals import Display, open_log


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def lines_of(path: Path) -> list[dict]:
    payloads = [unframe(line) for line in path.read_bytes().splitlines(keepends=True)]
    assert None not in payloads
    return [json.loads(payload) for payload in payloads]


async def test_large_outputs_stand_beside_the_journal(journal: Path) -> None:
    """Above 64 KiB the journal refers to `out/`; below, it holds the output; `out/` has them all."""
    small, large = "s" * 65_536, "ß" * 32_769
    log = open_log(journal)
    await log.commit(AgentCompleted(agent="small", output=small))
    await log.commit(AgentCompleted(agent="large[3]", output=large))
    await log.close()
    first, second = lines_of(journal)
    assert first["output"] == small
    assert "output" not in second
    assert second["output_bytes"] == 65_538
    assert len(second["output_sha256"]) == 64
    assert (journal.parent / "out" / "small.txt").read_text() == small
    assert (journal.parent / "out" / "large[3].txt").read_text() == large
    assert [s.event.output for s in read_journal(journal).events] == [small, large]


@pytest.mark.parametrize(
    "agent", ["../../evil", "/etc/evil", ".hidden", "a/b", "x" * 400, "\udcff", "..", "nul\0"]
)
async def test_no_agent_id_leaves_the_folder(journal: Path, agent: str) -> None:
    """Whatever an agent is called, its output is one file in `out/`, and is found again."""
    log = open_log(journal)
    await log.commit(AgentCompleted(agent=agent, output="x" * (INLINE_BYTES + 1)))
    await log.close()
    files = [path for path in journal.parent.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([journal, journal.parent / "out" / output_name(agent)])
    assert read_journal(journal).events[0].event.agent == agent


async def test_an_event_that_json_cannot_hold_fails_alone(journal: Path) -> None:
    """Claims that contain themselves fail their own commit; the journal goes on."""
    circle: list = []
    circle.append(circle)
    log = open_log(journal)
    with pytest.raises(StorageError, match=r"agent\.completed"):
        await log.commit(AgentCompleted(agent="a", output="x", claims=circle))
    await log.commit(Warned(message="next"))
    await log.close()
    assert log.failed is None
    assert [s.event.message for s in read_journal(journal).events] == ["next"]


class Disk:
    """Stands in for `fdatasync`: does it, remembers it, and fails when told to."""

    def __init__(self, fail_at: int = 0) -> None:
        self.calls: list[int] = []
        self.fail_at = fail_at

    def __call__(self, fd: int) -> None:
        self.calls.append(fd)
        if len(self.calls) == self.fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(fd)


async def test_one_sync_serves_all_who_wait(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of one moment share few syncs."""
    disk = Disk()
    monkeypatch.setattr(journal_writer, "_sync_data", disk)
    log = open_log(journal)
    async with asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(log.commit(Warned(message=str(number))))
    assert 1 <= len(disk.calls) <= 60
    await log.close()


async def test_what_nobody_waits_for_is_synced_once(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that were only emitted are shown without a sync; `close` makes them durable."""

    class Awaited(Display):
        def feed(self, stamped: Stamped) -> None:
            super().feed(stamped)
            if len(self.shown) == 300:
                all_shown.set()

    all_shown = asyncio.Event()
    disk = Disk()
    monkeypatch.setattr(journal_writer, "_sync_data", disk)
    log = open_log(journal, Awaited())
    for _ in range(300):
        log.emit(Warned(message="x"))
    await all_shown.wait()
    assert disk.calls == []
    await log.close()
    assert len(disk.calls) == 1
    assert log.unflushed == ()


async def test_much_that_nobody_waits_for_is_synced_at_last(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in memory until a sync is bounded: large amounts are synced by themselves."""
    disk = Disk()
    monkeypatch.setattr(journal_writer, "_sync_data", disk)
    log = open_log(journal)
    for _ in range(4):
        log.emit(Warned(message="x" * journal_writer.UNSYNCED_BYTES))
    await log.close()
    assert disk.calls
    assert log.unflushed == ()


async def test_a_failed_sync_is_not_repeated_as_if_it_had_worked(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After EIO nothing claims success; at the end all since the last good sync is written anew.

    The kernel may have dropped the pages, and a second sync of the same file would say "fine".
    """
    disk = Disk(fail_at=2)
    monkeypatch.setattr(journal_writer, "_sync_data", disk)
    failures: list[StorageError] = []
    log = open_log(journal, on_failure=failures.append)
    await log.commit(Warned(message="safe"))
    for _ in range(3):
        with pytest.raises(StorageError, match="Input/output error") as caught:
            await log.commit(Warned(message="lost?"))
    assert caught.value.hint
    assert len(failures) == 1
    assert len(disk.calls) == 2
    assert [s.event.message for s in log.unflushed][:1] == ["lost?"]
    await log.close()
    assert set(disk.calls[2:]).isdisjoint(disk.calls[:2])
    assert log.unflushed == ()
    read = read_journal(journal)
    assert [s.event.message for s in read.events] == ["safe", "lost?", "lost?", "lost?"]
    assert [s.seq for s in read.events] == [1, 2, 3, 4]
    assert read.problems == ()


async def test_a_failing_commit_does_not_pile_up_tracebacks(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many tasks that fail together gets an error of its own."""
    monkeypatch.setattr(journal_writer, "_sync_data", Disk(fail_at=1))
    log = open_log(journal)
    errors: list[StorageError] = []

    async def agent() -> None:
        try:
            await log.commit(Warned(message="x"))
        except StorageError as exc:
            errors.append(exc)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(agent())
    await log.close()
    assert len(set(map(id, errors))) == 20
    assert {error.errno for error in errors} == {errno.EIO}
