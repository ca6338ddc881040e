"""A cascade of simulated models, run through the real engine: what it costs and how often it is right.

The models err as recorded ones do, not independently (a simulation with independent errors flatters votes by 4 to 8
points). Two draws of one model share most of their mistakes; different models share some; wrong answers coincide more
often than chance. All of it is drawn from the seed and the question, never from the order of the calls.

    .venv/bin/python -m tests.cascade       # a table over several seeds
"""

import asyncio
import random
import re
import sys
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean

from swarmcli.core.blocks import DataBlocks
from swarmcli.core.budget import Budget
from swarmcli.core.events import RunStarted, Warned
from swarmcli.core.plan import Task
from swarmcli.core.routing import ModeChoice, resolve_roles
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.order import RunOrder
from swarmcli.engine.run import Run
from swarmcli.recipe.values import ModelSpec, Price, Vote
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient

WITHIN = 0.77
"""Correlation of correctness of two draws of one model (recorded: 0.75 to 0.79)."""
ACROSS = 0.30
"""The same of two different models (recorded: 0.11 to 0.46)."""
SAME_WITHIN = 0.65
"""How often two wrong draws of one model agree (recorded: 0.54 to 0.80)."""
SAME_ACROSS = 0.13
"""How often two wrong models agree (recorded: 0.04 to 0.22)."""
PRICE_RATIO = 0.10
SEEDS = 8
LARGE_USD = Price(input_per_mtok=1.0, output_per_mtok=4.0)

_NORMAL = NormalDist()
_QUESTION = "A shop sells pencils in boxes, and boxes in crates; some are lost on the way. " * 7
_STEP = "Then we take what is left of the boxes and multiply it by the pencils in each of them"
_NUMBER = re.compile(r"Question (\d+)\.")


@dataclass(frozen=True)
class Crowd:
    """How good the models are, and which of them vote."""

    small: float
    large: float = 0.945
    models: tuple[str, ...] = ("small", "other")
    samples: int = 1
    brevity: float = 1.0
    """What the large model writes by its usual length where the escalation prompt asks for a short answer."""


@dataclass(frozen=True)
class Measured:
    """One run of one seed."""

    cost: float
    """By what the large model alone costs on the same questions."""
    accuracy: float
    large_accuracy: float
    escalated: float
    stopped: bool
    audited: int

    @property
    def difference(self) -> float:
        """In points, paired: the same questions."""
        return 100 * (self.accuracy - self.large_accuracy)


class World:
    """What each model says to each question."""

    def __init__(self, crowd: Crowd, seed: int) -> None:
        self.crowd = crowd
        self.seed = seed

    def truth(self, question: int) -> int:
        return 1000 + question

    def says(self, model: str, question: int, draw: int) -> int:
        accuracy = self.crowd.large if model == "large" else self.crowd.small
        across = _latent(ACROSS, self.crowd.small, self.crowd.large)
        within = _latent(WITHIN, accuracy, accuracy)
        shared = self._normal(question)
        own = self._normal(question, model)
        chance = self._normal(question, model, draw)
        mistake = (
            across**0.5 * shared + (within - across) ** 0.5 * own + (1 - within) ** 0.5 * chance
        )
        if mistake <= _NORMAL.inv_cdf(accuracy):
            return self.truth(question)
        return self._wrong(model, question, draw)

    def _wrong(self, model: str, question: int, draw: int) -> int:
        """The question's trap, the model's own favourite, or a slip."""
        rng = random.Random(f"{self.seed} {question} {model} favourite")
        trapped = rng.random() < (SAME_ACROSS / SAME_WITHIN) ** 0.5
        favourite = 2_000_000 if trapped else rng.randrange(3_000_000, 4_000_000)
        slip = random.Random(f"{self.seed} {question} {model} {draw} slip")
        if slip.random() < SAME_WITHIN**0.5:
            return favourite
        return slip.randrange(5_000_000, 9_000_000)

    def _normal(self, *key: object) -> float:
        return random.Random(f"{self.seed} {key}").gauss(0, 1)


@cache
def _latent(wanted: float, one: float, other: float) -> float:
    """The correlation of two normal variables whose signs of failure are correlated as `wanted`."""
    fails = [1 - one, 1 - other]
    spread = (fails[0] * one * fails[1] * other) ** 0.5
    low, high = 0.0, 0.9999
    for _ in range(40):
        middle = (low + high) / 2
        if (_both_fail(middle, one, other) - fails[0] * fails[1]) / spread < wanted:
            low = middle
        else:
            high = middle
    return low


def _both_fail(correlation: float, one: float, other: float) -> float:
    """How often both variables pass their limits, integrated over the first one's failures."""
    limit, steps = _NORMAL.inv_cdf(other), 500
    total = 0.0
    for step in range(steps):
        x = _NORMAL.inv_cdf(one + (1 - one) * (step + 0.5) / steps)
        total += 1 - _NORMAL.cdf((limit - correlation * x) / (1 - correlation**2) ** 0.5)
    return total / steps * (1 - one)


