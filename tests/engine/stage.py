"""A stage for engine tests: scripted models, a clock that stands still, a journal in memory."""

import json

from swarmcli.adapters.budget import BudgetedClient
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.budget import Budget
from swarmcli.core.events import RunStarted
from swarmcli.core.routing import ModeChoice, resolve_roles
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.order import RunOrder
from swarmcli.engine.run import Run
from swarmcli.errors import ModelError, StorageError
from swarmcli.recipe.values import ModelSpec, Price
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient

KEY = b"0123456789abcdef"
BLOCKS = DataBlocks(KEY)
MODEL = ModelSpec(id="fake/model", price=Price(input_per_mtok=1.0, output_per_mtok=2.0))


def roles_of(model=MODEL, **others):
    """Every role is `model`, unless it is named."""
    return resolve_roles({"small": model, **others}, [], None)


def briefing_of(model=MODEL, roles=None, **more):
    return Briefing(blocks=BLOCKS, roles=roles or roles_of(model), **more)


def error(kind, message="it broke"):
    return ModelError(message, kind=kind, model="fake/model")


def user_text(request):
    """All that stands in user messages."""
    return "\n".join(m.content for m in request.messages if m.role == "user")


def fingerprint(request):
    """As the real one: everything that can change the answer, and not who asks."""
    return json.dumps([request.model.id, *([m.role, m.content] for m in request.messages)])


def plan_text(*tasks, **more):
    """Plan v1 as a planner writes it; a task is an id, or (id, need, need, ...)."""
    entries = []
    for entry in tasks:
        name, *needs = (entry,) if isinstance(entry, str) else entry
        entries.append({"id": name, "prompt": f"do {name}", "depends_on": needs})
    return json.dumps({"tasks": entries, **more})


class Script:
    """Answers by who asks: an agent's id, `planner`, `writer`, `reducer`.

    An answer is a text, an error, a list of them for one call after the other, or a function of the request. An agent
    without one answers "output of <its id>".
    """

    def __init__(self, **answers):
        self.answers = {name.replace("__", "-"): value for name, value in answers.items()}
        self.asked = []
        """Who asked, in order."""

    def __call__(self, request):
        who = request.agent or request.purpose
        if who == "writer" and "You condense" in request.messages[0].content:
            who = "reducer"
        self.asked.append(who)
        answer = self.answers.get(who, f"output of {who}")
        if isinstance(answer, list):
            answer = answer.pop(0)
        return answer(request) if callable(answer) else answer


class DiskRecorder(RecordingRecorder):
    """A recorder whose `commit` takes time, and fails for the agents that are named."""

    def __init__(self, clock=None, seconds=0.0, full_at=()):
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.full_at = full_at

    async def commit(self, event):
        if self.clock is not None:
            await self.clock.sleep(self.seconds)
        if getattr(event, "agent", event.type) in self.full_at:
            raise StorageError("the disk is full")
        await super().commit(event)


class Stage:
    """One run and everything around it.

    Args:
        answers: see `Script`.
        tasks: a fixed graph; None asks the planner.
        takes: seconds that each call takes, or who -> seconds.
        order: further fields of the `RunOrder`.
    """

    def __init__(
        self, answers=None, *, tasks=None, mode="swarm", takes=1.0, briefing=None, recorder=None, chunk_chars=8, **order
    ):  # fmt: skip
        self.clock = ManualClock(0.0)
        self.script = answers if isinstance(answers, Script) else Script(**(answers or {}))
        self.takes = takes
        self.client = ScriptedClient(
            self.script, clock=self.clock, latency_s=self._latency, chunk_chars=chunk_chars
        )
        self.budget = Budget()
        self.recorder = recorder or RecordingRecorder()
        if isinstance(self.recorder, DiskRecorder) and self.recorder.seconds:
            self.recorder.clock = self.clock
        self.order = RunOrder(
            mode=ModeChoice(mode=mode, reason="the test"),
            tasks=None if tasks is None else tuple(tasks),
            started=RunStarted(recipe="test", models={}),
            **{"parallel": 100, **order},
        )
        self.run = Run(
            order=self.order,
            briefing=briefing or briefing_of(job="the whole job", job_outline="the job"),
            client=BudgetedClient(
                self.client, self.budget, clock=self.clock, emit=self.recorder.emit
            ),
            recorder=self.recorder,
            clock=self.clock,
            fingerprint=fingerprint,
            spent=lambda: self.budget.spent,
        )

    def _latency(self, request):
        if callable(self.takes):
            return self.takes(request)
        if isinstance(self.takes, dict):
            return self.takes.get(request.agent or request.purpose, 1.0)
        return self.takes

    async def play(self):
        """Run to the end, time jumping from one deadline to the next."""
        return await self.clock.drive(self.run.execute())

    @property
    def asked(self):
        return self.script.asked

    def request_of(self, who, index=0):
        """The request that an agent, the planner or the writer sent."""
        return [r for r in self.client.requests if (r.agent or r.purpose) == who][index]

    def events(self, *kinds):
        """(type, agent) of the events of these kinds, in order."""
        return [(e.type, e.agent) for e in self.recorder.events if isinstance(e, kinds)]


def states(report):
    """Agent -> how it ended."""
    return {o.agent: o.state for o in report.outcomes}
