"""The rows of steps and of their agents. Pure.

Rule: failures first, then what had to try again, then what asks, in the order in which they began
to; so a row moves only when one above it ends.
"""

import re
from collections.abc import Iterable
from itertools import chain, islice

from swarmcli.ui.cells import Row, Span, cells, count, duration, fit, row_cells, spread
from swarmcli.ui.glyphs import STYLE_OF, Glyphs
from swarmcli.ui.state import RunState
from swarmcli.ui.steps import LIVE, Agent, Phase, Retry, Spend, State, Step

NAME_WIDTH = 14
"""Cells for a model's name."""
COLUMNS = NAME_WIDTH + 24
"""Cells that all columns on the right take; a failure that is cut by them takes the place of the model."""
STRIP_FROM = 41
"""A step of so many agents shows each of them as one cell."""
STRIP_ROOM = 9
SHOWN_FAILURES = 3
SHOWN_RETRIED = 3

_UNCALLED = frozenset({State.CACHED, State.REUSED, State.SKIPPED})
"""They took no time of their own."""
_WORST_FIRST = "fwrsqxkdcu"
_RANKS = str.maketrans(_WORST_FIRST, "0123456789")
_OF_RANK = str.maketrans("0123456789", _WORST_FIRST)
_STYLE_RUNS = re.compile("[duc]+|[rs]+|w+|f+|x+|[qk]+")
_COUNTED = (
    (State.FAILED, "failed", "f"),
    (State.CANCELLED, "cancelled", "x"),
    (State.CACHED, "cached", "c"),
    (State.REUSED, "reused", "u"),
    (State.SKIPPED, "skipped", "s"),
)


