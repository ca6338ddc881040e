"""Progress as lines for people and logs: one fact a line.

Rule: a line never starts with foreign text. Everything is prefixed and cleaned, so no model can forge a line of ours,
a command of a CI runner, or what a terminal obeys.
"""

import time
from collections.abc import Callable
from typing import TextIO

from swarmcli.core.events import Stamped
from swarmcli.ui.cells import Span, clock, duration
from swarmcli.ui.clean import one_line
from swarmcli.ui.steps import State
from swarmcli.ui.telling import Line, Telling, join
from swarmcli.ui.terminal import paint
from swarmcli.ui.ticker import Ticker
from swarmcli.ui.view import RunView
from swarmcli.ui.writer import LineWriter

BEAT_S, SLOW_BEAT_S, FIRST_MINUTE_S = 10.0, 30.0, 60.0
MAX_TEXT = 500
CLOSE_TIMEOUT_S = 2.0


class PlainLines:
    """Plain lines for a log, a pipe or a dumb terminal: steps, failures, retries, and a heartbeat.

    Args:
        stream: stderr.
        verbose: a line for each agent's start and end, however many there are.
        color: with SGR codes.
        github: the log is read by a GitHub runner.
        clock: monotonic seconds, for the heartbeat.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        color: bool = False,
        github: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = RunView()
        self._telling = Telling(self.view, verbose=verbose)
        self._color = color
        self._github = github
        self._writer = LineWriter(stream)
        self._ticker = Ticker(self.tick, 1.0, clock)
        self._next_beat = BEAT_S

    def start(self) -> None:
        """Begin the heartbeat, on the running event loop."""
        self._ticker.start()

    def feed(self, stamped: Stamped) -> None:
        self._ticker.sync(stamped.t)
        for line in self._telling.feed(stamped):
            self._print(line)

    def tick(self, now_t: float) -> None:
        """Print the heartbeat when it is due: every 10 s in the first minute, then every 30 s."""
        if now_t < self._next_beat or self.view.end is not None or not self.view.run:
            return
        every = BEAT_S if now_t < FIRST_MINUTE_S else SLOW_BEAT_S
        self._next_beat = (now_t // every + 1) * every
        self._telling.t = max(self._telling.t, now_t)
        self._print(Line("progress", progress(self.view, now_t)))

    def log(self, text: str, *, label: str = "note") -> None:
        """Print a line of the program itself."""
        self._print(Line(label, one_line(text)))

    def close(self) -> None:
        """Write what is left, for at most two seconds: nobody may be reading."""
        self._ticker.stop()
        self._writer.close(CLOSE_TIMEOUT_S)

    def _print(self, line: Line) -> None:
        text = line.text[: MAX_TEXT - 1] + "…" if len(line.text) > MAX_TEXT else line.text
        row = [Span(f"[{clock(self._telling.t)}] ", "dim"), Span(f"{line.who:<11} ")]
        if line.word:
            row += [Span(f"{line.word:<6}", line.style), Span(f" {text}")]
        else:
            row.append(Span(text, line.style))
        shown = paint(row, color=self._color)
        self._writer.write(guard(shown) if self._github else shown.rstrip())


def progress(view: RunView, now_t: float) -> str:
    """How far the run is: `166/305  59 running  5 waiting  13 failed  $0.41  eta ~35s`."""
    retries, eta = view.traffic.retries.total(), view.eta_s(now_t)
    begins = "planning" if view.planning else "starting"
    return join(
        f"{view.ended}/{view.total}" if view.total else begins,
        f"{view.starting} starting" if view.starting else "",
        f"{view.running} running",
        f"{view.waiting} waiting",
        f"{view.counts[State.FAILED]} failed",
        f"{retries} {'retry' if retries == 1 else 'retries'}" if retries else "",
        f"{view.traffic.hedges} hedged" if view.traffic.hedges else "",
        view.money(),
        f"eta ~{duration(max(5, round(eta / 5) * 5))}" if eta is not None else "",
        _held(view, now_t),
    )


def _held(view: RunView, now_t: float) -> str:
    """What holds most calls back."""
    traffic = view.traffic
    holding = [limit for limit in traffic.shown(now_t) if limit.is_holding(now_t)]
    if not holding:
        return ""
    most = max(holding, key=lambda limit: limit.waiting)
    more = f" (and {len(holding) - 1} more limits)" if len(holding) > 1 else ""
    return f"{traffic.line(most, now_t)}{more}"


def guard(text: str) -> str:
    """The line without what a GitHub runner takes for a command: `##[` anywhere, `::` at its start."""
    text = text.replace("##[", "## [")
    return f": :{text.lstrip()[2:]}" if text.lstrip().startswith("::") else text.rstrip()
