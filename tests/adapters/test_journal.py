"""The format of a journal, and reading it: whole, torn, damaged, foreign, and while it grows."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swarmcli.adapters.journal import JournalTail, frame, read_journal
from swarmcli.adapters.journal_writer import INLINE_BYTES
from swarmcli.core.events import (
    AgentCompleted,
    CallCompleted,
    Event,
    Failure,
    PlanReady,
    PlanTask,
    RunFailed,
    RunStarted,
    Stamped,
    Usage,
    Warned,
)
from swarmcli.errors import StorageError
from tests.adapters.journals import ROOT, RUN, StillClock, line, open_log


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def put(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"".join(lines))


STORY: list[Event] = [
    RunStarted(recipe="audit", models={"small": "openai/gpt-5-mini"}, max_cost_usd=2.0),
    PlanTask(agent="scan[0]", group="scan", prompt="Review", depends_on=("list", "read")),
    PlanReady(tasks=1, plan={"version": 1, "tasks": [{"id": "scan"}]}),
    AgentCompleted(
        agent="scan[0]",
        output="naïve \udcff 🐝\r\n\x00\u2028",
        tokens=Usage(input_tokens=3, output_tokens=5),
        claims=[{"key": "k", "value": 1}],
    ),
    CallCompleted(model="m", purpose="agent", seconds=0.5, cost_usd=0.01, agent="scan[0]"),
    RunFailed(status="failed", exit_code=1, error=Failure(kind="server", message="502")),
]


async def test_what_was_recorded_is_read_back(journal: Path) -> None:
    """Every event comes back equal, numbered from 1, with UTC milliseconds and the clock's time."""
    clock = StillClock(50.0)
    log = open_log(journal, clock=clock, now=lambda: datetime(2026, 11, 21, 9, 15, tzinfo=UTC))
    for event in STORY:
        log.emit(event)
        await clock.sleep(1.5)
    await log.close()
    read = read_journal(journal)
    assert [s.event for s in read.events] == STORY
    assert [s.seq for s in read.events] == [1, 2, 3, 4, 5, 6]
    assert [s.t for s in read.events] == [0.0, 1.5, 3.0, 4.5, 6.0, 7.5]
    assert {(s.ts, s.run) for s in read.events} == {("2026-11-21T09:15:00.000Z", RUN)}
    assert (read.torn, read.next_seq, read.last_t, read.problems) == (False, 7, 7.5, ())


async def test_a_journal_is_utf8_and_private(journal: Path) -> None:
    """Text stays readable in the file, also beside a lone surrogate; only the owner can read it."""
    log = open_log(journal)
    log.emit(Warned(message="grüße 🐝"))
    log.emit(Warned(message="half \ud83d"))
    await log.close()
    assert "grüße 🐝" in text_of(journal)
    assert mode_of(journal) == 0o600
    assert mode_of(journal.parent / "out") == 0o700


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
async def test_an_output_that_changed_does_not_count(journal: Path, harm: str) -> None:
    """An agent whose stored output is gone or changed is not finished; the others are."""
    log = open_log(journal)
    for name in ("one", "two"):
        await log.commit(AgentCompleted(agent=name, output=name * INLINE_BYTES))
    await log.close()
    stored = journal.parent / "out" / "one.txt"
    if harm == "gone":
        stored.unlink()
    else:
        stored.write_text("two" * INLINE_BYTES if harm == "changed" else "one" * (INLINE_BYTES - 1))
    read = read_journal(journal)
    assert [s.event.agent for s in read.events] == ["two"]
    assert read.next_seq == 3
    assert len(read.problems) == 1
    assert read.problems[0].startswith("one: its output")


async def test_a_resumed_run_goes_on_in_the_same_journal(journal: Path) -> None:
    """`seq` and `t` count on over sessions, and a torn tail is cut off before the first new line."""
    log = open_log(journal, clock=(clock := StillClock()))
    await clock.sleep(4.0)
    await log.commit(Warned(message="first"))
    await log.close()
    with journal.open("ab") as file:
        file.write(b'0badc0de {"v":1,"seq":2,"ty')
    assert read_journal(journal).torn
    again = open_log(journal, clock=(later := StillClock(9000.0)))
    await later.sleep(1.0)
    await again.commit(Warned(message="second"))
    await again.close()
    read = read_journal(journal)
    assert [(s.seq, s.t, s.event.message) for s in read.events] == [
        (1, 4.0, "first"),
        (2, 5.0, "second"),
    ]
    assert not read.torn


def test_no_journal_means_that_nothing_happened(journal: Path) -> None:
    """A run that was killed before its first event reads as empty."""
    assert read_journal(journal).events == []
    assert read_journal(journal).next_seq == 1


async def test_damage_in_the_middle_is_refused(journal: Path) -> None:
    """A bad line with good ones after it names its line and `--repair`, for readers and writers."""
    put(journal, line(1), line(2).replace(b'"2"', b'"X"'), line(3))
    with pytest.raises(StorageError, match=r"journal\.jsonl:2: ") as reading:
        read_journal(journal)
    with pytest.raises(StorageError, match=r"journal\.jsonl:2: "):
        open_log(journal)
    assert "--repair" in reading.value.hint