def _client(world: World) -> ScriptedClient:
    def answer(request) -> str:
        found = _NUMBER.search(request.messages[-1].content)
        assert found
        model = request.model.id.removeprefix("fake/")
        draw = request.sample + (100 if request.model.reasoning_effort else 0)
        value = world.says(model, int(found[1]), draw)
        asked_shortly = "answer shortly" in request.messages[-1].content
        length = round(12 * (world.crowd.brevity if asked_shortly else 1.0))
        steps = "\n".join(f"{n}. {_STEP} ({value % (n + 2)})." for n in range(length))
        return f"{steps}\nThe answer is {value:,}"

    return ScriptedClient(answer)


def _model(name: str, ratio: float) -> ModelSpec:
    price = Price(
        input_per_mtok=LARGE_USD.input_per_mtok * ratio,
        output_per_mtok=LARGE_USD.output_per_mtok * ratio,
    )
    return ModelSpec(id=f"fake/{name}", price=price)


def run_of(tasks: list[Task], client, recorder) -> Run:
    """A run of these tasks in which nothing takes time."""
    models = {
        "small": _model("small", PRICE_RATIO),
        "other": _model("other", PRICE_RATIO),
        "large": _model("large", 1.0),
    }
    roles = resolve_roles(models, [], None)
    assert roles
    return Run(
        order=RunOrder(
            mode=ModeChoice(mode="swarm", reason="simulation"),
            tasks=tuple(tasks),
            started=RunStarted(recipe="cascade", models={}),
            parallel=100,
            merge="jsonl",
        ),
        briefing=Briefing(blocks=DataBlocks(b"0123456789abcdef"), roles=roles),
        client=client,
        recorder=recorder,
        clock=ManualClock(0.0),
        fingerprint=lambda request: f"{request.agent} {request.model.id} {request.sample}",
        spent=lambda: Budget().spent,
    )


def measure(
    crowd: Crowd, *, seed: int, questions: int, audit: float = 0.01, notes: bool = False
) -> Measured:
    """Let the crowd answer through the engine, and the large model alone; compare on the same questions."""
    world = World(crowd, seed)
    vote = Vote(
        models=crowd.models,
        samples=crowd.samples,
        canonical="number",
        escalate="large",
        audit=audit,
        notes=notes,
    )
    recorder = RecordingRecorder()
    voted = _outcomes(_tasks(questions, vote), _client(world), recorder)
    alone = _outcomes(_tasks(questions, None), _client(world), RecordingRecorder())
    results = [o.vote for o in voted if o.vote is not None]
    assert len(results) == questions
    return Measured(
        cost=sum(o.cost_usd for o in voted) / sum(o.cost_usd for o in alone),
        accuracy=fmean(_is_right(world, o) for o in voted),
        large_accuracy=fmean(_is_right(world, o) for o in alone),
        escalated=fmean(r.escalated for r in results),
        stopped=any("not trusted" in warning.message for warning in recorder.of(Warned)),
        audited=sum(r.audited for r in results),
    )


def _tasks(questions: int, vote: Vote | None) -> list[Task]:
    return [
        Task(
            id=f"ask[{n}]",
            prompt=f"Question {n}. {_QUESTION}How many pencils are left?",
            group="ask",
            index=n,
            model="large",
            vote=vote,
        )
        for n in range(questions)
    ]


def _outcomes(tasks: list[Task], client, recorder):
    report = asyncio.run(run_of(tasks, client, recorder).execute())
    assert all(o.state == "done" for o in report.outcomes), report.outcomes[0].failure
    return report.outcomes


def _is_right(world: World, outcome) -> bool:
    value = int(outcome.output.rpartition(" ")[2].replace(",", ""))
    return value == world.truth(outcome.task.index)


def main() -> None:
    """Several seeds of each crowd."""
    different, draws = ("small", "other"), ("small",)
    rows = [
        ("two models, 90 %", Crowd(0.90, models=different), 2400, False),
        ("  with notes", Crowd(0.90, models=different), 2400, True),
        ("  and half as long answers", Crowd(0.90, models=different, brevity=0.5), 2400, True),
        ("  and a quarter", Crowd(0.90, models=different, brevity=0.25), 2400, True),
        ("two draws of one, 90 %", Crowd(0.90, models=draws, samples=2), 2400, False),
        ("two models, 65 %", Crowd(0.65, models=different), 1200, False),
        ("two draws of one, 65 %", Crowd(0.65, models=draws, samples=2), 1200, False),
    ]
    for name, crowd, questions, notes in rows:
        runs = [
            measure(crowd, seed=seed, questions=questions, notes=notes) for seed in range(SEEDS)
        ]
        costs, points = [run.cost for run in runs], [run.difference for run in runs]
        sys.stdout.write(
            f"{name:28} n={questions}  cost {fmean(costs):.3f} (most {max(costs):.3f})  "
            f"points {fmean(points):+.2f} (least {min(points):+.2f})  "
            f"escalated {fmean(run.escalated for run in runs):.3f}  "
            f"stopped {sum(run.stopped for run in runs)}/{SEEDS}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
