"""What the tests of journals share: a clock that stands, a display that remembers, lines of other versions."""

import json
from pathlib import Path

from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.journal import frame
from swarmcli.core.events import Event, Stamped

ROOT = Path(__file__).parents[2]
RUN = "20261121-0915-7k3f"


class StillClock:
    """Time that stands where a test puts it."""

    def __init__(self, at: float = 100.0) -> None:
        self.at = at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Display:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.shown: list[Stamped] = []
        self.closed = 0

    def feed(self, stamped: Stamped) -> None:
        self.shown.append(stamped)

    def close(self) -> None:
        self.closed += 1

    @property
    def events(self) -> list[Event]:
        return [stamped.event for stamped in self.shown]


def open_log(path: Path, *sinks: object, clock: StillClock | None = None, **options) -> EventLog:
    return EventLog(path, run=RUN, clock=clock or StillClock(), sinks=sinks, **options)


def line(seq: int, **fields: object) -> bytes:
    """One journal line as a newer or older swarm may have written it."""
    record = {"v": 1, "seq": seq, "ts": "2026-11-21T09:15:00.000Z", "run": RUN, "t": 0.5}
    return frame(json.dumps(record | {"type": "warning", "message": str(seq)} | fields).encode())
