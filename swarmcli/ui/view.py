"""Events in, rows out: which lines of a run to show in a window of this size, at this moment. Pure.

Rule: never more than `height - 1` rows, and none wider than `width`. What does not fit goes by whole facts, the least
important first: finished steps fold, then coming ones, then agents that run well; failures and waits stay longest.
"""

from collections.abc import Iterable

from swarmcli.core.events import Stamped
from swarmcli.ui.cells import (
    Row,
    Span,
    cells,
    count,
    duration,
    fit,
    fit_row,
    row_cells,
    spread,
    text_of,
)
from swarmcli.ui.fold import fold
from swarmcli.ui.glyphs import ASCII, UNICODE, Glyphs, in_ascii
from swarmcli.ui.rows import StepRows
from swarmcli.ui.state import RunState
from swarmcli.ui.steps import State, Step

__all__ = ["Row", "RunView", "Span", "text_of"]

MAX_LIMITS = 3
"""So many rows for limits at most."""


class RunView(RunState):
    """What a live display needs: give it every event, read the attributes, draw the rows."""

    def feed(self, stamped: Stamped) -> None:
        """Fold one event."""
        fold(self, stamped)

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
        rows = _Layout(self, width, now_t, ASCII if ascii else UNICODE).rows(budget)
        return [in_ascii(row) for row in rows] if ascii else rows


class _Layout(StepRows):
    """One frame: the two lines on top, and the steps that there is room for."""

    def __init__(self, view: RunState, width: int, now_t: float, glyphs: Glyphs) -> None:
        super().__init__(view, width, now_t, glyphs)
        self.steps = list(view.steps())

    def rows(self, budget: int) -> list[Row]:
        past, before = self._past(), self._before()
        live = [step for step in self.steps if self._is_live(step)]
        merging, limits = self._merging(), self._limits()
        after = [*limits, *self._next()]
        fixed = 2 + len(before) + len(live) + len(merging) + len(after)
        if len(past) > 1 and (len(past) > budget // 2 or fixed + len(past) > budget - len(live)):
            past = [self._folded(past)]
        room = budget - fixed - len(past)
        if room < 0:
            after, past, room = [], [], room + len(after) + len(past)
        rows = [self._header(told=bool(after)), self._bar(), *past, *before]
        shares = _share(room, [self.wanted(step, room) for step in live])
        for step, share in zip(live, shares, strict=True):
            rows.append(self.head(step))
            rows.extend(self.body(step, share))
        rows += [*merging, *after]
        return [fit_row(row, self.width, self.g.more) for row in rows[:budget]]

    # The two lines on top.

    def _header(self, *, told: bool) -> Row:
        """The run, how far it is and what it costs; what holds it back where that is not `told` in a row of its own."""
        view = self.view
        again = " resumed" if view.resumed and self.width >= 60 else ""
        begins = "planning" if view.planning else "starting"
        left = [
            Span(f"{view.short_run}{again}  " if view.short_run else "", "dim"),
            Span(f"{view.ended}/{view.total}" if view.total else begins),
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
            [Span(f"{name}  ", "name"), *left, *self._where(room - 2, told=told)],
            clock,
            self.width,
            self.g.more,
        )

    def _where(self, room: int, *, told: bool) -> Row:
        """What holds the run back, else which step it is in, in the space that is left of the header."""
        traffic = self.view.traffic
        if not told and room > 12 and (holding := traffic.shown(self.now)):
            text = traffic.line(max(holding, key=lambda limit: limit.waiting), self.now, room)
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
        if view.judge.started_t is not None:
            path.append(("judge", view.judge.is_live))
        if view.merge.started_t is not None or self._merge_comes():
            path.append(("merge", view.merge.is_live))
        return path

    def _bar(self) -> Row:
        view, width = self.view, self.width
        size = min(40, max(8, width - 60))
        total = max(1, view.total)
        ended = size * (view.ended - view.counts[State.SKIPPED]) // total
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
        counts, checks = view.counts, view.checks
        conflicts = len(checks.conflicts)
        numbers = (
            (counts[State.FAILED], "failed", "f", "fail"),
            (view.waiting, "waiting", "w", "wait"),
            (view.running, "running", "r", "run"),
            (view.starting, "starting", "b", "dim"),
            (counts[State.QUEUED], "queued", "q", "dim"),
            (checks.rejected, "rejected", "j", "warn"),
            (conflicts, "conflict" if conflicts == 1 else "conflicts", "!", "warn"),
            (checks.escalated, "escalated", "e", "wait"),
            (checks.revisions, "re-plan" if checks.revisions == 1 else "re-plans", "p", "wait"),
            (view.traffic.hedges, "hedged", "h", "wait"),
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
        if step.live > 0 or self.view.planning:
            return True
        queued = step.counts[State.QUEUED]
        return 0 < queued < len(step.agents) and not self.view.end

    def _merge_comes(self) -> bool:
        """A planner's plan with several answers is written up; other merges are code and take no time."""
        view = self.view
        known = view.planned and not view.planning
        return known and view.merge.started_t is None and view.answers() > 1

    def _past(self) -> list[Row]:
        view = self.view
        rows = [self.phase(view.plan)] if view.plan.seconds is not None else []
        rows += [self.head(step) for step in self.steps if self.is_over(step)]
        rows += [self.phase(p) for p in (view.judge, view.merge) if p.seconds is not None]
        return rows

    def _before(self) -> list[Row]:
        """Planning that goes on now, or what there is to say before anything is known."""
        view = self.view
        if view.planning:
            return [self.phase(view.plan)]
        if not view.total and view.plan.started_t is None and view.end is None:
            return [[Span(f"{self.spin} ", "run"), Span("starting")]]
        return []

    def _merging(self) -> list[Row]:
        return [self.phase(p) for p in (self.view.judge, self.view.merge) if p.is_live]

    def _limits(self) -> list[Row]:
        """One row per limit that holds calls back; below the steps, so that their rows stay where they are."""
        traffic, glyph = self.view.traffic, Span(f"{self.g.of[State.RETRYING]} ", "wait")
        shown = traffic.shown(self.now)
        few = shown if len(shown) <= MAX_LIMITS else shown[: MAX_LIMITS - 1]
        room = self.width - 2
        rows = [[glyph, Span(traffic.line(limit, self.now, room), "wait")] for limit in few]
        if hidden := shown[len(few) :]:
            waiting = sum(limit.waiting for limit in hidden)
            text = f"{len(hidden)} more limits" + (f", {waiting} wait" if waiting else "")
            rows.append([Span(f"{self.g.more} {text}", "dim")])
        return rows

    def _folded(self, past: list[Row]) -> Row:
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


def _share(room: int, wanted: list[int]) -> list[int]:
    """Divide the rows among the steps: nobody gets more than wanted, the small ones are served first."""
    shares = [0] * len(wanted)
    room = max(0, room)
    for served, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], room // (len(wanted) - served))
        room -= shares[index]
    return shares
