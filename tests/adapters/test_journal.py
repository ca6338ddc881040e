"""The journal against real files, real processes, real limits."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swarmcli.adapters import journal as journal_module
from swarmcli.adapters.journal import EventLog, frame, output_name, read_journal, unframe
from swarmcli.core.events import (
    AgentCompleted,
    AgentStarted,
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

ROOT = Path(__file__).parents[2]
RUN = "20261121-0915-7k3f"


class StillClock:
    """Time that stands where a test puts it."""

    def __init__(self, at: float = 100.0) -> None:
        self.at = at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Display:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.shown: list[Stamped] = []
        self.closed = 0

    def feed(self, stamped: Stamped) -> None:
        self.shown.append(stamped)

    def close(self) -> None:
        self.closed += 1

    @property
    def events(self) -> list[Event]:
        return [stamped.event for stamped in self.shown]


def open_log(path: Path, *sinks: object, clock: StillClock | None = None, **options) -> EventLog:
    return EventLog(path, run=RUN, clock=clock or StillClock(), sinks=sinks, **options)


def lines_of(path: Path) -> list[dict]:
    payloads = [unframe(line) for line in path.read_bytes().splitlines(keepends=True)]
    assert None not in payloads
    return [json.loads(payload) for payload in payloads]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def put(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"".join(lines))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


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


async def test_large_outputs_stand_beside_the_journal(journal: Path) -> None:
    """Above 4 KiB the journal refers to `out/`; below, it holds the output; `out/` has them all."""
    small, large = "s" * 4096, "ß" * 2049
    log = open_log(journal)
    await log.commit(AgentCompleted(agent="small", output=small))
    await log.commit(AgentCompleted(agent="large[3]", output=large))
    await log.close()
    first, second = lines_of(journal)
    assert first["output"] == small
    assert "output" not in second
    assert second["output_bytes"] == 4098
    assert len(second["output_sha256"]) == 64
    assert (journal.parent / "out" / "small.txt").read_text() == small
    assert (journal.parent / "out" / "large[3].txt").read_text() == large
    assert [s.event.output for s in read_journal(journal).events] == [small, large]


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
async def test_an_output_that_changed_does_not_count(journal: Path, harm: str) -> None:
    """An agent whose stored output is gone or changed is not finished; the others are."""
    log = open_log(journal)
    for name in ("one", "two"):
        await log.commit(AgentCompleted(agent=name, output=name * 5000))
    await log.close()
    stored = journal.parent / "out" / "one.txt"
    if harm == "gone":
        stored.unlink()
    else:
        stored.write_text("two" * 5000 if harm == "changed" else "one" * 4999)
    read = read_journal(journal)
    assert [s.event.agent for s in read.events] == ["two"]
    assert read.next_seq == 3
    assert len(read.problems) == 1
    assert read.problems[0].startswith("one: its output")


@pytest.mark.parametrize(
    "agent", ["../../evil", "/etc/evil", ".hidden", "a/b", "x" * 400, "\udcff", "..", "nul\0"]
)
async def test_no_agent_id_leaves_the_folder(journal: Path, agent: str) -> None:
    """Whatever an agent is called, its output is one file in `out/`, and is found again."""
    log = open_log(journal)
    await log.commit(AgentCompleted(agent=agent, output="x" * 5000))
    await log.close()
    files = [path for path in journal.parent.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([journal, journal.parent / "out" / output_name(agent)])
    assert read_journal(journal).events[0].event.agent == agent


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


def line(seq: int, **fields: object) -> bytes:
    """One journal line as a newer or older swarm may have written it."""
    record = {"v": 1, "seq": seq, "ts": "2026-11-21T09:15:00.000Z", "run": RUN, "t": 0.5}
    return frame(json.dumps(record | {"type": "warning", "message": str(seq)} | fields).encode())


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


def run_python(code: str, *args: object) -> dict:
    """Run `code` in a process of its own; its last line of output is the answer, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


PRELUDE = """
import asyncio, json, os, resource, signal, sys
from pathlib import Path
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.journal import EventLog, read_journal
from swarmcli.core.events import AgentCompleted, RunFailed, Warned
from swarmcli.errors import StorageError
journal = Path(sys.argv[1])

class Display:
    def __init__(self): self.shown = []; self.closed = 0
    def feed(self, stamped): self.shown.append(stamped.event)
    def close(self): self.closed += 1

def limit(size):
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
"""

FULL_DISK = """
async def main(lift):
    limit(20_000)
    display, failures, acked, refused = Display(), [], [], []
    log = EventLog(journal, run="r", clock=SystemClock(), sinks=[display],
                   on_failure=failures.append)
    for number in range(12):
        name = f"a{number}"
        try:
            await log.commit(AgentCompleted(agent=name, output="x" * 3000))
            acked.append(name)
        except StorageError as exc:
            refused.append(name)
            error = exc
    log.emit(RunFailed(status="failed", exit_code=1))
    if lift:
        limit(resource.RLIM_INFINITY)
    await log.close()
    limit(resource.RLIM_INFINITY)
    print(json.dumps({
        "acked": acked, "refused": refused, "failures": len(failures),
        "message": error.message, "hint": error.hint, "failed": log.failed is not None,
        "shown": [getattr(e, "agent", e.type) for e in display.shown], "closed": display.closed,
        "unflushed": [getattr(s.event, "agent", s.event.type) for s in log.unflushed],
    }))

asyncio.run(main(sys.argv[2] == "True"))
"""


