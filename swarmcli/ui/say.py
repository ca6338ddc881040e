"""Plain text to stdout and stderr for the commands that print a page and end."""

import contextlib
import os
import signal
import sys


def out(text: str) -> None:
    """A line to stdout; when its reader has gone, the process ends as SIGPIPE ends others."""
    write_out(f"{text}\n".encode("utf-8", "replace"))


def write_out(data: bytes) -> None:
    """Bytes to stdout, all of them, at once."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        die_of_broken_pipe()


def err(text: str) -> None:
    """A line to stderr; nobody reading it is no error."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def die_of_broken_pipe() -> None:
    """End by SIGPIPE, without a word and without a traceback."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