class StepRows:
    """Draws steps for one frame: a window's width, a moment, a set of glyphs."""

    def __init__(self, view: RunState, width: int, now_t: float, glyphs: Glyphs) -> None:
        self.view = view
        self.width = width
        self.now = now_t
        self.g = glyphs
        self.spin = glyphs.spinner[int(max(0.0, now_t) * 8) % len(glyphs.spinner)]

    def phase(self, phase: Phase) -> Row:
        """Planning or merging, at work or done."""
        began = phase.started_t if phase.started_t is not None else self.now
        left: Row = [Span(f"{self.spin} ", "run"), Span(phase.name, "live")]
        note, style = phase.note, "dim"
        if phase.seconds is not None:
            left = [Span(f"{self.g.of[State.DONE]} ", "ok"), Span(phase.name)]
        elif phase.retry is not None:
            left[0] = Span(f"{self.g.of[State.RETRYING]} ", "wait")
            note, style = self._retry(phase.retry), "wait"
        elif phase is self.view.plan and self.view.total:
            note = note or f"{self.view.total} tasks so far"
        if note:
            left.append(Span(f"  {note}", style))
        seconds = self.now - began if phase.seconds is None else phase.seconds
        return self._line(left, "", phase.spend, seconds)

    def is_over(self, step: Step) -> bool:
        """All its agents have ended, and no planner is about to add or to take back some."""
        return step.ended == len(step.agents) and not self.view.planning

    def head(self, step: Step) -> Row:
        """The step's own row; its only agent's, where it has just one."""
        if len(step.agents) == 1:
            return self._agent(step.agents[0], [])
        done = self.is_over(step)
        glyph = self.g.of[State.DONE] if done else self.spin
        left: Row = [
            Span(f"{glyph} ", "ok" if done else "run"),
            Span(step.name, "" if done else "live"),
            Span(f"  {step.ended}/{len(step.agents)}"),
        ]
        for state, word, _ in _COUNTED:
            if step.counts[state] and (done or state is State.FAILED):
                left.append(Span(f"  {step.counts[state]} {word}", STYLE_OF[state]))
        began = self.now if step.first_t is None else step.first_t
        seconds = max(0.0, step.last_t - began) if done else self.now - began
        return self._line(left, "", step.spend, seconds)

    # The agents of a live step.

    def wanted(self, step: Step, room: int) -> int:
        """Rows for every agent where that fits, else for those that are worth a row."""
        size = len(step.agents)
        if size == 1 or size <= room:
            return 0 if size == 1 else size
        strip = -(-size // max(1, self.width - 3)) if size >= STRIP_FROM else 0
        return min(SHOWN_FAILURES, len(step.failed)) + step.live + 1 + strip

    def body(self, step: Step, room: int) -> list[Row]:
        """The agents of a live step in at most `room` rows."""
        size = len(step.agents)
        if size == 1 or room < 1:
            return []
        if size <= room:
            shown, strip = step.agents, list[Row]()
        else:
            strip = (
                self._strip(step, room // 3) if size >= STRIP_FROM and room >= STRIP_ROOM else []
            )
            shown = self._chosen(step, room - 1 - len(strip))
        rest = self._rest(step, shown) if size > len(shown) else []
        total = len(shown) + len(rest) + len(strip)
        rows: list[Row] = []
        label = max((cells(agent.id) for agent in shown), default=0)
        for index, agent in enumerate(shown):
            rows.append(self._agent(agent, [self._guide(index, total)], label=label))
        for row in rest:
            rows.append([self._guide(len(rows), total), *row])
        for row in strip:
            last = len(rows) == total - 1
            rows.append([Span(self.g.last if last else self.g.pipe, "dim"), *row])
        return rows

    def _guide(self, index: int, total: int) -> Span:
        return Span(self.g.last if index == total - 1 else self.g.tee, "dim")

    def _chosen(self, step: Step, room: int) -> list[Agent]:
        """Newest failures, who had to try again first, who asked first, and who has not asked yet."""
        most = max(1, room // 3)
        failed = list(islice(reversed(step.failed), min(SHOWN_FAILURES, most, room)))
        room -= len(failed)
        retried = list(islice(step.troubled.values(), min(SHOWN_RETRIED, most, room)))
        room -= len(retried)
        taken = set(map(id, retried))
        live = chain(step.asking.values(), step.started.values())
        others = (agent for agent in live if id(agent) not in taken)
        return [*failed, *retried, *islice(others, max(0, room))]

    def _rest(self, step: Step, shown: Iterable[Agent]) -> list[Row]:
        """`… 47 running, 2 waiting, 71 queued`: the agents without a row."""
        hidden = step.counts.copy()
        hidden.subtract(agent.state for agent in shown)
        held = hidden[State.STARTED] if self.view.traffic.holds else 0
        numbers = [
            (hidden[State.RUNNING], "running"),
            (hidden[State.STARTED] - held, "starting"),
            (hidden[State.RETRYING] + held, "waiting"),
            (hidden[State.QUEUED], "queued"),
            (hidden[State.DONE], "done"),
        ]
        numbers += [(hidden[state], word) for state, word, _ in _COUNTED]
        text = ", ".join(f"{number} {word}" for number, word in numbers if number > 0)
        return [[Span(f"{self.g.more} {text}", "dim")]] if text else []

    def _strip(self, step: Step, most: int) -> list[Row]:
        """Each agent as one cell, in plan order; several to a cell, the worst one shown, where they are too many."""
        width = max(1, self.width - 3)
        states = step.cells.decode("ascii")
        if self.view.traffic.holds:
            states = states.replace(State.STARTED, State.QUEUED)
        per_cell = -(-len(states) // (width * max(1, most)))
        if per_cell > 1:
            ranks = states.translate(_RANKS)
            worst = (min(ranks[at : at + per_cell]) for at in range(0, len(ranks), per_cell))
            states = "".join(worst).translate(_OF_RANK)
        rows: list[Row] = []
        for at in range(0, len(states), width):
            runs = _STYLE_RUNS.findall(states[at : at + width])
            rows.append(
                [Span(run.translate(self.g.strip), STYLE_OF[State(run[0])]) for run in runs]
            )
        return rows

    def _agent(self, agent: Agent, guide: Row, label: int = 0) -> Row:
        state = agent.state
        waits = state is State.STARTED and self.view.traffic.holds
        spins = state is State.RUNNING or (state is State.STARTED and not waits)
        glyph = self.g.of[State.QUEUED] if waits else self.spin if spins else self.g.of[state]
        most = max(12, self.width // 3)
        shown = fit(agent.id, most, self.g.more)
        left = [*guide, Span(f"{glyph} ", STYLE_OF[state]), Span(shown)]
        note, style = self._note(agent)
        if note:
            gap = max(0, min(label, most) - cells(shown))
            left.append(Span(f"{' ' * gap}  {note}", style))
        if state is State.QUEUED:
            return left
        seconds = None if state in _UNCALLED else agent.seconds
        if state in LIVE:
            seconds = self.now - agent.since_t
        cut = state is State.FAILED and row_cells(left) + COLUMNS > self.width
        model = "" if cut else agent.model
        return self._line(left, model, agent.spend, seconds, self._age(agent))

    def _note(self, agent: Agent) -> tuple[str, str]:
        match agent.state:
            case State.RETRYING if agent.retry is not None:
                return self._retry(agent.retry), "wait"
            case State.FAILED:
                return agent.outcome, "fail"
            case State.SKIPPED:
                return f"skipped: {agent.outcome}" if agent.outcome else "skipped", "dim"
            case State.CANCELLED:
                return f"cancelled: {agent.outcome}" if agent.outcome else "cancelled", "stopped"
            case State.CACHED:
                return agent.outcome or "cached", "dim"
            case State.REUSED:
                return agent.outcome or "done before", "dim"
            case State.STARTED if self.view.traffic.holds:
                return "waits for a slot", "wait"
            case State.DONE if agent.outcome:
                return _both(agent.outcome, agent.check), "warn"
            case State.DONE:
                return agent.check or agent.prompt, "dim"
            case _:
                return self._doing(agent)

    def _doing(self, agent: Agent) -> tuple[str, str]:
        """What it says of its work, else what it was asked."""
        note = agent.note_at(self.now)
        if agent.hedged and agent.state in LIVE:
            return f"hedged x2  {note or agent.prompt}".rstrip(), "wait"
        if agent.check and agent.state in LIVE:
            return _both(agent.check, note), "wait"
        return (note, "") if note else (agent.prompt, "dim")

    def _retry(self, retry: Retry) -> str:
        left = retry.until_t - self.now
        due = "waits for a slot" if self.view.traffic.holds else "retry now"
        when = f"retry in {duration(left + 0.999)}" if left > 0 else due
        return f"{retry.why}, {when} ({retry.next_attempt}/{retry.max})"

    def _age(self, agent: Agent) -> str:
        """Running long past its step's median: perhaps it hangs."""
        median = agent.homes[0][0].median_s if agent.state in LIVE else None
        if median is None:
            return "dim"
        age = self.now - agent.since_t
        return "late" if age > 4 * median else "warn" if age > 2 * median else "dim"

    # Columns.

    def _line(
        self, left: Row, model: str, spend: Spend, seconds: float | None, age: str = "dim"
    ) -> Row:
        """A row with the columns on its right that the width allows: model, tokens, money, time.

        What it says itself may stand where nothing was spent yet.
        """
        right: Row = []
        if self.width >= 100 and model:
            right.append(Span(f"{fit(model.rpartition('/')[2], NAME_WIDTH, self.g.more)} ", "dim"))
        asked = spend.tokens or spend.cost_usd or spend.unpriced
        if self.width >= 60 and (asked or right):
            tokens = count(spend.tokens) if spend.tokens else ""
            right.append(Span(f"{tokens:>6}", "dim"))
            if not self.view.free:
                right.append(Span(f"{spend.money(3) if asked else '':>8}", "dim"))
        right.append(Span(f"{'' if seconds is None else duration(seconds):>7}", age))
        return spread(left, right, self.width, self.g.more)


def _both(first: str, second: str) -> str:
    return f"{first}  {second}" if second else first
