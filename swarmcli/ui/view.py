"""Events in, rows out: which lines of a run to show in a window of this size, at this moment. Pure.

Rule: never more than `height - 1` rows, and none wider than `width`. What does not fit goes by whole facts, the least
important first: finished steps fold, then coming ones, then agents that run well; failures and waits stay longest.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from swarmcli.ui.cells import (
    Row,
    Span,
    cells,
    count,
    dollars,
    duration,
    fit,
    fit_row,
    row_cells,
    spread,
    text_of,
)
from swarmcli.ui.state import LIVE, Agent, Phase, Retry, RunState, Spend, State, Step

__all__ = ["Row", "RunView", "Span", "text_of"]

NAME_WIDTH = 14
"""Cells for a model's name."""
STRIP_FROM = 41
"""A step of so many agents shows each of them as one cell."""
STRIP_ROOM = 9
SHOWN_FAILURES = 3
SHOWN_RETRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """One way to draw everything."""

    spinner: str
    of: dict[State, str]
    strip: dict[int, str]
    """For `str.translate`: state letter -> cell."""
    tee: str
    last: str
    pipe: str
    bar: str
    rest: str
    dot: str
    more: str


def _glyphs(states: str, **others: str) -> Glyphs:
    of = dict(zip(State, states, strict=True))
    strip = {ord(state): glyph for state, glyph in of.items()}
    return Glyphs(of=of, strip=strip, **others)


# In the order of `State`: queued, started, running, retrying, done, cached, reused, failed, skipped, cancelled.
UNICODE = _glyphs(
    "·▪▪↻✓≡≡✗⊘⊘",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    tee="├─ ",
    last="└─ ",
    pipe="│  ",
    bar="█",
    rest="░",
    dot="·",
    more="…",
)
ASCII = _glyphs(
    ".>>~+==xoo",
    spinner="|/-\\",
    tee="|- ",
    last="`- ",
    pipe="|  ",
    bar="#",
    rest="-",
    dot=".",
    more="...",
)

_STYLE = {
    State.QUEUED: "dim",
    State.STARTED: "run",
    State.RUNNING: "run",
    State.RETRYING: "wait",
    State.DONE: "ok",
    State.CACHED: "ok",
    State.REUSED: "ok",
    State.FAILED: "fail",
    State.SKIPPED: "dim",
    State.CANCELLED: "stopped",
}
_UNCALLED = frozenset({State.CACHED, State.REUSED, State.SKIPPED})
"""They took no time of their own."""
_WORST_FIRST = "fwrsqxkdcu"
_STYLE_RUNS = re.compile("[duc]+|[rs]+|w+|f+|x+|[qk]+")
_COUNTED = (
    (State.FAILED, "failed", "f"),
    (State.CANCELLED, "cancelled", "x"),
    (State.CACHED, "cached", "c"),
    (State.REUSED, "reused", "u"),
    (State.SKIPPED, "skipped", "s"),
)


class RunView(RunState):
    """What a live display needs of a run, and how it is laid out."""

    def rows(self, width: int, height: int, now_t: float, *, ascii: bool = False) -> list[Row]:
        """The rows to show.

        Args:
            width: columns of the terminal.
            height: its lines; one stays free for the cursor.
            now_t: seconds since the run began, on the clock of the events' `t`.
            ascii: draw with ASCII only; foreign characters in texts become `?`.
        """
        budget = height - 1
        if budget < 1 or width < 1:
            return []
        return _Layout(self, width, now_t, ASCII if ascii else UNICODE).rows(budget)

    def spins(self) -> bool:
        """Something moves on the screen without an event: a spinner."""
        live = any(self.counts[state] for state in LIVE)
        merging = self.merge.started_t is not None and self.merge.seconds is None
        return live or self.planning or merging

    def money(self) -> str:
        """`$0.41/$2.00`, `$?` when the price of a completed call is unknown, nothing when all models are local."""
        if self.free:
            return ""
        spent = "$?" if self.spend.unpriced else _spent(self.spend.cost_usd)
        return spent if self.max_cost_usd is None else f"{spent}/{dollars(self.max_cost_usd)}"


