"""The painter: one thread that owns the terminal and draws what it is given, however long the terminal takes.

Rule: who hands over a frame or a line never waits. A frame that was not drawn yet gives way to the next one.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from swarmcli.ui.cells import STYLES, Row
from swarmcli.ui.writer import write_all

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

    def restore(self, end: str = "") -> None:
        """Show the cursor if that can be done at once; never waits."""
        with suppress(OSError, ValueError):
            if select.select([], [self._fd], [], 0.1)[1]:
                os.write(self._fd, f"{RESTORE}{end}".encode())


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
            with self._turn:
                self.painted += 1
                self._turn.notify_all()

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
