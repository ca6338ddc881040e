"""What a run will probably take, before anything is sent: each call with its own model and price.

Rule: prompts are built as the agents will build them; only answers are guessed, and an unknown price stays unknown.
Cached answers, retries and re-asks are not foreseen.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from swarmcli.adapters.model_table import facts_of
from swarmcli.app.prepare import Prepared
from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.budget import DEFAULT_OUTPUT_TOKENS, cost_of
from swarmcli.core.mergetree import Piece, groups, input_budget, piece_budget, split_large
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task, final_tasks
from swarmcli.core.ports import Message
from swarmcli.core.spend import Amount
from swarmcli.core.tokens import MESSAGE_OVERHEAD, bytes_in, estimate_tokens
from swarmcli.engine.briefing import Briefing, Inputs, messages_of
from swarmcli.engine.typed import schema_text
from swarmcli.errors import SwarmError
from swarmcli.prompts import load_prompt
from swarmcli.recipe.values import Limits, ModelSpec

ANSWER_TOKENS = 400
"""How long the answer of an agent is taken to be."""
PLAN_TOKENS = 1000
WRITER_TOKENS = 800
_BLOCK_TOKENS = 32
"""What a data block adds to an output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The calls of one kind to one model."""

    purpose: str
    """planner, agent or writer."""
    model: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    """None when the price is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is known to be asked."""

    shares: tuple[Share, ...]
    complete: bool
    """False: the planner decides how many agents follow."""

    @property
    def calls(self) -> int:
        """Requests, each taken to succeed at once."""
        return sum(share.calls for share in self.shares)

    @property
    def input_tokens(self) -> int:
        """Of all calls."""
        return sum(share.input_tokens for share in self.shares)

    @property
    def output_tokens(self) -> int:
        """Of all calls; a guess."""
        return sum(share.output_tokens for share in self.shares)

    @property
    def total(self) -> Amount:
        """Of all calls; no cost where one price is unknown."""
        parts = (
            Amount(tokens=s.input_tokens + s.output_tokens, cost_usd=s.cost_usd)
            for s in self.shares
        )
        return reduce(Amount.__add__, parts, Amount())

    @property
    def unpriced(self) -> list[str]:
        """The models whose price is unknown."""
        return list(dict.fromkeys(s.model for s in self.shares if s.cost_usd is None))

    def warnings(self, limits: Limits, *, allow_unpriced: bool) -> list[str]:
        """Where a cap does not fit what will probably be needed."""
        cap, total = limits.max_cost_usd, self.total
        least = "" if self.complete else "at least "
        found: list[str] = []
        if cap is not None and self.unpriced and not allow_unpriced:
            models = ", ".join(self.unpriced)
            found.append(f"no price for {models}, so a cap of ${cap:g} cannot hold")
        elif cap is not None and total.cost_usd is not None and total.cost_usd > cap:
            found.append(f"{least}about ${total.cost_usd:.4f} is more than max_cost_usd ${cap:g}")
        if limits.max_tokens is not None and total.tokens > limits.max_tokens:
            most = f"{limits.max_tokens:,}"
            found.append(f"{least}about {total.tokens:,} tokens are more than max_tokens {most}")
        if self.calls > limits.max_calls:
            found.append(
                f"{least}{self.calls:,} calls are more than max_calls {limits.max_calls:,}"
            )
        return found


def forecast(prepared: Prepared, briefing: Briefing, *, done: Collection[str] = ()) -> Forecast:
    """Foresee a run. Needs a model for every role that the run uses, but no key.

    Args:
        prepared: the run.
        briefing: what its agents share.
        done: agents that an earlier session has finished.
    """
    tasks = prepared.tasks
    calls: list[Share] = []
    complete = tasks is not None or prepared.mode.mode != "swarm"
    if tasks is not None:
        known = {task.id: task for task in tasks}
        calls += [
            _agent(briefing, one, _inputs(task, known))
            for task in tasks
            if task.id not in done
            for one in _voters(task)
        ]
    elif complete:
        role = "small" if prepared.mode.mode == "instant" else "large"
        vote = prepared.recipe.vote
        alone = Task(id="answer", prompt=briefing.job, group="answer", model=role, vote=vote)
        calls += [_agent(briefing, one, ()) for one in _voters(alone)]
    else:
        calls.append(_planner(briefing, prepared.options.max_agents))
    calls += _critic(briefing, calls, prepared) if complete else []
    if tasks and prepared.merge == "write" and prepared.merge_in_code is None:
        calls += _writer(briefing, len(final_tasks(tasks)))
    return Forecast(shares=_by_model(calls), complete=complete)


def _inputs(task: Task, known: dict[str, Task]) -> Inputs:
    """One empty output for each input of a task: their length is added as a number."""
    return [
        (d, (Outcome(task=known[d.agents[0]], state="done", output=""),) if d.agents else ())
        for d in task.depends_on
    ]


def _voters(task: Task) -> list[Task]:
    """The task on each model that is asked; who is asked where these do not agree is not foreseen."""
    vote = task.vote
    if vote is None:
        return [task]
    return [replace(task, model=name) for name in vote.models or (task.model,)] * vote.samples


def _agent(briefing: Briefing, task: Task, inputs: Inputs) -> Share:
    model = briefing.model_for(task)
    profile = briefing.profiles.get(task.profile or "")
    schema = task.output_schema or (profile.output_schema if profile else None)
    try:
        input_tokens = _size(briefing.worker_messages(task, inputs))
    except SwarmError:  # it will fail as it does here; until then it is an agent like the others
        input_tokens = estimate_tokens(task.prompt)
    input_tokens += estimate_tokens(schema_text(schema)) if schema is not None else 0
    input_tokens += sum(len(d.agents) * (ANSWER_TOKENS + _BLOCK_TOKENS) for d in task.depends_on)
    return _call("agent", model, input_tokens, ANSWER_TOKENS)


def _critic(briefing: Briefing, agents: Sequence[Share], prepared: Prepared) -> list[Share]:
    """One look at each answer; what is rejected and asked again is not foreseen."""
    verify = prepared.recipe.verify
    if verify is None or verify.critic is None:
        return []
    critic, own = briefing.roles.resolve(verify.critic), _size(_messages("critic"))
    return [
        _call("judge", critic, own + one.input_tokens + one.output_tokens, ANSWER_TOKENS)
        for one in agents
        if one.model != critic.id
    ]


def _planner(briefing: Briefing, max_tasks: int | None) -> Share:
    values = {
        "job": briefing.job_outline,
        "max_tasks": str(max_tasks or ""),
        "choices": "",
        "materials": "",
        "data_note": DATA_NOTE,
    }
    text = load_prompt("planner").render(**values)
    return _call(
        "planner", briefing.roles.resolve("planner"), _size(messages_of(text)), PLAN_TOKENS
    )


def _writer(briefing: Briefing, leaves: int) -> list[Share]:
    """The calls of the reduce tree, with every answer as long as it is taken to be."""
    writer = briefing.roles.resolve("writer")
    budget = input_budget(writer.context_window, writer.max_output_tokens)
    size = min(ANSWER_TOKENS, piece_budget(budget))
    around = estimate_tokens(briefing.job_outline) + _size(_messages("writer"))
    calls: list[Share] = []
    grouped = _grouped(leaves, size, budget)
    while len(grouped) > 1:
        read = [around + _material(len(group), size) for group in grouped if len(group) > 1]
        calls += [_call("writer", writer, tokens, size) for tokens in read]
        grouped = _grouped(len(grouped), size, budget)
    last = around + _material(sum(map(len, grouped)), size)
    return [*calls, _call("writer", writer, last, WRITER_TOKENS)]


def _grouped(pieces: int, size: int, budget: int) -> list[tuple[Piece, ...]]:
    piece = Piece(name="", agents=("",), text="x" * bytes_in(size))
    return groups(split_large([piece] * pieces, piece_budget(budget)), budget)


def _material(pieces: int, size: int) -> int:
    return pieces * (size + _BLOCK_TOKENS)


def _messages(prompt: str) -> tuple[Message, ...]:
    """A prompt of ours with nothing filled in."""
    loaded = load_prompt(prompt)
    return messages_of(loaded.render(**dict.fromkeys(loaded.variables, "")))


def _size(messages: Iterable[Message]) -> int:
    return sum(estimate_tokens(message.content) + MESSAGE_OVERHEAD for message in messages)


def _call(purpose: str, model: ModelSpec, input_tokens: int, output_tokens: int) -> Share:
    """One call, within the model's bounds."""
    facts = facts_of(model)
    answer = min(output_tokens, model.max_output_tokens or output_tokens)
    if facts.context_window is not None:
        room = max(1, facts.context_window - (model.max_output_tokens or DEFAULT_OUTPUT_TOKENS))
        input_tokens = min(input_tokens, room)
    return Share(
        purpose=purpose,
        model=model.id,
        calls=1,
        input_tokens=input_tokens,
        output_tokens=answer,
        cost_usd=cost_of(facts.price, input_tokens, answer),
    )


def _by_model(calls: Sequence[Share]) -> tuple[Share, ...]:
    """The calls added up by purpose and model, in the order in which these come up."""
    sums: dict[tuple[str, str], Share] = {}
    for one in calls:
        key = (one.purpose, one.model)
        sums[key] = _plus(sums[key], one) if key in sums else one
    return tuple(sums.values())


def _plus(a: Share, b: Share) -> Share:
    known = a.cost_usd is not None and b.cost_usd is not None
    return Share(
        purpose=a.purpose,
        model=a.model,
        calls=a.calls + b.calls,
        input_tokens=a.input_tokens + b.input_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        cost_usd=(a.cost_usd or 0.0) + (b.cost_usd or 0.0) if known else None,
    )
