"""Scheduler and journal under crashes: any graph, any order of ends, power cuts that tear off what was not synced."""

import shutil
import tempfile
import threading
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from swarmcli.adapters.journal import read_journal
from swarmcli.adapters.journal_writer import Entry, JournalWriter
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    AgentStarted,
    Failure,
    RunStarted,
    Stamped,
    Warned,
)
from swarmcli.core.plan import Dependency
from swarmcli.core.replay import replay
from swarmcli.core.scheduler import Scheduler, Skip, Start
from tests.adapters.journals import RUN
from tests.core.tasks import task


class Session:
    """A session's journal: what is written is waited for, so the machine is the only source of chance."""

    def __init__(self, path: Path) -> None:
        self.told: list[Stamped] = []
        """What the displays were shown: all that was written without an error."""
        self._arrived = threading.Semaphore(0)
        self._writer = JournalWriter(path, deliver=self._deliver, ended=lambda: None)
        self._seq = self._writer.next_seq

    def _deliver(self, batch):
        for entry in batch:
            if entry.error is None:
                self.told.append(entry.stamped)
            self._arrived.release()

    def write(self, event, *, committed):
        """Write an event; whether it was written (and, if committed, synced)."""
        stamped = Stamped(seq=self._seq, ts="2026-11-21T09:15:00.000Z", run=RUN, t=0.0, event=event)
        entry = Entry(stamped=stamped, committed=committed)
        self._seq += 1
        self._writer.append(entry)
        assert self._arrived.acquire(timeout=30)
        return entry.error is None

    def end(self):
        self._writer.stop()
        self._writer.join(30)


class Crashes(RuleBasedStateMachine):
    """Plays the engine over a real journal: an end is a fact for the scheduler only after it is durable."""

    @initialize(parallel=st.integers(1, 4))
    def begin(self, parallel):
        self.folder = Path(tempfile.mkdtemp(prefix="swarm-machine-"))
        self.journal = self.folder / "journal.jsonl"
        self.parallel = parallel
        self.tasks = []
        self.acked = {}
        """Agent -> output that somebody was told of."""
        self.calls = {}
        """Agent -> how often it was really at work."""
        self.ghost = None
        self.safe = 0
        """Bytes of the journal that survive a power cut."""
        self.open()

    def teardown(self):
        if hasattr(self, "folder"):
            self.session.end()
            if self.ghost is not None:
                self.ghost.end()
            shutil.rmtree(self.folder)

    def open(self):
        """A session begins: what is durable is taken over, the rest is scheduled anew."""
        read = read_journal(self.journal)
        assert read.problems == ()
        self.before = read.events
        self.history = replay(stamped.event for stamped in read.events)
        self.session = Session(self.journal)
        self.scheduler = Scheduler(parallel=self.parallel, fail_fast=False)
        self.running = set()
        self.commit(RunStarted(recipe="r", models={}, resumed=bool(read.events)))
        self.carry_out(self.scheduler.added(self.tasks))

    def commit(self, event):
        assert self.session.write(event, committed=True)
        self.safe = self.journal.stat().st_size

    def carry_out(self, decisions):
        """As the engine and the agent runner do: what is finished is reused, everything else is at work."""
        for decision in decisions:
            if isinstance(decision, Skip):
                continue
            assert isinstance(decision, Start)
            agent = decision.agent
            needs = [a for need in self.scheduler.tasks[agent].depends_on for a in need.agents]
            assert all(need in self.acked for need in needs), (
                "started before its needs were durable"
            )
            assert self.session.write(AgentStarted(agent=agent, model="m"), committed=False)
            earlier = self.history.finished.get(agent)
            if earlier is None:
                assert agent not in self.acked, "at work again although it was acknowledged"
                self.calls[agent] = self.calls.get(agent, 0) + 1
                self.running.add(agent)
            else:
                self.done(agent, earlier.output, reused=True)

    def done(self, agent, output, *, reused=False):
        self.commit(AgentCompleted(agent=agent, output=output, key="k", reused=reused))
        self.acked[agent] = output
        self.carry_out(self.scheduler.done(agent))

    @rule(data=st.data())
    def add(self, data):
        """A task becomes known, with needs among the earlier ones."""
        known = [t.id for t in self.tasks]
        needs = (
            data.draw(st.lists(st.sampled_from(known), unique=True, max_size=3)) if known else []
        )
        new = task(f"t{len(known)}", *(Dependency(name=need, agents=(need,)) for need in needs))
        self.tasks.append(new)
        self.carry_out(self.scheduler.added([new]))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.sampled_from([0, 10, 3000, 70_000]))
    def finish(self, data, size):
        """An agent answers; its output may be too large for the journal."""
        agent = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(agent)
        self.done(agent, f"{agent} {self.calls[agent]} " + "x" * size)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data):
        """An agent fails; a later session tries it again."""
        agent = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(agent)
        self.commit(AgentFailed(agent=agent, error=Failure(kind="server", message="x")))
        self.carry_out(self.scheduler.failed(agent))

    @rule(size=st.integers(0, 300))
    def note(self, size):
        """Something that nobody waits for: written, not synced."""
        assert self.session.write(Warned(message="n" * size), committed=False)

    @rule(data=st.data(), garbage=st.binary(max_size=20))
    def crash(self, data, garbage):
        """Power cut at any moment: all behind the last sync may be lost in part, and end in rubbish."""
        kept = data.draw(st.integers(self.safe, self.journal.stat().st_size), label="kept bytes")
        content = self.journal.read_bytes()[:kept] + garbage
        self.session.end()
        self.journal.write_bytes(content)
        self.open()

    @precondition(lambda self: self.ghost is None)
    @rule()
    def take_over(self):
        """A second session begins although the first one lives: on a disk without locks."""
        self.ghost = self.session
        self.open()

    @precondition(lambda self: self.ghost is not None)
    @rule(committed=st.booleans())
    def haunt(self, committed):
        """The first session goes on working: not a byte of it is written, nobody is told."""
        before = self.journal.read_bytes()
        event = AgentCompleted(agent="t0", output="the ghost's", key="k")
        assert not self.ghost.write(event, committed=committed)
        self.ghost.end()
        self.ghost = None
        assert before == self.journal.read_bytes()

    @invariant()
    def what_was_told_is_what_is_written(self):
        """Replaying the journal gives the state of the live run, whole and without problems."""
        if not hasattr(self, "folder"):
            return
        read = read_journal(self.journal)
        assert ((), False) == (read.problems, read.torn)
        assert [*self.before, *self.session.told] == read.events
        assert [s.seq for s in read.events] == list(range(1, len(read.events) + 1))
        finished = replay(stamped.event for stamped in read.events).finished
        assert self.acked == {agent: event.output for agent, event in finished.items()}
        live = {a for a, state in self.scheduler.states.items() if state == "done"}
        assert live <= set(self.acked)


Crashes.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestCrashes = Crashes.TestCase
