"""Journals of processes that meet a full disk, Ctrl-C and kill -9: real processes, real limits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swarmcli.adapters.journal import read_journal
from tests.adapters.journals import ROOT


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


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
from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.journal_writer import INLINE_BYTES
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
    limit(3 * INLINE_BYTES)
    log = EventLog(journal, run="r", clock=SystemClock())
    await log.commit(AgentCompleted(agent="fits", output="x" * (2 * INLINE_BYTES)))
    try:
        await log.commit(AgentCompleted(agent="does-not", output="x" * (4 * INLINE_BYTES)))
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
            size = (number * 9770) % (2 * INLINE_BYTES)
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
