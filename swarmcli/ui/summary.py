"""The last lines of a run on stderr: verdict, cost, what failed, where the files are, what to type next.

Rule: at most eight lines; what the user pays for stands on the first, the next command on the last. The numbers are
those of `--json`; a number that is missing there is taken from the events, or left out.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from swarmcli.core.events import RunEnd
from swarmcli.errors import EXIT_SIGTERM
from swarmcli.ui.cells import Row, Span, cap, count, dollars, duration, fit_row, row_cells
from swarmcli.ui.clean import one_line
from swarmcli.ui.receipt import ReceiptWords, mapping
from swarmcli.ui.steps import State
from swarmcli.ui.terminal import paint
from swarmcli.ui.view import RunView

MAX_ROWS = 8
MAX_NOTES = 2
MAX_ARTIFACTS = 2
MAX_CHAIN = 6

_VERDICTS = {
    # status: glyph, ASCII glyph, style, word
    "ok": ("✓", "+", "ok", ""),
    "partial": ("!", "!", "warn", "partial"),
    "unverified": ("!", "!", "warn", "not verified"),
    "budget": ("!", "!", "warn", "stopped by the budget"),
    "timeout": ("!", "!", "warn", "stopped by the timeout"),
    "interrupted": ("■", "#", "stopped", "stopped by you"),
    "failed": ("✗", "x", "fail", "failed"),
}


def summary_rows(
    end: RunEnd,
    view: RunView,
    *,
    width: int = 100,
    ascii: bool = False,
    artifacts: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Row]:
    """The rows of the summary.

    Args:
        end: the run's last event.
        view: everything before it.
        width: facts are cut there; paths and commands never are.
        ascii: no other characters of ours.
        artifacts: files that were written, as the user may type them.
        notes: what must be said in any case, for example that a tiny model made the answer.
    """
    facts = _Facts(end, view)
    more = "..." if ascii else "…"
    words = ReceiptWords(end.totals, free=view.free)
    measured = [
        facts.parallelism(words.steps()),
        words.checks(view.checks),
        words.roles(),
        view.traffic.summary(),
        words.waste(),
    ]
    rows = [[Span(f"  {line}", "fail")] for line in (facts.failures(),) if line]
    rows += [[Span(f"  {one_line(note)}", "warn")] for note in notes[:MAX_NOTES]]
    files = _files(artifacts)
    room = MAX_ROWS - len(rows) - len(files) - 2
    rows = [[Span(f"  {line}", "dim")] for line in measured if line][:room] + rows
    rows = [fit_row(row, width, more) for row in [facts.verdict(width, ascii=ascii), *rows]]
    return [*rows, *files, [Span(f"  {facts.next_command()}")]]


def _files(artifacts: Sequence[str]) -> list[Row]:
    shown = artifacts if len(artifacts) <= MAX_ARTIFACTS else artifacts[: MAX_ARTIFACTS - 1]
    rows = [[Span("  wrote  ", "dim"), Span(one_line(path))] for path in shown]
    if hidden := len(artifacts) - len(shown):
        rows.append([Span(f"  wrote  {hidden} more files", "dim")])
    return rows


def cost(end: RunEnd, view: RunView, of: str = " of ") -> str:
    """`$0.74 of $2.00`; `~$0.74` with a guess in it, `$?` with an unknown price, nothing for local models."""
    if view.free:
        return ""
    spent = view.money().partition("/")[0]
    if "cost_usd" in end.totals:
        said = end.totals["cost_usd"]
        booked = mapping(end.totals.get("booked")).get("cost_usd")
        if isinstance(said, int | float):
            spent = dollars(said, _digits(said))
        elif isinstance(booked, int | float) and booked > 0:
            spent = f"~{dollars(booked, _digits(booked))}"
        else:
            spent = "$?"
    return spent if view.max_cost_usd is None else f"{spent}{of}{cap(view.max_cost_usd)}"


def estimated(end: RunEnd, view: RunView) -> str:
    """` (estimated $0.90)`: what was set aside for the calls that were sent; nothing where no price is known."""
    amount = mapping(end.totals.get("estimate")).get("cost_usd")
    if view.free or not isinstance(amount, int | float) or amount <= 0:
        return ""
    return f" (estimated {dollars(amount, _digits(amount))})"


def print_summary(rows: Sequence[Row], stream: TextIO, *, color: bool) -> None:
    """Write the rows; a reader that has gone is no reason to fail at the very end."""
    with contextlib.suppress(OSError, ValueError):
        stream.write("".join(f"{paint(row, color=color)}\n" for row in rows))
        stream.flush()


class _Facts:
    """The numbers of the run, from its totals where they stand there."""

    def __init__(self, end: RunEnd, view: RunView) -> None:
        self.end = end
        self.view = view
        self.agents = mapping(end.totals.get("agents"))

    def number(self, key: str, state: State) -> int:
        if not self.agents:
            return self.view.counts[state]
        value = self.agents.get(key)
        return int(value) if isinstance(value, int | float) else 0

    @property
    def total(self) -> int:
        value = self.agents.get("total")
        return int(value) if isinstance(value, int | float) else self.view.total

    @property
    def failed(self) -> int:
        return self.number("failed", State.FAILED)

    @property
    def insufficient(self) -> int:
        """Finished agents that say themselves that they could not do their task."""
        value = mapping(self.end.totals.get("doubts")).get("insufficient")
        return len(value) if isinstance(value, list) else 0

    @property
    def kept(self) -> int:
        """Agents with an answer, cached and reused ones too."""
        counts = self.view.counts
        seen = counts[State.DONE] + counts[State.CACHED] + counts[State.REUSED]
        value = self.agents.get("done")
        return int(value) if isinstance(value, int | float) else seen

    @property
    def seconds(self) -> float:
        value = self.end.totals.get("duration_s")
        return float(value) if isinstance(value, int | float) else 0.0

    def verdict(self, width: int, *, ascii: bool) -> Row:
        """The first line; in a narrow window without the tokens, then the estimate, then with shorter counts."""
        view, status = self.view, self.end.status
        glyph, plain, style, word = _VERDICTS.get(status, ("?", "?", "warn", one_line(status)))
        if status == "interrupted":
            share = 100 * self.kept // max(1, self.total)
            who = "stopped by a signal" if self.end.exit_code == EXIT_SIGTERM else word
            word = f"{who} at {share} %"
        begin = [
            Span(f"{plain if ascii else glyph} ", style),
            Span(f"{view.recipe or 'swarm'} {view.short_run}".rstrip(), "name"),
            Span(f"  {word}" if word else "", style),
        ]
        money, beside = cost(self.end, view), estimated(self.end, view)
        counts, short = self._counts(), f"{self.kept} of {self.total} agents done"
        row = begin
        for facts in (
            (f"{money}{beside}", counts, self._tokens()),
            (f"{money}{beside}", counts),
            (money, counts),
            (money, short),
            (money,),
        ):
            told = (duration(self.seconds), *facts)
            row = [*begin, Span("".join(f"  {fact}" for fact in told if fact))]
            if row_cells(row) <= width:
                break
        return row

    def _counts(self) -> str:
        if self.end.status == "interrupted":
            return f"{self.kept} of {self.total} kept"
        cached = self.number("cached", State.CACHED)
        fresh = max(0, self.kept - cached)
        thin = self.insufficient
        numbers = (
            (fresh - min(fresh, thin), "done"),
            (cached, "cached"),
            (thin, "insufficient"),
            (self.failed, "failed"),
            (self.number("skipped", State.SKIPPED), "skipped"),
            (self.number("cancelled", State.CANCELLED), "cancelled"),
        )
        parts = [f"{number} {word}" for number, word in numbers if number]
        noun = "agent" if self.total == 1 else "agents"
        if (self.total == fresh and not thin) or not parts:
            return f"{self.total} {noun}"
        return f"{self.total} {noun}: {', '.join(parts)}"

    def _tokens(self) -> str:
        usage = mapping(self.end.totals.get("usage"))
        parts = [usage.get("input_tokens"), usage.get("output_tokens")]
        known = [int(part) for part in parts if isinstance(part, int | float)]
        tokens = sum(known) if known else self.view.spend.tokens
        return f"{count(tokens)} tok" if tokens else ""

    def parallelism(self, steps: str = "") -> str:
        """`13.4x: 18m17s of agent time in 1m22s; 6 critical steps; critical path plan 3s > scan[209] 70s`."""
        speedup = self.end.totals.get("speedup")
        if not isinstance(speedup, int | float) or speedup <= 0 or self.total < 2:
            return ""
        busy, wall = self._busy_and_wall(speedup)
        text = f"{speedup:.1f}x"
        if busy:
            text += f": {duration(busy)} of agent time in {duration(wall)}"
        text = f"{text}; {steps}" if steps else text
        chain = mapping(self.end.totals.get("critical_path")).get("agents")
        if not isinstance(chain, list) or not chain:
            return text
        names = [self._timed(str(name)) for name in chain]
        if len(names) > MAX_CHAIN:
            names = [*names[: MAX_CHAIN // 2], "...", *names[-MAX_CHAIN // 2 + 1 :]]
        return f"{text}; critical path {' > '.join(names)}"

    def _busy_and_wall(self, speedup: float) -> tuple[float, float]:
        """The seconds of which `speedup` is the quotient."""
        receipt = mapping(self.end.totals.get("receipt"))
        busy, wall = receipt.get("agent_s"), receipt.get("wall_s")
        if isinstance(busy, int | float) and isinstance(wall, int | float):
            return busy, wall
        # Of a cancelled agent nobody knows how long it had waited.
        worked = (a for a in self.view.agents.values() if a.state in {State.DONE, State.FAILED})
        seconds = sum(agent.seconds for agent in worked)
        return seconds, seconds / speedup

    def _timed(self, name: str) -> str:
        view = self.view
        phase = {"planner": view.plan, "judge": view.judge, "writer": view.merge}.get(name)
        agent = self.view.agents.get(name)
        if agent is not None:
            return f"{agent.id} {duration(agent.seconds)}"
        if phase is not None and phase.seconds is not None:
            return f"{phase.name} {duration(phase.seconds)}"
        return one_line(name)

    def failures(self) -> str:
        """`13 failed: 12 schema, 1 timeout; scan[3]: missing 'severity'`: the causes, and one in its own words."""
        faults = self._faults()
        if not self.failed or not faults:
            return f"{self.failed} failed" if self.failed else ""
        causes = Counter(kind for _, kind, _ in faults).most_common(5)
        agent, _, message = next(fault for fault in faults if fault[1] == causes[0][0])
        told = ", ".join(f"{number} {kind}" for kind, number in causes)
        return f"{self.failed} failed: {told}" + (f"; {agent}: {message}" if message else "")

    def _faults(self) -> list[tuple[str, str, str]]:
        """Agent, kind and message of each failure."""
        listed = self.end.totals.get("failures")
        if isinstance(listed, list) and listed:
            items = [mapping(item) for item in listed]
            keys = ("agent", "kind", "message")
            return [tuple(one_line(str(item.get(key, ""))) for key in keys) for item in items]  # pyright: ignore[reportReturnType]
        failed = (a for a in self.view.agents.values() if a.state is State.FAILED)
        return [(a.id, a.kind, a.outcome.removeprefix(f"{a.kind}: ")) for a in failed]

    def next_command(self) -> str:
        run, status = self.view.short_run, self.end.status
        others = (("skipped", State.SKIPPED), ("cancelled", State.CANCELLED))
        missing = self.failed + sum(self.number(key, state) for key, state in others)
        if status in {"ok", "partial", "unverified"} and not missing:  # nothing to do again
            return f"details: swarm show {run}"
        if status == "budget":
            return self._after_the_budget(run)
        what = "try the failed ones again" if status in {"ok", "partial"} else "go on"
        return f"{what}: swarm resume {run}"

    def _after_the_budget(self, run: str) -> str:
        """A resumed run needs more than the cap that stopped this one."""
        turned_away = (message for _, kind, message in self._faults() if kind == "budget")
        note = next(turned_away, self.view.budget_note)
        booked = mapping(self.end.totals.get("booked"))
        used, spent = booked.get("tokens"), booked.get("cost_usd")
        if "max_calls" in note:
            return "raise limits.max_calls in the recipe and run it again; the cache keeps what is finished"
        if "max_tokens" in note and isinstance(used, int | float):
            return f"go on: swarm resume {run} --max-tokens {2 * int(used)}"
        least = max(self.view.max_cost_usd or 0.0, spent if isinstance(spent, int | float) else 0.0)
        return f"go on: swarm resume {run}" + (
            f" --max-cost {float(f'{2 * least:.2g}'):g}" if least else ""
        )


def _digits(cost: float) -> int:
    return 2 if cost >= 0.01 or not cost else 4
