"""The live tree on stderr: Rich draws what `view` chose.

Rule: nothing here may hold up the agents. The event loop builds a frame at most eight times a second and leaves it
with the painter; only that thread waits for a terminal that is slow or stopped.
"""

import os
import signal
import threading
import time
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, TextIO, cast

from rich.console import Console

from swarmcli.core.events import BudgetWarning, ModeChosen, RunStarted, Stamped, Warned
from swarmcli.ui.clean import one_line
from swarmcli.ui.painter import Frame, Painter, Screen, Size
from swarmcli.ui.terminal import Display
from swarmcli.ui.ticker import Ticker
from swarmcli.ui.view import RunView

FRAME_S = 0.125
IDLE_FRAME_S = 1.0
"""Between frames in which only clocks moved; over SSH also when only a spinner did."""
LINES_PER_S = 20


class _Allowance:
    """So many lines a second; the others are counted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._asked = 0

    def take(self) -> bool:
        """Whether one more line may be printed now."""
        self._asked += 1
        return self._asked <= LINES_PER_S

    def dropped(self, *, final: bool = False) -> int:
        """How many lines were refused in a second that is over, told once."""
        now = self._clock()
        if now - self._began < 1.0 and not final:
            return 0
        dropped, self._began, self._asked = self._asked - LINES_PER_S, now, 0
        return max(0, dropped)


class TreeDisplay:
    """The live tree as a sink.

    Args:
        console: for stderr; see `on_terminal`.
        size: columns and lines of the terminal, asked for each frame; default: the console's.
        ascii: draw with ASCII only.
        slow: frames cost the user (SSH): move the spinner once a second only.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        size: Size | None = None,
        ascii: bool = False,
        slow: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = RunView()
        self._console = console
        self._size = size or (lambda: (console.width, console.height))
        self._ascii = ascii
        self._slow = slow
        self._painter = Painter(console, size)
        self._ticker = Ticker(self.tick, FRAME_S, clock)
        self._started = False
        self._closed = False
        self._drawn: tuple[int, int, int] | None = None
        self._drawn_t = 0.0
        self._of_events = _Allowance(clock)
        self._of_program = _Allowance(clock)

    @classmethod
    def on_terminal(cls, stream: TextIO, display: Display, env: Mapping[str, str]) -> "TreeDisplay":
        """A tree on this terminal, as `terminal.decide` found it to be."""
        synchronised = env.get("TERM") != "linux"
        console = Console(
            file=cast("IO[str]", Screen(stream, synchronised=synchronised)),
            force_terminal=True,
            force_interactive=True,
            color_system="auto" if display.color else None,
            no_color=not display.color,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            _environ=env,
        )
        slow = "SSH_CONNECTION" in env or "SSH_TTY" in env
        size = _terminal_size(stream.fileno(), env)
        return cls(console, size=size, ascii=display.ascii, slow=slow)

    def start(self) -> None:
        """Show the first frame and keep drawing; on the running event loop."""
        self._begin()
        self._ticker.start()
        self.tick(self._ticker.now_t())
        if threading.current_thread() is threading.main_thread():
            self._watch_job_control()

    def feed(self, stamped: Stamped) -> None:
        self._ticker.sync(stamped.t)
        self.view.feed(stamped)
        match stamped.event:
            case Warned(message=message):
                self._print(f"warning: {message}", self._of_events)
            case BudgetWarning(message=message):
                self._print(f"budget: {message}", self._of_events)
            case RunStarted(model_reason=reason) if reason:
                models = ", ".join(self.view.models)
                self._print(f"model: {models} ({reason})", self._of_events)
            case ModeChosen(mode=mode, reason=reason):
                self._print(f"mode: {mode} ({reason})" if reason else mode, self._of_events)
            case _:
                pass

    def tick(self, now_t: float) -> None:
        """Build a frame when there is something new to show and the painter is free."""
        if not self._started or self._closed or self._painter.busy:
            return
        self._tell_dropped()
        width, height = self._size()
        state = (self.view.version, width, height)
        moving = self.view.spins() and not self._slow
        if state == self._drawn and not moving and now_t - self._drawn_t < IDLE_FRAME_S:
            return
        self._drawn, self._drawn_t = state, now_t
        self._painter.show(Frame(self.view.rows(width, height, now_t, ascii=self._ascii)))

    def log(self, text: str, *, label: str = "") -> None:
        """Print a line above the tree: at most 20 a second, the rest is counted.

        A flood of warnings among the events does not use up these lines.
        """
        self._print(f"{label}: {text}" if label else text, self._of_program)

    def pause(self) -> None:
        """Clear the tree and show the cursor, for a question to the user."""
        self._painter.pause()

    def resume(self) -> None:
        """Draw again after `pause`."""
        self._drawn = None
        self._painter.resume()

    def close(self) -> None:
        """Clear the tree and show the cursor. Returns within two seconds also when the terminal is stopped."""
        if self._closed:
            return
        self._ticker.stop()
        self._tell_dropped(final=True)
        self._closed = True
        if self._started:
            self._ignore_job_control()
            self._painter.close()

    def force_restore(self) -> None:
        """Show the cursor at once, in front of `os._exit`; never waits."""
        screen = self._console.file
        if isinstance(screen, Screen):
            screen.abandoned = True
            screen.restore("\n")

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._painter.start()

    def _print(self, text: str, allowance: _Allowance) -> None:
        if self._closed:
            return
        self._tell_dropped()
        if allowance.take():
            self._begin()
            line = one_line(text)
            self._painter.print(line.encode("ascii", "replace").decode() if self._ascii else line)

    def _tell_dropped(self, *, final: bool = False) -> None:
        dropped = self._of_events.dropped(final=final) + self._of_program.dropped(final=final)
        if dropped:
            self._painter.print(f"{'...' if self._ascii else '…'} {dropped} more lines")

    def _watch_job_control(self) -> None:
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN:
            return
        # No signals in this loop (Windows), or no loop at all: then Ctrl-Z does what the terminal does.
        with suppress(NotImplementedError, RuntimeError):
            loop = get_running_loop()
            loop.add_signal_handler(signal.SIGTSTP, self._stop_process)
            loop.add_signal_handler(signal.SIGCONT, self._painter.resume)

    def _ignore_job_control(self) -> None:
        with suppress(NotImplementedError, RuntimeError):
            loop = get_running_loop()
            loop.remove_signal_handler(signal.SIGTSTP)
            loop.remove_signal_handler(signal.SIGCONT)

    def _stop_process(self) -> None:
        """Ctrl-Z: leave a clean terminal to the shell, stop as asked, and draw again when continued."""
        self.pause()
        self._ignore_job_control()
        os.kill(os.getpid(), signal.SIGTSTP)
        self._watch_job_control()
        self.resume()


def _terminal_size(fd: int, env: Mapping[str, str]) -> Size:
    """What the terminal says, and no more than COLUMNS and LINES allow: a row that is too wide breaks the tree."""

    def number(name: str) -> int:
        text = env.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0

    def bound(real: int, given: int, default: int) -> int:
        return min(real, given) if real and given else real or given or default

    limit = number("COLUMNS"), number("LINES")

    def size() -> tuple[int, int]:
        try:
            real = os.get_terminal_size(fd)
        except OSError:
            real = os.terminal_size((0, 0))
        return bound(real.columns, limit[0], 80), bound(real.lines, limit[1], 24)

    return size
