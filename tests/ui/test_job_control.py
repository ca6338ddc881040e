"""The tree under a shell's job control: Ctrl-Z, fg, and a start in the background."""

import os
import pty
import select
import shutil
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyte
import pytest

BASH = shutil.which("bash")
PROGRAM = """
import asyncio, os, sys
from swarmcli.ui.terminal import decide
from swarmcli.ui.tree import TreeDisplay
from tests.ui import runs

async def main():
    env = {"TERM": "xterm-256color"}
    display = TreeDisplay.on_terminal(sys.stderr, decide("tree", "auto", sys.stderr, env), env)
    display.start()
    try:
        for stamped in runs.fan_out(30, 0.0).stamped:
            display.feed(stamped)
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.02)
    finally:
        display.close()
    print("program ended", file=sys.stderr)

asyncio.run(main())
"""


class Shell:
    """An interactive bash on a pseudo-terminal, and the screen that a person sees."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.done = folder / "done"
        program = folder / "program.py"
        program.write_text(PROGRAM)
        self.start = f"{sys.executable} {program} {self.done}"
        environ = {**os.environ, "PYTHONPATH": str(checkout), "PS1": "$ ", "TERM": "xterm-256color"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(str(BASH), ["bash", "--norc", "-i"], environ)  # noqa: S606
        termios.tcsetwinsize(self.fd, (24, 80))
        self.screen = pyte.HistoryScreen(80, 24, history=1000)
        self._stream = pyte.ByteStream(self.screen)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())

    def until(self, ready: Callable[[str], bool]) -> str:
        """The screen, once it is `ready`."""
        deadline = time.monotonic() + 20
        while not ready(self.text()):
            assert time.monotonic() < deadline, self.text()
            if select.select([self.fd], [], [], 0.1)[0]:
                self._stream.feed(os.read(self.fd, 65536))
        return self.text()

    def text(self) -> str:
        """What has scrolled away, and what the screen shows."""
        lines = ["".join(line[x].data for x in range(80)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*lines, *self.screen.display]).rstrip()

    def close(self) -> None:
        """End the shell and what it started."""
        self.done.touch()
        with suppress(OSError):
            os.kill(self.pid, signal.SIGHUP)
        os.close(self.fd)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@pytest.fixture
def shell(tmp_path: Path, checkout: Path) -> Iterator[Shell]:
    if BASH is None:
        pytest.skip("no bash")
    shell = Shell(tmp_path, checkout)
    yield shell
    shell.close()


def test_ctrl_z_leaves_a_clean_terminal_and_fg_brings_the_tree_back(shell: Shell) -> None:
    """The shell gets its cursor and no half tree; afterwards the tree is drawn below, once."""
    shell.until(lambda text: "$" in text)
    shell.type(f"{shell.start}\n")
    shell.until(lambda text: "review-diff" in text and shell.screen.cursor.hidden)
    shell.type("\x1a")
    stopped = shell.until(lambda text: "Stopped" in text and not shell.screen.cursor.hidden)
    shell.type("echo between\nfg\n")
    back = shell.until(lambda text: "review-diff" in text and shell.screen.cursor.hidden)
    shell.done.touch()
    ended = shell.until(lambda text: "program ended" in text and text.endswith("$"))

    assert "review-diff" not in stopped
    assert back.count("review-diff") == 1
    assert back.index("between") < back.index("review-diff")
    assert "review-diff" not in ended
    assert "between" in ended
    assert not shell.screen.cursor.hidden


def test_a_job_in_the_background_does_not_paint_over_the_shell(shell: Shell) -> None:
    """It draws when it is brought to the foreground."""
    shell.until(lambda text: "$" in text)
    shell.type(f"{shell.start} &\n")
    shell.until(lambda text: "model: openai" in text)
    shell.type("echo still mine\n")
    busy = shell.until(lambda text: text.count("still mine") == 2)
    shell.type("fg\n")
    shell.until(lambda text: "review-diff" in text)
    shell.done.touch()
    ended = shell.until(lambda text: "program ended" in text)

    assert "review-diff" not in busy
    assert "still mine" in ended
