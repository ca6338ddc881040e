"""`swarm watch`: another shell looks on, whatever becomes of the run, and never touches it."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarmcli.adapters.journal import encode, frame
from swarmcli.adapters.runs import RunDir, RunMeta, RunStore
from swarmcli.core.event_json import to_record
from swarmcli.core.events import (
    AgentFailed,
    AgentStarted,
    Event,
    Failure,
    PlanReady,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunStarted,
    Stamped,
)
from tests.e2e.command import Swarm
from tests.e2e.test_resume import finished, wait_for
from tests.e2e.test_terminal import terminal
from tests.fakes.openai_server import Server, prompt_of

pytestmark = pytest.mark.warm

RECIPE = """\
version: 1
name: look
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [quick, slow, last], as: item}}
"""
RUN = ("run", "look.yaml", "-m", "openai/fake", "-j", "1")


class Watcher:
    """A `swarm watch` that goes on, with what it has said so far."""

    def __init__(self, swarm: Swarm, *args: str) -> None:
        self._said = swarm.folder / "watcher.stderr"
        with self._said.open("wb") as stderr:
            self.process = swarm.start("watch", *args, stderr=stderr)

    @property
    def said(self) -> str:
        return self._said.read_text()

    def until(self, text: str) -> None:
        wait_for(lambda: text in self.said, f"{text!r} from the watcher")

    def to_the_end(self) -> int:
        """Its exit code; stdout belongs to the run."""
        out, _ = self.process.communicate(timeout=30)
        assert out == b""
        return self.process.returncode


@contextmanager
def watcher(swarm: Swarm, *args: str) -> Iterator[Watcher]:
    watching = Watcher(swarm, *args)
    try:
        yield watching
    finally:
        watching.process.kill()
        watching.process.communicate()


@contextmanager
def hanging(swarm: Swarm, server: Server) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of which one agent is done and one hangs."""
    swarm.write("look.yaml", RECIPE)
    server.faults = lambda seen: "hang" if "Do slow" in seen.prompt else "ok"
    process = swarm.start(*RUN)
    try:
        wait_for(lambda: len(server.asked("Do slow")) == 1, "the slow agent")
        yield process
    finally:
        process.kill()
        process.communicate()


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below, its time of change and its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in [*files]}


class Author:
    """Writes a run's journal by hand, byte by byte where that matters."""

    def __init__(self, swarm: Swarm) -> None:
        store = RunStore(swarm.home / "state")
        self.run: RunDir = store.create(
            RunMeta(command="run", recipe_source="look.yaml", recipe_text=RECIPE)
        )
        self._seq = 0

    def line(self, event: Event, t: float = 0.0) -> bytes:
        self._seq += 1
        stamped = Stamped(
            seq=self._seq, ts="2026-11-21T09:15:00.000Z", run=self.run.id, t=t, event=event
        )
        return frame(encode(to_record(stamped)))

    def write(self, *pieces: bytes) -> None:
        with self.run.journal.open("ab") as journal:
            journal.write(b"".join(pieces))


STARTED = RunStarted(recipe="look", models={"small": "openai/fake"})
ENDED = RunCompleted(status="ok", exit_code=0, result="text")


def facts(said: str) -> list[str]:
    """Plain lines without the heartbeat, which each process has of its own."""
    return [line for line in said.splitlines() if "] progress " not in line]


def test_a_run_is_seen_from_its_past_to_its_end(swarm: Swarm, server: Server):
    """A watcher that comes late tells what was and what happens now, word for word as the run does; then 0."""
    swarm.write("look.yaml", RECIPE)
    gate = threading.Event()

    def answer(body: dict) -> str:
        # With -j 1 nobody else waits for the server while it waits here.
        assert "Do slow" not in prompt_of(body) or gate.wait(30)
        return "answer"

    server.reply = answer
    run = swarm.start(*RUN)
    try:
        wait_for(
            lambda: any(finished(f / "journal.jsonl") for f in swarm.run_folders()), "an agent"
        )
        with watcher(swarm, "--progress", "plain") as watching:
            watching.until("t[0]        done")
            assert "t[1]        done" not in watching.said
            gate.set()
            _, stderr = run.communicate(timeout=30)
            code = watching.to_the_end()
    finally:
        gate.set()
        run.kill()
        run.communicate()

    assert (run.returncode, code) == (0, 0)
    assert watching.said.count("t[1]        done") == 1
    assert facts(watching.said) == facts(stderr.decode())


def test_a_finished_run_is_told_at_once(swarm: Swarm):
    """The summary of a run that is over, 0, and not a byte of its folder changed."""
    swarm.write("look.yaml", RECIPE)
    ran = swarm(*RUN, "--progress", "none")
    folder = swarm.run_folders()[-1]
    before = contents(folder)

    watched = swarm("watch", folder.name[-4:], "--progress", "none")

    assert (watched.code, watched.out, watched.err) == (0, b"", ran.err)
    assert contents(folder) == before


def test_the_exit_code_is_that_of_watching(swarm: Swarm):
    """A run that failed was watched to its end all the same: 0, and why it failed is said."""
    author = Author(swarm)
    author.write(
        author.line(STARTED),
        author.line(AgentFailed(agent="a", error=Failure(kind="auth", message="401"))),
        author.line(
            RunFailed(status="failed", exit_code=77, error=Failure(kind="auth", message="no key"))
        ),
    )

    watched = swarm("watch", "--progress", "none")

    assert (watched.code, watched.out) == (0, b"")
    error, *_, failures, following = watched.err.splitlines()
    assert error == "error: no key"
    assert "1 failed: 1 auth" in failures
    assert "swarm resume" in following


