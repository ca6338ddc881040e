"""Courts: whether the votes of the small models are trusted, decided once for all agents of a fan-out."""

import asyncio
from collections.abc import Sequence

from swarmcli.core.audit import Audit
from swarmcli.core.events import Warned
from swarmcli.core.ports import Emit
from swarmcli.core.replay import History
from swarmcli.core.tally import VoteResult, vote_result_of
from swarmcli.recipe.values import Vote


class Court:
    """Whether the votes of one fan-out (or of a plan's leaf agents) are trusted; shared by its agents.

    Args:
        name: what is judged, for the warning.
        vote: its settings.
        jury: the models that vote, and the one that decides.
        emit: takes the warning when routing stops.
        earlier: the votes of an earlier session of the run.
    """

    def __init__(
        self, name: str, vote: Vote, jury: str, emit: Emit, earlier: Sequence[VoteResult]
    ) -> None:
        self.jury = jury
        self._name = name
        self._vote = vote
        self._emit = emit
        self._audit = Audit(vote.audit if vote.escalate is not None else 0.0)
        self._changed = asyncio.Event()
        for result in earlier:
            self._audit.recall(result)

    @property
    def stopped(self) -> bool:
        """The small models are not asked any more."""
        return self._audit.stopped

    def take(self) -> bool:
        """An item agreed: whether it is audited."""
        return self._audit.take()

    @property
    def pending(self) -> bool:
        """Items that agree now wait for what the pilot says."""
        return self._audit.pending

    async def pilot(self) -> bool:
        """Return when the pilot is over; True: the caller is to be audited, in place of an audit that failed."""
        while self._audit.pending:
            await self._changed.wait()
            if not self.stopped and self._audit.take_over():
                return True
        return False

    def voted(self, result: VoteResult) -> None:
        """An item was voted on; the one that stops routing says so."""
        was_stopped = self.stopped
        self._audit.voted(result.surely_wrong)
        self._tell(was_stopped)

    def audited(self, *, differs: bool) -> None:
        """An audit has ended; the one that stops routing says so."""
        was_stopped = self.stopped
        self._audit.audited(differs=differs)
        self._tell(was_stopped)

    def dropped(self) -> None:
        """An audit has ended without an answer."""
        self._audit.dropped()
        self._wake()

    def _tell(self, was_stopped: bool) -> None:
        """Let everybody who waits look again; and say why the small models are not asked any more."""
        self._wake()
        if was_stopped or not self.stopped:
            return
        audit, large = self._audit, self._vote.escalate
        reason = (
            f"on {audit.polled} questions the models voted differently so often that more than 1 in 5 votes are wrong"
            if audit.disagrees
            else f"{audit.differing} of {audit.done} audited answers differ from {large}'s, more than 1 in 6"
        )
        self._emit(
            Warned(
                message=f"the votes of {self._name} are not trusted any more: {reason}; all others go to {large}"
            )
        )

    def _wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()


class Courts:
    """The courts of one run: one for each fan-out, vote and jury, one for all single agents together."""

    def __init__(self, emit: Emit, history: History) -> None:
        self._emit = emit
        self._history = history
        self._courts: dict[tuple[str, Vote, str], Court] = {}

    def of(self, group: str | None, vote: Vote, jury: str) -> Court:
        """The court of a fan-out; of single agents where `group` is None. It recalls only what this jury has done."""
        key = (group or "", vote, jury)
        if key not in self._courts:
            earlier = [
                result
                for agent, event in self._history.finished.items()
                if (agent.rpartition("[")[0] or None) == group
                and (result := vote_result_of(event.vote)) is not None
                and result.jury == jury
            ]
            self._courts[key] = Court(group or "the agents", vote, jury, self._emit, earlier)
        return self._courts[key]