async def test_repair_keeps_the_good_lines_and_the_damaged_file(journal: Path) -> None:
    """Repairing leaves the bad line out, says so, keeps the original, and the run can go on."""
    put(journal, line(1), b"garbage\n", line(3))
    damaged = text_of(journal)
    read = read_journal(journal, repair=True)
    assert [s.seq for s in read.events] == [1, 3]
    assert read.problems == ("line 2 was damaged and is left out",)
    assert text_of(journal.parent / "journal.jsonl.damaged") == damaged
    log = open_log(journal)
    await log.commit(Warned(message="on"))
    await log.close()
    assert [s.seq for s in read_journal(journal).events] == [1, 3, 4]


def test_what_a_newer_swarm_added_is_skipped(journal: Path) -> None:
    """Unknown event types and unknown fields do not disturb; `seq` still counts them."""
    put(journal, line(1, shiny=True), line(2, type="agent.teleported"))
    read = read_journal(journal)
    assert [s.event for s in read.events] == [Warned(message="1")]
    assert (read.next_seq, read.problems) == (3, ())


def test_a_newer_major_version_is_refused(journal: Path) -> None:
    """A journal with a higher `v` is not guessed at."""
    put(journal, line(1), line(2, v=2))
    with pytest.raises(StorageError, match="newer swarm"):
        read_journal(journal)


def test_strange_records_are_reported_not_raised(journal: Path) -> None:
    """Lines with a good checksum that are no events, or go back in `seq`, become problems."""
    put(journal, line(5), frame(b'{"v":1}'), line(6, type="agent.started"), line(5))
    read = read_journal(journal)
    assert [s.seq for s in read.events] == [5, 5]
    assert read.next_seq == 7
    assert len(read.problems) == 3


def messages(read: list[Stamped]) -> list[str]:
    return [stamped.event.message for stamped in read]


def test_a_growing_journal_is_read_as_it_grows(journal: Path) -> None:
    """Each look gives what is new, once: before there is a file, after each line, at rest."""
    tail = JournalTail(journal)
    assert tail.read() == []
    put(journal, line(1), line(2))
    assert messages(tail.read()) == ["1", "2"]
    assert tail.read() == []
    put(journal, line(1), line(2), line(3))
    assert messages(tail.read()) == ["3"]
    assert tail.problems == ()


def test_a_line_that_comes_in_pieces_is_read_when_it_is_whole(journal: Path) -> None:
    """Wherever a writer is interrupted by a reader, each event is read once and in order."""
    whole = b"".join(line(n, message="ß" * n) for n in range(1, 5))
    for first in range(len(whole) + 1):
        second = (first + len(whole)) // 2
        tail = JournalTail(journal)
        seen: list[Stamped] = []
        for end in (first, second, len(whole)):
            journal.write_bytes(whole[:end])
            seen += tail.read()
        assert [stamped.seq for stamped in seen] == [1, 2, 3, 4]
        assert tail.problems == ()


@pytest.mark.parametrize("torn", [b"0badc0de {", b"garbage\n", b"\0" * 900, line(2)[:-1]])
def test_a_torn_tail_gives_way_to_the_next_session(journal: Path, torn: bytes) -> None:
    """What a crash left is not read, and the lines that a resumed run writes over it are."""
    tail = JournalTail(journal)
    put(journal, line(1), torn)
    assert messages(tail.read()) == ["1"]
    assert tail.read() == []
    put(journal, line(1), line(2), line(3))
    assert messages(tail.read()) == ["2", "3"]


def test_a_look_into_the_middle_of_a_repair_is_no_damage(journal: Path) -> None:
    """A reader that sees half of a torn tail and the lines behind it looks again before it says so."""
    tail = JournalTail(journal)
    put(journal, line(1), b"torn", line(2), line(3))
    assert tail.read() == []
    put(journal, line(1), line(2), line(3))
    assert messages(tail.read()) == ["1", "2", "3"]


def test_damage_in_a_growing_journal_is_refused(journal: Path) -> None:
    """A bad line that stays, with good ones after it, is named by its number in the whole file."""
    tail = JournalTail(journal)
    put(journal, line(1), line(2))
    tail.read()
    put(journal, line(1), line(2), line(3), b"garbage\n", line(4))
    assert tail.read() == []
    with pytest.raises(StorageError, match=r"journal\.jsonl:4: "):
        tail.read()


async def test_outputs_beside_a_growing_journal_are_read(journal: Path) -> None:
    """A large output comes with its event; one that is gone is a problem and not an end."""
    log = open_log(journal)
    tail = JournalTail(journal)
    for name in ("one", "two"):
        await log.commit(AgentCompleted(agent=name, output=name * INLINE_BYTES))
        if name == "two":
            (journal.parent / "out" / "two.txt").unlink()
        seen = [stamped.event for stamped in tail.read()]
        assert [event.agent for event in seen] == (["one"] if name == "one" else [])
    await log.close()
    assert seen == []
    assert [problem.partition(":")[0] for problem in tail.problems] == ["two"]


def test_the_edges_on_disk_are_cheap_to_import() -> None:
    """`swarm runs`, completion and `--help` never pay for the libraries of a run."""
    heavy = [
        "asyncio",
        "litellm",
        "openai",
        "pydantic",
        "jinja2",
        "yaml",
        "rich",
        "typer",
        "diskcache",
    ]
    code = (
        "import sys, json\n"
        "from swarmcli.adapters import atomic, event_log, folders, journal, runs, settings\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout) == []