@pytest.mark.parametrize("lift", [False, True])
def test_a_full_disk(journal: Path, lift: bool) -> None:
    """What was acknowledged is there, nothing else is shown as done, and the error helps.

    When there is room again by the end, `close` saves the rest too.
    """
    told = run_python(FULL_DISK, journal, lift)
    acked, refused = told["acked"], told["refused"]
    assert len(acked) in range(4, 8)
    assert acked + refused == [f"a{number}" for number in range(12)]
    assert told["shown"] == [*acked, "run.failed"]
    assert (told["failed"], told["failures"], told["closed"]) == (True, 1, 1)
    assert f"cannot write {journal}: File too large" in told["message"]
    assert told["hint"]
    read = read_journal(journal)
    kept = [getattr(s.event, "agent", s.event.type) for s in read.events]
    if lift:
        assert kept == [*acked, *refused, "run.failed"]
        assert told["unflushed"] == []
    else:
        assert kept == acked
        assert told["unflushed"] == [*refused, "run.failed"]


def test_a_full_disk_under_a_large_output(journal: Path) -> None:
    """The journal never refers to an output that could not be stored."""
    told = run_python(
        """
async def main():
    limit(20_000)
    log = EventLog(journal, run="r", clock=SystemClock())
    await log.commit(AgentCompleted(agent="fits", output="x" * 10_000))
    try:
        await log.commit(AgentCompleted(agent="does-not", output="x" * 30_000))
    except StorageError as exc:
        print(json.dumps({"message": exc.message}))
    await log.close()

asyncio.run(main())
""",
        journal,
    )
    assert "File too large" in told["message"]
    read = read_journal(journal)
    assert [s.event.agent for s in read.events] == ["fits"]
    assert read.problems == ()
    assert [path.name for path in (journal.parent / "out").iterdir()] == ["fits.txt"]


def test_ctrl_c_keeps_everything(journal: Path) -> None:
    """A real SIGINT in the middle of the work: what was emitted is durable and shown."""
    told = run_python(
        """
display = Display()

async def main():
    log = EventLog(journal, run="r", clock=SystemClock(), sinks=[display])
    try:
        for number in range(500):
            log.emit(Warned(message=str(number)))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
    finally:
        await log.close()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print(json.dumps({"shown": len(display.shown), "closed": display.closed}))
""",
        journal,
    )
    assert told == {"shown": 500, "closed": 1}
    assert [s.event.message for s in read_journal(journal).events] == [str(n) for n in range(500)]


ACKING = """
async def main():
    log = EventLog(journal, run="r", clock=SystemClock())
    session = sys.argv[2]

    async def agent(number):
        while True:
            name = f"s{session}-a{number}"
            size = (number * 977) % 9000
            log.emit(Warned(message=name))
            await log.commit(AgentCompleted(agent=name, output=name + "x" * size))
            os.write(1, f"{name} {size}\\n".encode())
            number += 40

    async with asyncio.TaskGroup() as tasks:
        for number in range(40):
            tasks.create_task(agent(number))

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(journal: Path) -> None:
    """Sessions that are killed with SIGKILL at arbitrary moments, on one journal.

    Each time all acknowledged agents are there with their whole outputs, and the next session
    goes on behind a clean tail.
    """
    acked: dict[str, int] = {}
    for session, wanted in enumerate([1, 2, 17, 60, 61, 150, 333]):
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + ACKING, journal, str(session)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        seen = b"".join(process.stdout.readline() for _ in range(wanted))
        process.kill()
        rest, _ = process.communicate(timeout=30)
        for text in (seen + rest).decode().splitlines(keepends=True):
            if text.endswith("\n"):
                name, size = text.split()
                acked[name] = int(size)
        read = read_journal(journal)
        done = {s.event.agent: s.event.output for s in read.events if hasattr(s.event, "agent")}
        assert {name: done.get(name) for name in acked} == {
            name: name + "x" * size for name, size in acked.items()
        }
        assert [s.seq for s in read.events] == sorted(s.seq for s in read.events)
        assert not any("damaged" in problem for problem in read.problems)
    assert len(acked) >= 624


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
        "from swarmcli.adapters import atomic, folders, journal, runs, settings\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout) == []


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
    monkeypatch.setattr(journal_module, "_sync_data", disk)
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
    monkeypatch.setattr(journal_module, "_sync_data", disk)
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
    monkeypatch.setattr(journal_module, "_sync_data", disk)
    log = open_log(journal)
    for _ in range(4):
        log.emit(Warned(message="x" * journal_module.UNSYNCED_BYTES))
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
    monkeypatch.setattr(journal_module, "_sync_data", disk)
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
    monkeypatch.setattr(journal_module, "_sync_data", Disk(fail_at=1))
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
