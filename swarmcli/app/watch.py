"""`swarm watch RUN`: the display of a run from another shell, folded from the journal while it grows.

Rule: a watcher only reads. The run neither sees it nor waits for it, and goes on when it leaves.
"""

import asyncio
import contextlib
import signal
from collections.abc import Generator, Sequence

from swarmcli.adapters.journal import JournalTail
from swarmcli.adapters.runs import RunDir
from swarmcli.app.display import LiveDisplay, conclude, display_for
from swarmcli.app.models import EMBEDDED
from swarmcli.app.options import RunOptions
from swarmcli.app.workspace import open_workspace
from swarmcli.core.events import RunEnd, RunStarted, Stamped
from swarmcli.errors import EXIT_OK, EXIT_SIGINT, EXIT_SIGTERM
from swarmcli.ui.clean import clean
from swarmcli.ui.say import err
from swarmcli.ui.terminal import Display

POLL_S = 0.25
UNATTENDED_LOOKS = 4
"""So many in a row make a run dead: one that is about to start or to be resumed has no lock yet."""


class _Watch:
    """What is known of a run's latest session, and shown."""

    def __init__(self, run: RunDir, live: LiveDisplay) -> None:
        self.end: RunEnd | None = None
        self._run = run
        self._live = live
        self._tail = JournalTail(run.journal)
        self._told = 0
        self._unattended = 0

    def look(self) -> bool:
        """Show what is new; whether there may be more.

        Raises:
            StorageError: the journal cannot be read, or is damaged.
        """
        # The lock first: a run that ends between the two looks is then seen at its end.
        attended = self._run.locked()
        new = self._tail.read()
        for stamped in _latest_session(new):
            self._live.feed(stamped)
            if isinstance(stamped.event, RunStarted):
                self.end = None
            elif isinstance(stamped.event, RunEnd):
                self.end = stamped.event
        for problem in self._tail.problems[self._told :]:
            self._live.log(problem)
        self._told = len(self._tail.problems)
        self._unattended = 0 if attended or new else self._unattended + 1
        finished = self.end is not None and not attended
        return not finished and self._unattended < UNATTENDED_LOOKS

    async def follow(self, stopped: "asyncio.Future[int]") -> None:
        """Look until the run has ended, has died, or somebody has seen enough."""
        try:
            if not self.look():
                return
            self._live.start()
            while not stopped.done():
                await asyncio.wait([stopped], timeout=POLL_S)
                if not self.look():
                    return
        finally:
            self._live.close()


def watch(ref: str, *, progress: str | None) -> int:
    """`swarm watch RUN`; the exit code tells how the watching went, not the run.

    Raises:
        UsageError: no such run; StorageError: its journal cannot be read.
    """
    ws = open_workspace()
    run = ws.runs.open(ref)
    display, live = display_for(RunOptions(progress=progress), ws)
    return asyncio.run(_watch(run, display, live))


async def _watch(run: RunDir, display: Display, live: LiveDisplay) -> int:
    watching = _Watch(run, live)
    with _signals() as stopped:
        await watching.follow(stopped)
    if watching.end is not None:
        if watching.end.error is not None:
            err(f"error: {clean(watching.end.error.message)}")
        conclude(watching.end, display, live.view, tiny=EMBEDDED in live.view.models)
    elif run.locked():
        err(f"run {run.id} goes on; to look again: swarm watch {run.id}")
    else:
        err(f"run {run.id} stopped without an end: nobody works on it any more")
        err(f"  go on: swarm resume {run.id}")
    return stopped.result() if stopped.done() else EXIT_OK


def _latest_session(events: Sequence[Stamped]) -> Sequence[Stamped]:
    """What a resumed run shows: its journal from there on. Reused agents are told again in it."""
    starts = (
        number
        for number, stamped in enumerate(events)
        if isinstance(stamped.event, RunStarted) and stamped.event.resumed
    )
    return events[max(starts, default=0) :]


@contextlib.contextmanager
def _signals() -> Generator["asyncio.Future[int]"]:
    """Ctrl-C, SIGTERM and SIGHUP end the watching; the future then holds the exit code."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        if not stopped.done():
            stopped.set_result(code)

    codes = {
        signal.SIGINT: EXIT_SIGINT,
        signal.SIGTERM: EXIT_SIGTERM,
        signal.SIGHUP: EXIT_SIGTERM,
    }
    for number, code in codes.items():
        loop.add_signal_handler(number, stop, code)
    try:
        yield stopped
    finally:
        for number in codes:
            loop.remove_signal_handler(number)
