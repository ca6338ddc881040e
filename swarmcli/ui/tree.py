"""The live tree on stderr: Rich draws what `view` chose.

Rule: nothing here may hold up the agents. The event loop builds a frame and leaves it in a slot with one place; one
painter thread owns the terminal, takes the latest frame and writes it, and may wait for a stopped terminal for ever.
"""

import os
import select
import signal
import threading
import time
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from swarmcli.core.events import BudgetWarning, ModeChosen, RunStarted, Stamped, Warned
from swarmcli.ui.cells import STYLES, Row
from swarmcli.ui.clean import one_line
from swarmcli.ui.terminal import Display
from swarmcli.ui.ticker import Ticker
from swarmcli.ui.view import RunView
from swarmcli.ui.writer import write_all

FRAME_S = 0.125
IDLE_FRAME_S = 1.0
"""Between frames in which only clocks moved; over SSH also when only a spinner did."""
LINES_PER_S = 20
CLOSE_TIMEOUT_S = 2.0
PAUSE_TIMEOUT_S = 0.5
BACKGROUND_POLL_S = 1.0
RESTORE = "\x1b[?2026l\x1b[0m\x1b[?25h"
"""Ends a synchronised update, resets colours, shows the cursor."""

_STYLES = {name: Style.parse(words) for name, words in STYLES.items()}
Size = Callable[[], tuple[int, int]]