def test_a_resumed_run_is_its_latest_session(swarm: Swarm, server: Server):
    """What the first session did is not told again: the display is that of `resume`, and so is the summary."""
    swarm.write("look.yaml", RECIPE)
    server.faults = lambda seen: "400" if "Do slow" in seen.prompt else "ok"
    assert swarm(*RUN).code == 3
    server.faults = ()
    resumed = swarm("resume", "--progress", "plain")

    watched = swarm("watch", "--progress", "plain")

    assert (resumed.code, watched.code) == (0, 0)
    assert "FAIL" not in watched.err
    assert facts(watched.err) == facts(resumed.err)


def test_a_run_that_is_killed_is_said_to_be_dead(swarm: Swarm, server: Server):
    """kill -9 under a watcher's eyes: it ends with 0 and names the way on."""
    with hanging(swarm, server) as run, watcher(swarm, "--progress", "plain") as watching:
        watching.until("t[0]        done")
        run.send_signal(signal.SIGKILL)
        code = watching.to_the_end()

    assert code == 0
    name = swarm.run_folders()[-1].name
    assert f"run {name} stopped without an end" in watching.said
    assert f"swarm resume {name}" in watching.said.splitlines()[-1]


def test_a_run_that_was_killed_is_said_to_be_dead(swarm: Swarm, server: Server):
    """The same for one that died long ago, also in front of its first event."""
    with hanging(swarm, server):
        folder = swarm.run_folders()[-1]

    dead = swarm("watch", folder.name, "--progress", "plain")
    (folder / "journal.jsonl").unlink()
    empty = swarm("watch", folder.name, "--progress", "plain")

    for watched in (dead, empty):
        assert (watched.code, watched.out) == (0, b"")
        assert f"swarm resume {folder.name}" in watched.err


def test_interrupting_the_watcher_leaves_the_run_alone(swarm: Swarm, server: Server):
    """Ctrl-C ends the watching with 130; the run works on, in a folder that nobody else wrote to."""
    with hanging(swarm, server) as run:
        folder = swarm.run_folders()[-1]
        before = contents(folder)
        with watcher(swarm, "--progress", "plain") as watching:
            watching.until("t[0]        done")
            watching.process.send_signal(signal.SIGINT)
            code = watching.to_the_end()
        after = contents(folder)
        still_running = run.poll() is None

    assert code == 130
    assert still_running
    assert after == before
    assert f"run {folder.name} goes on" in watching.said
    assert "Traceback" not in watching.said


def test_an_unknown_run_is_a_usage_error(swarm: Swarm):
    """No runs at all, and none of that name: exit 2 with a way to look."""
    none = swarm("watch")
    Author(swarm)
    unknown = swarm("watch", "zzzz")

    assert (none.code, none.out, unknown.code, unknown.out) == (2, b"", 2, b"")
    assert "no runs yet" in none.err
    assert "there is no run 'zzzz'" in unknown.err
    assert "hint: swarm runs" in unknown.err


def test_run_ids_are_completed(swarm: Swarm):
    """Tab after `swarm watch` offers the runs."""
    author = Author(swarm)
    words = {"_SWARM_COMPLETE": "complete_bash", "COMP_WORDS": "swarm watch ", "COMP_CWORD": "2"}

    assert swarm(env=words).text.split() == [author.run.id]


def test_half_a_line_waits_for_its_other_half(swarm: Swarm):
    """What a writer has not finished yet is told once it has, and once only."""
    author = Author(swarm)
    whole = author.line(PlanTask(agent="a", group="a", prompt="p"))
    started = author.line(AgentStarted(agent="a", model="openai/fake"))
    with watcher(swarm, author.run.id, "--progress", "plain") as watching:
        with author.run.lock():
            author.write(author.line(STARTED), whole, started[:20])
            watching.until("run ")
            assert "start" not in watching.said
            author.write(started[20:])
            watching.until("start")
            author.write(author.line(ENDED))
            watching.until("done")
            assert watching.process.poll() is None, "who has the lock may still write"
        code = watching.to_the_end()

    assert code == 0
    assert watching.said.count("start") == 1


def test_the_tree_of_a_run_that_has_not_begun(swarm: Swarm):
    """A tree waits for the journal, grows with it, counts time as the run does, and leaves the summary."""
    author = Author(swarm)
    with terminal(swarm, "watch", "--progress", "tree") as screen:
        with author.run.lock():
            screen.until("starting")
            author.write(
                author.line(STARTED, 3600.0),
                *(author.line(PlanTask(agent=n, group=n, prompt="p"), 3600.0) for n in "ab"),
                author.line(PlanReady(tasks=2), 3600.0),
                author.line(AgentStarted(agent="a", model="openai/fake"), 3601.0),
            )
            screen.until("look")
            screen.until("0/2")
            screen.until("1h00m")
            author.write(author.line(ENDED, 3700.0))
        code = screen.to_the_end()

    assert code == 0
    assert "├─" not in screen.text
    assert "swarm show" in screen.text
    assert screen.screen.cursor.hidden is False


def test_interrupting_the_tree_restores_the_terminal(swarm: Swarm):
    """Ctrl-C on the terminal: 130, and the cursor is back."""
    author = Author(swarm)
    with terminal(swarm, "watch", "--progress", "tree") as screen, author.run.lock():
        screen.until("starting")
        screen.process.send_signal(signal.SIGINT)
        code = screen.to_the_end()

    assert code == 130
    assert "goes on" in screen.text
    assert screen.screen.cursor.hidden is False
