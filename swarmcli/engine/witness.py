"""Keeps a run's accounts: every event of a run passes here, on its way to the journal."""

from typing import TYPE_CHECKING

from swarmcli.core.accounts import Accounts
from swarmcli.core.events import Event
from swarmcli.core.ports import Clock, Recorder


class Witness:
    """A `Recorder` that enters events into the accounts at once: what was recorded counts before it is on the disk.

    Args:
        inner: records.
        accounts: of the run so far.
        clock: tells when.
    """

    def __init__(self, inner: Recorder, accounts: Accounts, clock: Clock) -> None:
        self._inner = inner
        self._accounts = accounts
        self._clock = clock

    def emit(self, event: Event) -> None:
        """Record; returns at once."""
        self._accounts.feed(event, self._clock.monotonic())
        self._inner.emit(event)

    async def commit(self, event: Event) -> None:
        """Record and return when it is durable; raises `StorageError` when it cannot be."""
        self._accounts.feed(event, self._clock.monotonic())
        await self._inner.commit(event)


if TYPE_CHECKING:
    _recorder: type[Recorder] = Witness
