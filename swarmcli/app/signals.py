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
    # `nohup` has said that hanging up is not for us. An ignored SIGINT says nothing: every shell script starts its
    # background jobs so, and whoever sends one there means to end what costs money.
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in _WANTED if not (ignored and number == signal.SIGHUP)]
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
