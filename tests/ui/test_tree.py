"""The live tree on terminals that scroll, resize, stop reading or go away."""

import asyncio
import io
import os
import pty
import re
import select
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pyte
import pytest
from rich.console import Console

from swarmcli.core.events import AgentUpdated, BudgetWarning, Stamped, Warned
from swarmcli.ui import painter
from swarmcli.ui.terminal import Display
from swarmcli.ui.tree import LINES_PER_S, TreeDisplay
from swarmcli.ui.writer import write_all
from tests.effort import waits
from tests.ui import runs
from tests.ui.runs import Tape

TREE = Display(kind="tree", color=True, ascii=False, reason="test")
SOON_S = 5.0
"""Far longer than anything here takes; only a broken test waits so long."""


class Paper(io.StringIO):
    """A terminal's input, with a way to wait for what is written."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def flush(self) -> None:
        with self._written:
            self._written.notify_all()

    def wait(self, ready: Callable[[str], bool]) -> str:
        """Everything written so far, once it is `ready`."""
        with self._written:
            assert self._written.wait_for(lambda: ready(self.getvalue()), SOON_S)
            return self.getvalue()


class Window:
    """A display that draws on paper, and the terminal emulator that reads it."""

    def __init__(self, width: int = 80, height: int = 24, **options: bool) -> None:
        self.size = (width, height)
        self.paper = Paper()
        self.now = 0.0
        console = Console(
            file=self.paper,
            width=width,
            height=height,
            force_terminal=True,
            color_system="256",
            legacy_windows=False,
            _environ={},
        )
        self.display = TreeDisplay(
            console, size=lambda: self.size, clock=lambda: self.now, **options
        )
        self.display.log("first line")
        self.screen = pyte.HistoryScreen(width, height, history=5000, ratio=0.5)
        self._stream = pyte.Stream(self.screen)
        self._read = 0

    def feed(self, *stamped: Stamped) -> None:
        """Give it events."""
        for one in stamped:
            self.now = max(self.now, one.t)
            self.display.feed(one)

    def frame(self, now_t: float) -> str:
        """Draw, wait until it is painted, and return what the screen shows."""
        assert self.draws(now_t)
        return self.shown()

    def draws(self, now_t: float) -> bool:
        """Tick; whether that painted a frame, which stands on the paper then."""
        self.now = now_t
        painter = self.display._painter
        painted = painter.painted
        self.display.tick(now_t)
        if self.display._drawn_t != now_t:
            return False
        with painter._turn:
            assert painter._turn.wait_for(lambda: painter.painted > painted, SOON_S)
        return True

    def shown(self) -> str:
        """What the screen shows now."""
        text = self.paper.getvalue()
        self._stream.feed(text[self._read :].replace("\n", "\r\n"))
        self._read = len(text)
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n")

    def history(self) -> str:
        """What has scrolled away."""
        lines = self.screen.history.top
        return "\n".join(
            "".join(line[x].data for x in range(self.screen.columns)) for line in lines
        )

    def close(self) -> str:
        """Close the display; the last screen."""
        self.display.close()
        return self.shown()


@pytest.mark.parametrize(
    ("agents", "size"), [(3, (80, 24)), (300, (80, 24)), (300, (120, 30)), (300, (40, 10))]
)
def test_frames_replace_each_other(agents: int, size: tuple[int, int]) -> None:
    """In every frame there is one header; nothing of a frame is left behind; a log line stands there once."""
    window = Window(*size)
    tape = runs.fan_out(agents, 40.0)
    for index in range(30):
        due = [s for s in tape.stamped if index * 40 / 30 <= s.t < (index + 1) * 40 / 30]
        window.feed(*due)
        if index == 10:
            window.display.log("a line above the tree")
        shown = window.frame((index + 1) * 40 / 30)
        assert shown.count("review") == 1
    everything = f"{window.history()}\n{shown}"
    ended = window.close()

    assert everything.count("review") == 1
    assert everything.count("a line above the tree") == 1
    assert everything.count("first line") == 1
    assert "review" not in ended
    assert "review" not in window.history()
    assert not window.screen.cursor.hidden


def test_the_cursor_is_hidden_while_the_tree_lives() -> None:
    """And shown again when it goes."""
    window = Window()
    window.feed(*runs.fan_out(3, 9.0).stamped)
    window.frame(9.0)

    assert window.screen.cursor.hidden
    window.close()
    assert not window.screen.cursor.hidden


@pytest.mark.parametrize("after", [(60, 24), (80, 12), (50, 10), (120, 40)])
def test_a_resized_window_is_right_in_the_next_frame(after: tuple[int, int]) -> None:
    """Narrower, lower or larger: one header, every row whole, never taller than the window."""
    window = Window(80, 24)
    window.feed(*runs.fan_out(300, 40.0).stamped)
    window.frame(40.0)
    window.size = after
    window.screen.resize(after[1], after[0])
    for step in range(3):
        shown = window.frame(40.2 + step / 5)

    assert shown.count("review-diff") == 1
    assert "next: judge" in shown
    assert len(shown.splitlines()) <= after[1]
    assert "review-diff" not in window.close()


def test_a_frame_that_is_older_than_the_resize_does_not_wrap() -> None:
    """Rows built for a wide window are cut to the narrow one at the moment of painting."""
    window = Window(120, 30)
    window.feed(*runs.fan_out(30).stamped)
    window.frame(40.0)
    window.size = (50, 30)
    window.screen.resize(30, 50)
    window.display.log("a line makes the old frame be painted again")
    text = window.paper.wait(lambda text: "painted again" in text)
    rows = text[text.rindex("painted again") :].split("\n")

    assert all(len(_visible(row)) <= 50 for row in rows)
    window.close()


def _visible(row: str) -> str:
    screen = pyte.Screen(300, 1)
    pyte.Stream(screen).feed(row)
    return screen.display[0].rstrip()


def test_model_text_is_drawn_as_it_is() -> None:
    """Markup, emoji codes and escape sequences are neither obeyed nor an error."""
    window = Window(100, 24)
    note = "[/bold] [red]x[/] :smile: \x1b[31mred \x1b]0;title\x07 array[int] \u202egnp"
    window.feed(*runs.begun().started("a").add(AgentUpdated(agent="a", note=note)).stamped)
    shown = window.frame(1.0)
    window.display.log("[/bold] \x1b[5mblinks :smile:")

    assert "[/bold] [red]x[/] :smile: red array[int] gnp" in shown
    assert "[/bold] blinks :smile:" in window.close()
    assert "\x1b[5m" not in window.paper.getvalue()
    assert "title" not in window.screen.title


def test_warnings_stand_above_the_tree() -> None:
    """What the user should know stays in the scrollback after the run."""
    window = Window()
    tape = runs.begun().add(
        Warned(message="no cache in this run"), BudgetWarning(message="80 % of $2.00 is spent")
    )
    window.feed(*tape.stamped)
    window.frame(1.0)
    ended = window.close()

    assert "model: openai/gpt-5-mini (OPENAI_API_KEY is set)" in ended
    assert "warning: no cache in this run" in ended
    assert "budget: 80 % of $2.00 is spent" in ended


def test_a_flood_of_lines_is_cut_to_a_few_a_second() -> None:
    """Twenty lines are printed, the others are counted, and the next second is a new one."""
    window = Window()
    for index in range(500):
        window.display.log(f"flood {index:03}")
    window.now = 1.5
    window.display.log("afterwards")
    window.close()
    text = window.paper.getvalue()

    assert text.count("flood") == LINES_PER_S - 1
    assert "… 481 more lines" in text
    assert text.count("afterwards") == 1


def test_a_flood_of_warnings_leaves_room_for_the_program() -> None:
    """What Ctrl-C does is said although 500 warnings came in the same second."""
    window = Window()
    window.feed(*Tape().add(*(Warned(message=f"w {index}") for index in range(500))).stamped)
    window.display.log("Stopping: 37 agents get 10 s to finish.")
    window.close()
    text = window.paper.getvalue()

    assert text.count("warning: w") == LINES_PER_S
    assert text.count("Stopping: 37 agents") == 1
    assert "… 480 more lines" in text


def test_ascii_lines_above_the_tree_are_ascii() -> None:
    """As the tree itself."""
    window = Window(ascii=True)
    window.feed(*runs.begun().started("a").stamped)
    window.display.log("naïve ✓")
    window.frame(1.0)
    window.close()

    assert "na?ve ?" in window.paper.getvalue()
    assert window.paper.getvalue().isascii()


def test_without_colour_there_are_no_colours() -> None:
    """The tree still moves the cursor, and that is all."""
    plain = Display(kind="tree", color=False, ascii=False, reason="test")
    with terminal() as (master, stream):
        display = TreeDisplay.on_terminal(stream, plain, {"TERM": "xterm-256color"})
        for stamped in runs.fan_out(30).stamped:
            display.feed(stamped)
        display.tick(40.0)
        display.close()
        text = _rest_of(master, _painter_of(display)).decode()

    assert "review" in text or "model:" in text
    assert not re.search(r"\x1b\[[0-9;]*m", text)


def test_nothing_is_drawn_twice_for_nothing() -> None:
    """Without news and without a spinner a frame comes once a second; over SSH the spinner waits for that too."""
    idle, slow, quick = Window(), Window(slow=True), Window()
    idle.feed(*runs.begun().stamped)
    slow.feed(*runs.begun().started("a").stamped)
    quick.feed(*runs.begun().started("a").stamped)

    assert [_frames(window) for window in (idle, slow, quick)] == [2, 2, 16]


def _frames(window: Window) -> int:
    """How many of the ticks of two seconds paint something."""
    window.frame(10.0)
    count = sum(window.draws(10 + step / 8) for step in range(1, 17))
    window.close()
    return count


def test_a_pause_clears_the_tree_until_it_is_over() -> None:
    """For a question to the user: the cursor is visible, the terminal is theirs, then the tree comes back once."""
    window = Window()
    window.feed(*runs.fan_out(3, 9.0).stamped)
    window.frame(9.0)
    window.display.pause()
    paused = window.shown()
    cursor_hidden = window.screen.cursor.hidden
    window.paper.write("allow shell? y\r\n")
    window.display.resume()
    shown = window.frame(11.0)

    assert "review" not in paused
    assert not cursor_hidden
    assert shown.count("review-diff") == 1
    assert "allow shell? y" in window.close()


def test_a_continued_process_draws_below_what_others_wrote() -> None:
    """After SIGCONT the old tree is not ours to erase: this guards the private attribute of Rich that we reset."""
    window = Window()
    window.feed(*runs.fan_out(3, 9.0).stamped)
    window.frame(9.0)
    window.shown()
    window._stream.feed("\r\n$ fg\r\n")
    window.display.resume()
    shown = window.frame(11.0)

    assert "$ fg" in shown
    assert shown.index("$ fg") < shown.rindex("review-diff")
    assert "$ fg" in window.close()


def test_closing_twice_or_before_the_start_is_harmless() -> None:
    """Clean-up code need not know how far the display had come."""
    window = Window()
    unused = TreeDisplay(Console(file=io.StringIO(), force_terminal=True))
    unused.close()
    window.close()
    window.display.close()
    window.display.log("too late")
    window.display.tick(9.0)
    window.feed(*runs.begun().stamped)

    assert "too late" not in window.paper.getvalue()


async def test_on_an_event_loop_it_draws_by_itself() -> None:
    """From the start until the close, without anybody calling `tick`."""
    paper = Paper()
    console = Console(file=paper, width=80, height=24, force_terminal=True, _environ={})
    display = TreeDisplay(console)
    display.start()
    for stamped in runs.fan_out(30, 0.0).stamped:
        display.feed(stamped)
    await asyncio.to_thread(paper.wait, lambda text: "/31" in text)
    await asyncio.to_thread(paper.wait, lambda text: text.count("/31") > 3)
    display.close()

    assert paper.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in paper.getvalue()[-40:]


# Real pseudo-terminals.


@contextmanager
def terminal(width: int = 80, height: int = 24) -> Iterator[tuple[int, TextIO]]:
    """A pty: its master end, and the stream of a program on it."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (height, width))
    stream = os.fdopen(slave, "w", encoding="utf-8")
    try:
        yield master, stream
    finally:
        os.close(master)
        with suppress(OSError):
            stream.close()


