"""One session of a run inside an event loop: journal, displays, signals and the engine, closed in the right order."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from swarmcli.adapters.cache_key import cache_key
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.files import read_text
from swarmcli.adapters.runs import RunDir
from swarmcli.app.compose import PathOrder, compose, share_limits
from swarmcli.app.display import LiveDisplay
from swarmcli.app.prepare import Prepared, order_of
from swarmcli.app.signals import caught
from swarmcli.app.workspace import Workspace
from swarmcli.core.accounts import Accounts
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.budget import Budget
from swarmcli.core.events import Sink, Warned
from swarmcli.core.replay import History
from swarmcli.core.routing import Roles
from swarmcli.core.verdict import StopCause
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.departures import Departures
from swarmcli.engine.order import RunReport
from swarmcli.engine.run import Run
from swarmcli.engine.witness import Witness
from swarmcli.errors import EXIT_SIGINT, StorageError
from swarmcli.ui.github import GithubSink, in_github_actions
from swarmcli.ui.json_lines import JsonLines
from swarmcli.ui.say import die_of_broken_pipe, err
from swarmcli.ui.terminal import Display
from swarmcli.ui.view import RunView

SIGINT_GRACE_S = 10.0
SIGTERM_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """What a session leaves: the report, and the folded events for the summary."""

    report: RunReport
    view: RunView
    display: Display


async def run_session(
    prepared: Prepared,
    roles: Roles,
    run_dir: RunDir,
    *,
    ws: Workspace,
    blocks: DataBlocks,
    history: History | None,
    shown: tuple[Display, LiveDisplay],
) -> SessionResult:
    """Run to the end and close everything, whatever happens."""
    display, live = shown
    clock = SystemClock()
    with contextlib.ExitStack() as stack:
        reader = _Reader()
        sinks = [*_streams(prepared, stack, reader, resumed=history is not None), live]
        if in_github_actions(os.environ):
            sinks.append(GithubSink(sys.stderr, os.environ))

        def journal_failed(error: StorageError) -> None:
            run.storage_failed(error)  # it needs the log, and so comes later

        log = EventLog(
            run_dir.journal, run=run_dir.id, clock=clock, sinks=sinks, on_failure=journal_failed
        )
        accounts = Accounts() if history is None else history.accounts
        witness = Witness(log, accounts, clock)
        departures = Departures(witness.emit)
        budget = budget_of(prepared)
        if history is not None:
            budget.book(history.spent)
        shared = share_limits(ws.folders.state, clock=clock, emit=log.emit)
        stack.callback(shared.close)
        client = compose(
            PathOrder(
                resolve=roles.resolve,
                local_parallel=prepared.local_parallel,
                rates=prepared.recipe.rate,
                shared=shared,
                attempts=prepared.recipe.retry_attempts,
                hedge=prepared.recipe.hedge,
                cache=prepared.cache,
                budget=budget,
                cache_dir=ws.folders.cache,
                log=run_dir.folder / "debug.log",
            ),
            clock=clock,
            emit=departures.emit,
        )
        run = Run(
            order=order_of(prepared, roles, history),
            briefing=briefing_of(
                prepared, roles, blocks, ws.cwd, lambda m: log.emit(Warned(message=m))
            ),
            client=client,
            recorder=witness,
            clock=clock,
            fingerprint=cache_key,
            spent=lambda: budget.spent,
            has_asked=departures.has_left,
            accounts=accounts,
        )
        reader.on_gone = functools.partial(run.cancel, "sigterm")
        live.start()
        try:
            with _signals(run, live):
                report = await run.execute()
        finally:
            await client.close()
            await log.close()
    if reader.gone:
        die_of_broken_pipe()
    return SessionResult(report=report, view=live.view, display=display)


class _Reader:
    """Whoever reads the event stream on stdout; when it goes away, the run is stopped and can be resumed."""

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], None] | None = None

    def __call__(self, _error: OSError) -> None:
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()


def _streams(
    prepared: Prepared, stack: contextlib.ExitStack, reader: _Reader, *, resumed: bool
) -> Iterator[Sink]:
    """The event streams that were asked for: stdout with `--format stream-json`, a file with `--events`."""
    if prepared.options.format == "stream-json":
        yield JsonLines(sys.stdout, reader)
    if prepared.options.events is not None:
        yield events_file(Path(prepared.options.events), stack, append=resumed)


def events_file(path: Path, stack: contextlib.ExitStack, *, append: bool = False) -> JsonLines:
    """The event stream of `--events FILE`; `stack` closes the file.

    Raises:
        StorageError: it cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open("a" if append else "w", encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="choose another --events file"
        ) from error
    return JsonLines(file, lambda error: err(f"warning: {path} is incomplete: {error.strerror}"))


def budget_of(prepared: Prepared) -> Budget:
    """The ledger of a run's caps; a share is kept for a merge that calls a model."""
    limits = prepared.limits
    writes = prepared.merge == "write" or (prepared.tasks is None and prepared.mode.mode == "swarm")
    return Budget(
        max_cost_usd=limits.max_cost_usd,
        max_tokens=limits.max_tokens,
        max_calls=limits.max_calls,
        reserve=limits.reserve if writes and prepared.merge_in_code is None else 0.0,
        allow_unpriced=prepared.options.allow_unpriced,
    )


def briefing_of(
    prepared: Prepared, roles: Roles, blocks: DataBlocks, cwd: Path, warn: Callable[[str], None]
) -> Briefing:
    """What all agents of a run share."""
    intake = prepared.intake
    return Briefing(
        blocks=blocks,
        roles=roles,
        profiles=intake.recipe.agents,
        variables=intake.variables,
        job=intake.job,
        job_outline=intake.job_outline,
        materials=intake.materials,
        files=intake.files,
        read_file=lambda path: read_text(cwd / path),
        claims=prepared.wants_claims,
        warn=warn,
    )


@contextlib.contextmanager
def _signals(run: Run, live: LiveDisplay) -> Generator[None]:
    """First signal: nothing new starts, running agents get a grace; second: stop now; third: leave at once."""
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: int) -> None:
        nonlocal received
        received += 1
        cause: StopCause = "sigint" if number == signal.SIGINT else "sigterm"
        if received == 1:
            grace_s = SIGINT_GRACE_S if cause == "sigint" else SIGTERM_GRACE_S
            agents = f"{run.running} agent{'' if run.running == 1 else 's'}"
            live.log(f"Stopping: {agents} get {grace_s:g} s to finish. Ctrl-C again to stop now.")
            run.interrupt(cause)
            loop.call_later(grace_s, run.cancel, cause)
        elif received == 2:
            live.log("Stopping now.")
            run.cancel(cause)
        else:
            restore = getattr(live, "force_restore", None)
            if restore is not None:
                restore()
            os._exit(EXIT_SIGINT)

    with caught(on_signal):
        yield
