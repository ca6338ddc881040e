"""A real terminal: the tree while it runs, the answer and the summary afterwards, nothing left behind."""

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import pyte

from tests.e2e.command import COMMAND, Swarm
from tests.fakes.openai_server import Reply, Server, prompt_of

RECIPE = """\
version: 1
name: shapes
tasks:
  - {id: draw, prompt: "Draw {{ item }}", for_each: {items: [a, b, c, d, e, f, g, h], as: item}}
  - {id: judge, prompt: "Judge.", depends_on: [draw]}
"""


class Terminal:
    """A pseudo-terminal of a fixed size with a screen that can be read."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", fd: int, columns: int, lines: int
    ) -> None:
        self.process = process
        self.fd = fd
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""

    @property
    def text(self) -> str:
        """The visible screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def read(self, seconds: float = 0.1) -> bool:
        """Take what the program wrote; False when it has closed the terminal."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, text: str, timeout_s: float = 40) -> None:
        """Read until `text` is on the screen."""
        end = time.monotonic() + timeout_s
        while text not in self.text:
            assert self.read(), f"the program ended without {text!r}:\n{self.text}"
            assert time.monotonic() < end, f"no {text!r} in {timeout_s} s:\n{self.text}"

    def to_the_end(self, timeout_s: float = 40) -> int:
        """Read until the program ends; its exit code."""
        end = time.monotonic() + timeout_s
        while self.read():
            assert time.monotonic() < end, f"did not end in {timeout_s} s:\n{self.text}"
        return self.process.wait(timeout=10)


@contextmanager
def terminal(swarm: Swarm, *args: str, columns: int = 100, lines: int = 24) -> Iterator[Terminal]:
    """The command on a pseudo-terminal of its own."""
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {**swarm.env, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=swarm.folder,
        env=env,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    try:
        yield Terminal(process, main, columns, lines)
    finally:
        process.kill()
        process.wait()
        os.close(main)


def slow(body: dict) -> Reply:
    """Half a second, so that the tree can be seen."""
    return Reply(text=f"**drawn** {prompt_of(body)[:6]}", latency_s=0.5)


def test_the_tree_and_what_is_left_of_it(swarm: Swarm, server: Server):
    """While it runs: header, counts, rows. Afterwards: answer and summary, no row of the tree, cursor shown."""
    swarm.write("shapes.yaml", RECIPE)
    server.reply = slow

    with terminal(swarm, "run", "shapes.yaml", "-m", "openai/fake", "-j", "2") as screen:
        screen.until("draw[")
        during = screen.text
        code = screen.to_the_end()

    assert code == 0
    assert "shapes" in during
    assert "/9" in during
    assert len(during.splitlines()) < 24
    after = screen.text
    assert "drawn Judge" in after
    assert "├─" not in after
    assert "swarm show" in after
    assert screen.screen.cursor.hidden is False


def test_a_failed_agent_is_seen_while_the_run_goes_on(swarm: Swarm, server: Server):
    """The row of a failed agent shows its id and why."""
    swarm.write("shapes.yaml", RECIPE)
    server.reply = slow
    server.faults = lambda seen: "400" if "Draw b" in seen.prompt else "ok"

    with terminal(swarm, "run", "shapes.yaml", "-m", "openai/fake", "-j", "2") as screen:
        screen.until("bad_request")
        during = screen.text
        code = screen.to_the_end()

    assert "draw[1]" in during
    assert code == 3


def test_a_small_terminal_is_never_overrun(swarm: Swarm, server: Server):
    """At 44 by 10 the tree stays inside the window and leaves nothing in the scrollback."""
    swarm.write("shapes.yaml", RECIPE)
    server.reply = slow

    with terminal(
        swarm, "run", "shapes.yaml", "-m", "openai/fake", "-j", "2", columns=44, lines=10
    ) as screen:
        screen.until("draw")
        code = screen.to_the_end()

    history = ["".join(c.data for c in line.values()) for line in screen.screen.history.top]
    assert code == 0
    assert not [line for line in history if "├─" in line]


def test_interrupt_restores_the_terminal(swarm: Swarm, server: Server):
    """Ctrl-C twice on a terminal: 130, the cursor is back, and the way on is named."""
    swarm.write("shapes.yaml", RECIPE)
    server.faults = lambda seen: "hang" if "Draw c" in seen.prompt else "ok"

    with terminal(swarm, "run", "shapes.yaml", "-m", "openai/fake", "-j", "1") as screen:
        screen.until("draw[2]")
        screen.process.send_signal(signal.SIGINT)
        screen.until("Stopping")
        screen.process.send_signal(signal.SIGINT)
        code = screen.to_the_end()

    assert code == 130
    assert "swarm resume" in screen.text
    assert screen.screen.cursor.hidden is False