def _painter_of(display: TreeDisplay) -> threading.Thread:
    return display._painter._thread


def _rest_of(master: int, thread: threading.Thread) -> bytes:
    """What comes out of the terminal until the painter has ended."""
    text = b""
    while True:
        ended = not thread.is_alive()
        if select.select([master], [], [], 0.05)[0]:
            text += os.read(master, 65536)
        elif ended:
            return text


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a painter has begun to write to its terminal; a close waits for it a moment only."""
    begun = threading.Event()
    assert painter.CLOSE_TIMEOUT_S <= 2.0
    monkeypatch.setattr(painter, "CLOSE_TIMEOUT_S", 0.05)

    def write(fd: int, data: bytes) -> None:
        begun.set()
        write_all(fd, data)

    monkeypatch.setattr(painter, "write_all", write)
    return begun


@contextmanager
def stopped(writing: threading.Event) -> Iterator[tuple[int, TreeDisplay]]:
    """The end of a terminal that takes nothing until somebody reads there, and a display whose painter hangs on it.

    It is a pipe: of a pseudo-terminal only the kernel knows when it is full.
    """
    master, slave = os.pipe()
    os.set_blocking(slave, False)
    with suppress(BlockingIOError):
        while True:
            os.write(slave, b"." * select.PIPE_BUF)
    os.set_blocking(slave, True)
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        display = TreeDisplay.on_terminal(stream, TREE, {"TERM": "xterm-256color"})
        display.log("begin")
        assert writing.wait(SOON_S)
        try:
            yield master, display
        finally:
            display.close()
            _rest_of(master, _painter_of(display))
            os.close(master)


def test_a_terminal_that_stops_reading_does_not_stop_the_program(
    writing: threading.Event,
) -> None:
    """Neither events nor frames nor lines wait for it, the close at most two seconds; nothing is drawn afterwards."""
    with stopped(writing) as (master, display):

        def go_on() -> None:
            for stamped in runs.fan_out(300).stamped:
                display.feed(stamped)
            for step in range(50):
                display.tick(40.0 + step / 5)
                display.log("a line")

        waited = waits(go_on)
        kept = display._painter.busy
        display.close()
        thread = _painter_of(display)
        hangs = thread.is_alive()
        tail = _rest_of(master, thread)[-200:]

    assert waited == []
    assert kept, "the frame was taken, so the terminal was not full"
    assert hangs
    assert b"review-diff" not in tail
    assert b"\x1b[?25h" in tail


def test_the_third_interrupt_restores_what_it_can_without_waiting(
    writing: threading.Event,
) -> None:
    """On a terminal that reads the cursor is shown at once; on a stopped one nobody waits for it."""
    with terminal() as (master, stream):
        display = TreeDisplay.on_terminal(stream, TREE, {"TERM": "xterm"})
        display.force_restore()
        assert os.read(master, 1000).endswith(b"\x1b[?25h\r\n")
    with stopped(writing) as (_, display):
        waited = waits(display.force_restore)
        hangs = _painter_of(display).is_alive()

    assert waited == ["select"], "for a tenth of a second, and no write"
    assert hangs


def test_a_terminal_that_goes_away_ends_the_drawing_only() -> None:
    """A closed window (EIO) raises nothing into the program, and the close returns at once."""
    with terminal() as (master, stream):
        display = TreeDisplay.on_terminal(stream, TREE, {"TERM": "xterm"})
        display.log("begin")
        os.read(master, 1)
    display.feed(runs.begun().stamped[0])
    display.tick(1.0)
    thread = _painter_of(display)
    thread.join(SOON_S)

    assert not thread.is_alive()
    assert display._painter.close(), "nothing is left to wait for"
    display.close()


@pytest.mark.parametrize(("term", "marked"), [("xterm-256color", True), ("linux", False)])
def test_frames_are_one_synchronised_update(term: str, marked: bool) -> None:
    """Each write is wrapped in DEC mode 2026, except for consoles that might print the codes."""
    with terminal() as (master, stream):
        display = TreeDisplay.on_terminal(stream, TREE, {"TERM": term})
        for stamped in runs.fan_out(3, 9.0).stamped:
            display.feed(stamped)
        display.log("begin")
        display.tick(9.0)
        text = b""
        while b"review-diff" not in text:
            text += os.read(master, 65536)
        display.close()
        text += _rest_of(master, _painter_of(display))

    assert text.count(b"\x1b[?2026h") == text.count(b"\x1b[?2026l")
    assert (b"\x1b[?2026h" in text) is marked


@pytest.mark.parametrize(
    ("env", "expected"),
    [({}, 90), ({"COLUMNS": "60"}, 60), ({"COLUMNS": "200"}, 90), ({"COLUMNS": "x"}, 90)],
)
def test_the_tree_is_as_wide_as_the_terminal_and_no_wider_than_asked(
    env: dict[str, str], expected: int
) -> None:
    """COLUMNS can make it narrower; wider than the terminal would break it."""
    with terminal(90, 20) as (_, stream):
        display = TreeDisplay.on_terminal(stream, TREE, {"TERM": "xterm", **env})
        size = display._size()

    assert size == (expected, 20)