class _Layout:
    """One frame: the view's facts, the window and the moment."""

    def __init__(self, view: RunView, width: int, now_t: float, glyphs: Glyphs) -> None:
        self.view = view
        self.width = width
        self.now = now_t
        self.g = glyphs
        self.spin = glyphs.spinner[int(max(0.0, now_t) * 8) % len(glyphs.spinner)]
        self.steps = list(view.steps())

    def rows(self, budget: int) -> list[Row]:
        past = self._past()
        live = [step for step in self.steps if self._is_live(step)]
        before, after = self._before(), self._after()
        fixed = 2 + len(before) + len(live) + len(after)
        if len(past) > 1 and (len(past) > budget // 2 or fixed + len(past) > budget - len(live)):
            past = [self._folded(past)]
        room = budget - fixed - len(past)
        if room < 0:
            after, past, room = [], [], room + len(after) + len(past)
        rows = [self._header(), self._bar(), *past, *before]
        shares = _share(room, [self._wanted(step, room) for step in live])
        for step, share in zip(live, shares, strict=True):
            rows.append(self._head(step))
            rows.extend(self._body(step, share))
        rows += after
        return [fit_row(self._safe(row), self.width, self.g.more) for row in rows[:budget]]

    # The two lines on top.

    def _header(self) -> Row:
        view = self.view
        left = [
            Span(f"{view.short_run}  " if view.short_run else "", "dim"),
            Span(f"{view.ended}/{view.total}" if view.total else "starting"),
        ]
        clock: Row = [Span(duration(self.now))]
        if money := view.money():
            near = view.max_cost_usd is not None and view.spend.cost_usd >= 0.8 * view.max_cost_usd
            clock = [Span(money, "warn" if near else ""), Span("  "), *clock]
        eta = view.eta_s(self.now) if self.width >= 60 else None
        if eta is not None:
            clock.append(Span(f"  eta ~{duration(max(5, round(eta / 5) * 5))}", "dim"))
        room = self.width - row_cells(left) - row_cells(clock) - 3
        name = fit(view.recipe or "swarm", max(room, 4), self.g.more)
        room -= cells(name)
        return spread(
            [Span(f"{name}  ", "name"), *left, *self._where(room - 2)],
            clock,
            self.width,
            self.g.more,
        )

    def _where(self, room: int) -> Row:
        """What holds the run back, else which step it is in, in the space that is left of the header."""
        if self.view.limits and room > 12:
            bucket, (waiting, why) = max(self.view.limits.items(), key=lambda item: item[1][0])
            text = f"{bucket} {why}".rstrip()
            whole = f"{text}, {waiting} waiting"
            text = whole if cells(whole) <= room else text
            return [Span("  "), Span(fit(text, room, self.g.more), "wait")]
        path = self._path()
        at = next((index for index, (_, live) in enumerate(path) if live), None)
        if self.width < 60 or at is None or len(path) < 2:
            return []
        step = f"step {at + 1}/{len(path)}"
        names: Row = [Span(f"  {step}  ", "dim")]
        for index, (name, live) in enumerate(path):
            if index:
                names.append(Span(" > ", "dim"))
            names.append(Span(name, "live" if live else "dim"))
        if self.width >= 110 and row_cells(names) <= room:
            return names
        short: Row = [Span(f"  {step} ", "dim"), Span(path[at][0], "live")]
        return short if row_cells(short) <= room else []

    def _path(self) -> list[tuple[str, bool]]:
        view = self.view
        path = [(step.name, self._is_live(step)) for step in self.steps]
        if view.plan.started_t is not None:
            path.insert(0, ("plan", view.planning))
        if view.merge.started_t is not None or self._merge_comes():
            path.append(("merge", view.merge.started_t is not None and view.merge.seconds is None))
        return path

    def _bar(self) -> Row:
        view, width = self.view, self.width
        size = min(40, max(8, width - 60))
        total = max(1, view.total)
        ended = size * view.ended // total
        bad = view.counts[State.FAILED] + view.counts[State.CANCELLED]
        bad_size = min(ended, -(-size * bad // total))
        row: Row = [
            Span(self.g.bar * (ended - bad_size), "ok"),
            Span(self.g.bar * bad_size, "fail"),
            Span(self.g.rest * (size - ended), "dim"),
        ]
        right: Row = []
        if width >= 60 and view.spend.tokens:
            right = [Span(f"{count(view.spend.tokens)} tok", "dim")]
        room = width - size - row_cells(right) - 1
        for text, style in self._counts(width < 60):
            gap = " " if width < 60 or len(row) == 3 else "  "
            if cells(gap + text) > room:
                break
            room -= cells(gap + text)
            row += [Span(gap), Span(text, style)]
        return spread(row, right, width, self.g.more)

    def _counts(self, short: bool) -> Iterable[tuple[str, str]]:
        """The numbers of the run, the most important first."""
        view = self.view
        counts = view.counts
        numbers = (
            (counts[State.FAILED], "failed", "f", "fail"),
            (view.waiting, "waiting", "w", "wait"),
            (view.running, "running", "r", "run"),
            (counts[State.QUEUED], "queued", "q", "dim"),
            (view.conflicts, "conflict" if view.conflicts == 1 else "conflicts", "!", "warn"),
            (counts[State.CANCELLED], "cancelled", "x", "stopped"),
            (counts[State.CACHED], "cached", "c", "ok"),
            (counts[State.REUSED], "reused", "u", "ok"),
            (counts[State.SKIPPED], "skipped", "s", "dim"),
        )
        for number, word, letter, style in numbers:
            if number:
                yield f"{number}{letter}" if short else f"{number} {word}", style

    # Steps.

    def _is_live(self, step: Step) -> bool:
        if step.live:
            return True
        queued = step.counts[State.QUEUED]
        return 0 < queued < len(step.agents) and not self.view.end

    def _merge_comes(self) -> bool:
        view = self.view
        return view.merge.started_t is None and not view.planning and view.answers() > 1

    def _past(self) -> list[Row]:
        view = self.view
        rows = [self._phase(view.plan)] if view.plan.seconds is not None else []
        rows += [self._head(step) for step in self.steps if step.ended == len(step.agents)]
        if view.merge.seconds is not None:
            rows.append(self._phase(view.merge))
        return rows

    def _before(self) -> list[Row]:
        """Planning that goes on now, or what there is to say before anything is known."""
        view = self.view
        if view.planning:
            return [self._phase(view.plan)]
        if not view.total and view.plan.started_t is None and view.end is None:
            return [[Span(f"{self.spin} ", "run"), Span("starting")]]
        return []

    def _after(self) -> list[Row]:
        """Merging that goes on now, and the steps that come."""
        merge = self.view.merge
        if merge.started_t is not None and merge.seconds is None:
            return [self._phase(merge), *self._next()]
        return self._next()

    def _phase(self, phase: Phase) -> Row:
        began = phase.started_t if phase.started_t is not None else self.now
        left: Row = [Span(f"{self.spin} ", "run"), Span(phase.name, "live")]
        note, style = phase.note, "dim"
        if phase.seconds is not None:
            left = [Span(f"{self.g.of[State.DONE]} ", "ok"), Span(phase.name)]
        elif phase.retry is not None:
            left[0] = Span(f"{self.g.of[State.RETRYING]} ", "wait")
            note, style = self._retry(phase.retry), "wait"
        elif phase is self.view.plan and self.view.total:
            note = f"{self.view.total} tasks so far" + (f"  {note}" if note else "")
        if note:
            left.append(Span(f"  {note}", style))
        seconds = self.now - began if phase.seconds is None else phase.seconds
        return self._line(left, "", phase.spend, seconds)

    def _folded(self, past: Sequence[Row]) -> Row:
        return [Span(f"{self.g.of[State.DONE]} ", "ok"), Span(f"{len(past)} steps done", "dim")]

    def _next(self) -> list[Row]:
        names = [
            step.name + (f" ({len(step.agents)})" if len(step.agents) > 1 else "")
            for step in self.steps
            if step.agents and step.counts[State.QUEUED] == len(step.agents)
        ]
        if self._merge_comes():
            names.append("merge")
        if not names:
            return []
        return [[Span(f"{self.g.dot} next: {' > '.join(names)}", "dim")]]

    def _head(self, step: Step) -> Row:
        if len(step.agents) == 1:
            return self._agent(step.agents[0], [])
        done = step.ended == len(step.agents)
        glyph = self.g.of[State.DONE] if done else self.spin
        left: Row = [
            Span(f"{glyph} ", "ok" if done else "run"),
            Span(step.name, "" if done else "live"),
            Span(f"  {step.ended}/{len(step.agents)}"),
        ]
        for state, word, _ in _COUNTED:
            if step.counts[state] and (done or state is State.FAILED):
                left.append(Span(f"  {step.counts[state]} {word}", _STYLE[state]))
        began = self.now if step.first_t is None else step.first_t
        seconds = max(0.0, step.last_t - began) if done else self.now - began
        return self._line(left, "", step.spend, seconds)

    # The agents of a live step.

    def _wanted(self, step: Step, room: int) -> int:
        """Rows for every agent where that fits, else for those that are worth a row."""
        size = len(step.agents)
        if size == 1 or size <= room:
            return 0 if size == 1 else size
        strip = -(-size // max(1, self.width - 3)) if size >= STRIP_FROM else 0
        return min(SHOWN_FAILURES, len(step.failed)) + len(step.live) + 1 + strip

    def _body(self, step: Step, room: int) -> list[Row]:
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
        """Newest failures, then the oldest retries, then who has run longest."""
        most = max(1, room // 3)
        failed = list(islice(reversed(step.failed), min(SHOWN_FAILURES, most, room)))
        room -= len(failed)
        retrying = list(islice(step.retrying.values(), min(SHOWN_RETRIES, most, room)))
        room -= len(retrying)
        taken = set(map(id, retrying))
        running = (agent for agent in step.live.values() if id(agent) not in taken)
        return [*failed, *retrying, *islice(running, max(0, room))]

    def _rest(self, step: Step, shown: Iterable[Agent]) -> list[Row]:
        """`… 47 running, 2 waiting, 71 queued`: the agents without a row."""
        hidden = step.counts.copy()
        hidden.subtract(agent.state for agent in shown)
        held = hidden[State.STARTED] if self.view.limits else 0
        waiting = hidden[State.RETRYING] + held
        running = hidden[State.STARTED] + hidden[State.RUNNING] - held
        numbers = [(running, "running"), (waiting, "waiting"), (hidden[State.QUEUED], "queued")]
        numbers.append((hidden[State.DONE], "done"))
        numbers += [(hidden[state], word) for state, word, _ in _COUNTED]
        text = ", ".join(f"{number} {word}" for number, word in numbers if number > 0)
        return [[Span(f"{self.g.more} {text}", "dim")]] if text else []

    def _strip(self, step: Step, most: int) -> list[Row]:
        """Each agent as one cell, in plan order; several to a cell, the worst one shown, where they are too many."""
        width = max(1, self.width - 3)
        states = step.cells.decode("ascii")
        per_cell = -(-len(states) // (width * max(1, most)))
        if per_cell > 1:
            groups = (states[at : at + per_cell] for at in range(0, len(states), per_cell))
            states = "".join(min(group, key=_WORST_FIRST.index) for group in groups)
        rows: list[Row] = []
        for at in range(0, len(states), width):
            runs = _STYLE_RUNS.findall(states[at : at + width])
            rows.append([Span(run.translate(self.g.strip), _STYLE[State(run[0])]) for run in runs])
        return rows

    def _agent(self, agent: Agent, guide: Row, label: int = 0) -> Row:
        state = agent.state
        glyph = self.spin if state in {State.STARTED, State.RUNNING} else self.g.of[state]
        most = max(12, self.width // 3)
        shown = fit(agent.id, most, self.g.more)
        left = [*guide, Span(f"{glyph} ", _STYLE[state]), Span(shown)]
        note, style = self._note(agent)
        if note:
            gap = max(0, min(label, most) - cells(shown))
            left.append(Span(f"{' ' * gap}  {note}", style))
        if state is State.QUEUED:
            return left
        seconds = None if state in _UNCALLED else agent.seconds
        if state in LIVE:
            seconds = self.now - agent.since_t
        return self._line(left, agent.model, agent.spend, seconds, self._age(agent))

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
            case State.STARTED if self.view.limits:
                return "waits for a slot", "wait"
            case State.DONE if agent.outcome:
                return agent.outcome, "warn"
            case State.DONE:
                return agent.prompt, "dim"
            case _:
                note = agent.note_at(self.now)
                return (note, "") if note else (agent.prompt, "dim")

    def _retry(self, retry: Retry) -> str:
        left = retry.until_t - self.now
        when = f"retry in {duration(left + 0.999)}" if left > 0 else "retry now"
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
        """A row with the columns on its right that the width allows: model, tokens, money, time."""
        right: Row = []
        if self.width >= 100 and model:
            right.append(Span(f"{fit(model.rpartition('/')[2], NAME_WIDTH, self.g.more)} ", "dim"))
        if self.width >= 60:
            tokens = count(spend.tokens) if spend.tokens else ""
            right.append(Span(f"{tokens:>6}", "dim"))
            if not self.view.free:
                right.append(Span(f"{_row_money(spend):>8}", "dim"))
        right.append(Span(f"{'' if seconds is None else duration(seconds):>7}", age))
        return spread(left, right, self.width, self.g.more)

    def _safe(self, row: Row) -> Row:
        if self.g is not ASCII:
            return row
        return [
            Span(_FOREIGN.sub(_unknown, span.text.translate(_PLAIN)), span.style) for span in row
        ]


_FOREIGN = re.compile(r"[^\x00-\x7f]")


_PLAIN = str.maketrans("…–—‘’“”•", ".--''\"\"*")


def _unknown(match: re.Match[str]) -> str:
    return "?" * cells(match[0])


def _spent(amount: float) -> str:
    return dollars(amount, 2 if amount >= 0.01 or not amount else 4)


def _row_money(spend: Spend) -> str:
    if spend.unpriced:
        return "$?"
    return dollars(spend.cost_usd, 3) if spend.tokens or spend.cost_usd else ""


def _share(room: int, wanted: list[int]) -> list[int]:
    """Divide the rows among the steps: nobody gets more than wanted, the small ones are served first."""
    shares = [0] * len(wanted)
    room = max(0, room)
    for served, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], room // (len(wanted) - served))
        room -= shares[index]
    return shares
