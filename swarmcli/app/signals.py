"""Ctrl-C and its relatives, on the running event loop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator

_WANTED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def caught(on_signal: Callable[[int], None]) -> Generator[None]:
    """Call `on_signal` with the number of each SIGINT, SIGTERM and SIGHUP, instead of dying of it."""
    loop = asyncio.get_running_loop()
    # `nohup` and `trap "" INT` have said that these are not for us.
    numbers = [number for number in _WANTED if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
