"""Lines to a stream whose reader may be slow, stopped or gone.

Rule: the caller never waits and never gets an exception. A stream that can block (a terminal, a pipe) is written by a
thread of its own, past Python's buffers: at exit the interpreter would wait for a lock that a stuck thread holds.
"""

import asyncio
import contextlib
import os
import queue
import select
import stat
import threading
from collections.abc import Callable
from typing import TextIO


class LineWriter:
    """Writes one line after the other, each flushed.

    Args:
        stream: where to; its `encoding` is used, and what that cannot hold is escaped.
        on_error: called once, on the event loop where there is one, when nothing can be written any more.
        encoding: instead of the stream's.
    """

    def __init__(
        self,
        stream: TextIO,
        on_error: Callable[[OSError], None] | None = None,
        *,
        encoding: str | None = None,
    ) -> None:
        self.error: OSError | None = None
        """Why writing ended early; None while all is well."""
        self._stream = stream
        self._encoding = encoding or getattr(stream, "encoding", None) or "utf-8"
        self._on_error = on_error
        self._fd = _descriptor(stream)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        if self._fd is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                self._thread = threading.Thread(target=self._run, name="swarm-lines", daemon=True)
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def write(self, line: str) -> None:
        """Write the line and a newline, now or soon. Without effect after an error, or when closed."""
        if self.error is not None or self._closed:
            return
        if self._thread is None:
            self._put(line)
            return
        if self._thread.ident is None:
            self._thread.start()
        self._lines.put(line)

    def close(self, timeout_s: float | None = None) -> bool:
        """Write what is left; True when all of it was written.

        Args:
            timeout_s: how long to wait for the reader; None: as long as it takes, as a pipeline expects.
        """
        if not self._closed:
            self._closed = True
            self._lines.put(None)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_s)
            return not self._thread.is_alive() and self.error is None
        return self.error is None

    def _run(self) -> None:
        for line in iter(self._lines.get, None):
            self._put(line)
            if self.error is not None:
                return

    def _put(self, line: str) -> None:
        try:
            if self._fd is None:
                self._stream.write(line + "\n")
                self._stream.flush()
            else:
                write_all(self._fd, (line + "\n").encode(self._encoding, "backslashreplace"))
        except (OSError, ValueError) as exc:
            self.error = exc if isinstance(exc, OSError) else OSError(str(exc))
            self._report(self.error)

    def _report(self, error: OSError) -> None:
        if self._on_error is None:
            return
        if self._loop is not None and self._loop.is_running():
            # The loop may have ended in between; then nobody is left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_error, error)
        else:
            self._on_error(error)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes, waiting for the reader also where somebody made the descriptor non-blocking.

    Raises:
        OSError: the other end is gone, or the disk is full.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll(1000)


def _descriptor(stream: TextIO) -> int | None:
    """The stream's file descriptor; None for one in memory."""
    try:
        fd = stream.fileno()
        os.fstat(fd)
    except (OSError, ValueError, AttributeError):
        return None
    return fd
