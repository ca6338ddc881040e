"""What the tests of runs share: a calendar, a recipe, and stories to journal."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.runs import RunDir, RunMeta
from swarmcli.core.events import Event

ROOT = Path(__file__).parents[2]
META = RunMeta(command="run", recipe_source="recipes/audit.yaml", recipe_text="name: audit\n")


class Calendar:
    """A wall clock that moves when told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, 9, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, **time: float) -> None:
        self.at += timedelta(**time)


def tell(run: RunDir, *story: Event) -> None:
    """Journal `story` as one session of `run`."""

    async def session() -> None:
        log = EventLog(run.journal, run=run.id, clock=SystemClock())
        for event in story:
            log.emit(event)
        await log.close()

    asyncio.run(session())


def make(store_path: Path, *ids: str) -> None:
    for name in ids:
        (store_path / "runs" / name).mkdir(parents=True)