class Frame:
    """Rows for Rich, one line each, cut to the console's width; no markup, highlighting or emoji codes."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for index, row in enumerate(self.rows):
            if index:
                yield Segment.line()
            for text, style in row:
                yield Segment(text, _STYLES[style])


class Screen:
    """A terminal as the file of a Rich console: one write per flush, past Python's own buffers and their locks.

    Args:
        stream: a terminal.
        synchronised: mark each write as one update (DEC mode 2026), so that no half frame is seen.
    """

    encoding: str

    def __init__(self, stream: TextIO, *, synchronised: bool) -> None:
        self.encoding = stream.encoding or "utf-8"
        self.abandoned = False
        """Nobody waits for this screen any more: what was not written yet is dropped."""
        self._fd = stream.fileno()
        self._frame = "\x1b[?2026h{}\x1b[?2026l" if synchronised else "{}"
        self._pieces: list[str] = []

    def write(self, text: str) -> int:
        self._pieces.append(text)
        return len(text)

    def flush(self) -> None:
        text, self._pieces = "".join(self._pieces), []
        if text and not self.abandoned:
            write_all(self._fd, self._frame.format(text).encode(self.encoding, "replace"))

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def in_background(self) -> bool:
        """Another job owns the terminal now: drawing would paint over it."""
        try:
            return os.tcgetpgrp(self._fd) != os.getpgrp()
        except OSError:
            return False

    def restore(self) -> None:
        """Show the cursor if that can be done at once; never waits."""
        with suppress(OSError, ValueError):
            if select.select([], [self._fd], [], 0.1)[1]:
                os.write(self._fd, RESTORE.encode())


class Painter:
    """The thread that owns the terminal, with one place for the next frame and a queue of lines to print above it."""

    def __init__(self, console: Console, size: Size | None) -> None:
        self.painted = 0
        """How many frames were written."""
        self._console = console
        self._size = size
        self._screen = console.file if isinstance(console.file, Screen) else None
        self._turn = threading.Condition()
        self._frame: Frame | None = None
        self._lines: deque[str] = deque(maxlen=1000)
        self._paused = False
        self._is_paused = threading.Event()
        self._moved = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="swarm-painter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def busy(self) -> bool:
        """The last frame has not been taken yet, so another one would be work for nothing."""
        return self._frame is not None

    def show(self, frame: Frame) -> None:
        with self._turn:
            self._frame = frame
            self._turn.notify()

    def print(self, line: str) -> None:
        with self._turn:
            self._lines.append(line)
            self._turn.notify()

    def pause(self) -> None:
        """Clear the tree and show the cursor; waits a moment for that to happen."""
        with self._turn:
            self._paused = True
            self._is_paused.clear()
            self._turn.notify()
        if self._thread.is_alive():
            self._is_paused.wait(PAUSE_TIMEOUT_S)

    def resume(self) -> None:
        """Draw again, from where the cursor is now."""
        with self._turn:
            self._moved = not self._paused
            self._paused = False
            self._turn.notify()

    def close(self) -> bool:
        """Clear the tree and end the thread; False when the terminal takes nothing, and the thread was left behind."""
        with self._turn:
            self._closing, self._frame = True, None
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            return True
        if self._screen is not None:
            self._screen.abandoned = True
            self._screen.restore()
        return False

    def _run(self) -> None:
        # A terminal that has gone away ends the drawing, not the run.
        with suppress(OSError, ValueError):
            while not self._closing:
                if not self._paused and not self._in_background():
                    self._draw()
                    continue
                self._is_paused.set()
                if self._paused:
                    self._wait(lambda: not self._paused)
                else:
                    self._print_lines()
                    self._wait(lambda: self._paused, BACKGROUND_POLL_S)
            self._print_lines()
        if self._screen is not None and self._screen.abandoned:
            self._screen.restore()

    def _wait(self, ready: Callable[[], bool], timeout_s: float | None = None) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._closing or ready(), timeout_s)

    def _draw(self) -> None:
        """Keep the tree on the screen until it is to be paused or closed."""
        self._fit()
        live = Live(
            Frame([]),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        live.start()
        try:
            while not (self._closing or self._paused):
                self._step(live)
        finally:
            live.update(Frame([]))
            live.stop()

    def _step(self, live: Live) -> None:
        """Wait for something to show, and show it."""
        self._wait(lambda: bool(self._frame or self._lines or self._paused))
        with self._turn:
            frame, self._frame = self._frame, None
            moved, self._moved = self._moved, False
        self._fit()
        if moved:
            # Somebody else has written here since: what is above the cursor is not ours to erase.
            live._live_render._shape = None  # pyright: ignore[reportPrivateUsage]
        self._print_lines()
        if frame is not None:
            live.update(frame, refresh=True)
            self.painted += 1

    def _print_lines(self) -> None:
        """Print the queued lines; Rich draws a live tree again below them."""
        with self._turn:
            lines = [Text(line) for line in self._lines]
            self._lines.clear()
        if lines:
            self._console.print(*lines, sep="\n", soft_wrap=True)

    def _in_background(self) -> bool:
        return self._screen is not None and self._screen.in_background()

    def _fit(self) -> None:
        if self._size is not None:
            width, height = self._size()
            self._console.width, self._console.height = max(1, width), max(1, height)


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
        self._clock = clock
        self._painter = Painter(console, size)
        self._ticker = Ticker(self.tick, FRAME_S, clock)
        self._started = False
        self._closed = False
        self._drawn: tuple[int, int, int] | None = None
        self._drawn_t = 0.0
        self._second = 0.0
        self._lines = 0

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
                self.log(message, label="warning")
            case BudgetWarning(message=message):
                self.log(message, label="budget")
            case RunStarted(model_reason=reason) if reason:
                self.log(f"{', '.join(self.view.models)} ({reason})", label="model")
            case ModeChosen(mode=mode, reason=reason):
                self.log(f"{mode} ({reason})" if reason else mode, label="mode")
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
        """Print a line above the tree: at most 20 a second, the rest is counted."""
        if self._closed:
            return
        self._tell_dropped()
        self._lines += 1
        if self._lines <= LINES_PER_S:
            self._begin()
            line = one_line(f"{label}: {text}" if label else text)
            self._painter.print(line.encode("ascii", "replace").decode() if self._ascii else line)

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
        self._second = float("-inf")
        self._tell_dropped()
        self._closed = True
        if self._started:
            self._ignore_job_control()
            self._painter.close()

    def force_restore(self) -> None:
        """Show the cursor at once, in front of `os._exit`; never waits."""
        screen = self._console.file
        if isinstance(screen, Screen):
            screen.abandoned = True
            screen.restore()

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._painter.start()

    def _tell_dropped(self) -> None:
        now = self._clock()
        if now - self._second < 1.0:
            return
        dropped, self._second, self._lines = self._lines - LINES_PER_S, now, 0
        if dropped > 0:
            self._painter.print(f"{'...' if self._ascii else '…'} {dropped} more lines")

    def _watch_job_control(self) -> None:
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
        return int(text) if text.isascii() and text.isdigit() else 0

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
