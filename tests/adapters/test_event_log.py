"""The recorder: one order for all, nothing shown before it is durable, and an end that loses nothing."""

import asyncio
import threading
from pathlib import Path

import pytest

from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.journal import read_journal
from swarmcli.core.events import (
    AgentCompleted,
    AgentStarted,
    Stamped,
    Warned,
)
from swarmcli.errors import StorageError
from tests.adapters.journals import Display, open_log


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


async def test_a_committed_event_is_on_the_disk(journal: Path) -> None:
    """When `commit` returns, another reader of the file finds the event."""
    log = open_log(journal)
    for number in range(20):
        done = AgentCompleted(agent=f"a{number}", output="x" * (number * 1000))
        await log.commit(done)
        assert read_journal(journal).events[-1].event == done
    await log.close()


async def test_nothing_is_shown_before_it_is_durable(journal: Path) -> None:
    """At the moment a display gets an event, its line is already in the journal."""

    class Auditor(Display):
        def feed(self, stamped: Stamped) -> None:
            super().feed(stamped)
            assert stamped.seq < read_journal(journal).next_seq

    def refuse(_sink: object, exc: Exception) -> None:
        raised.append(exc)

    raised: list[Exception] = []
    display = Auditor()
    log = open_log(journal, display, on_sink_error=refuse)
    for number in range(30):
        log.emit(AgentStarted(agent=f"a{number}", model="m"))
        await log.commit(AgentCompleted(agent=f"a{number}", output="x"))
    await log.close()
    assert raised == []
    assert len(display.shown) == 60


async def test_300_producers_see_one_order(journal: Path) -> None:
    """Displays get all events of 300 concurrent agents in `seq` order, each once, as in the file."""
    display = Display()
    log = open_log(journal, display)

    async def agent(number: int) -> None:
        log.emit(AgentStarted(agent=f"a[{number}]", model="m"))
        await log.commit(AgentCompleted(agent=f"a[{number}]", output=str(number)))
        log.emit(Warned(message=f"after {number}"))

    async with asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(agent(number))
    await log.close()
    assert [s.seq for s in display.shown] == list(range(1, 901))
    assert [s.event for s in read_journal(journal).events] == display.events


async def test_threads_may_emit(journal: Path) -> None:
    """Events from several threads get one order, and none is lost."""
    display = Display()
    log = open_log(journal, display)
    threads = [
        threading.Thread(target=lambda: [log.emit(Warned(message="x")) for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await log.close()
    assert [s.seq for s in display.shown] == list(range(1, 401))
    assert [s.seq for s in read_journal(journal).events] == list(range(1, 401))


async def test_close_flushes_shows_and_closes_once(journal: Path) -> None:
    """After `close` everything is in the file and on the displays, which were closed once."""
    display = Display()
    log = open_log(journal, display)
    for number in range(50):
        log.emit(AgentCompleted(agent=f"a{number}", output="x"))
    await log.close()
    await log.close()
    assert display.closed == 1
    assert display.events == [s.event for s in read_journal(journal).events]
    assert len(list((journal.parent / "out").iterdir())) == 50


async def test_what_comes_after_close_is_dropped(journal: Path) -> None:
    """A late `emit` is ignored; a late `commit` says that it did not happen."""
    log = open_log(journal)
    await log.close()
    log.emit(Warned(message="late"))
    with pytest.raises(StorageError, match="closed"):
        await log.commit(Warned(message="late"))
    assert read_journal(journal).events == []


async def test_a_cancelled_close_has_closed(journal: Path) -> None:
    """A second Ctrl-C during `close` still leaves everything written and the displays closed."""
    display = Display()
    log = open_log(journal, display)
    for _ in range(200):
        log.emit(Warned(message="x"))
    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(log.close())
        await asyncio.sleep(0)
        closing.cancel()
    assert len(read_journal(journal).events) == len(display.shown) == 200
    assert display.closed == 1


def test_a_dead_event_loop_loses_nothing(journal: Path) -> None:
    """`close_now` after the loop is gone writes, shows and closes what was still under way."""
    display = Display()

    async def abandon() -> EventLog:
        log = open_log(journal, display)
        for _ in range(100):
            log.emit(Warned(message="x"))
        return log

    log = asyncio.run(abandon())
    log.close_now()
    assert len(read_journal(journal).events) == len(display.shown) == 100
    assert display.closed == 1


async def test_a_cancelled_commit_harms_nobody(journal: Path) -> None:
    """A task that is cancelled while it waits for the disk leaves a whole journal behind."""
    log = open_log(journal)

    async def committing() -> None:
        await log.commit(Warned(message="cancelled"))

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(committing())
        await asyncio.sleep(0)
        task.cancel()
    await log.commit(Warned(message="next"))
    await log.close()
    assert [s.event.message for s in read_journal(journal).events] == ["cancelled", "next"]


async def test_a_broken_display_stops_nothing(journal: Path) -> None:
    """A sink that raises is reported once and left out; the other displays and the work go on."""

    class Broken(Display):
        def feed(self, stamped: Stamped) -> None:
            raise BrokenPipeError

    broken, display = Broken(), Display()
    reports: list[tuple[object, Exception]] = []
    log = open_log(
        journal, broken, display, on_sink_error=lambda sink, exc: reports.append((sink, exc))
    )
    for _ in range(3):
        await log.commit(Warned(message="x"))
    await log.close()
    assert [(sink, type(exc)) for sink, exc in reports] == [(broken, BrokenPipeError)]
    assert len(display.shown) == 3
