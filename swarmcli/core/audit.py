"""Audits: whether the votes of small models are to be trusted in one fan-out."""

from swarmcli.core.tally import VoteResult

PILOT = 60
"""Agreed items of a fan-out that are always audited, where audits are asked for."""
_DIFFERING = 1 / 6
_WRONG = 1 / 5


class Audit:
    """Whether agreement of the small models may be trusted in one fan-out: a sample is asked of the large one as well.

    Routing stops when more than 1 in 6 of at least 60 audited items differ. The figures were chosen by simulation:
    3 % false stops where the small model is good, 1 % misses where it is bad.

    Draws of one bad model agree on their mistakes, which the audits show. Different bad models rarely agree on one, so
    that hardly an audit differs; but they disagree all the time, and of votes that differ at most one value is right.
    So a pilot that is done also stops routing when the votes show by themselves that more than 1 in 5 of them are
    wrong (two voters: when they disagree on more than 2 in 5 items).

    Args:
        share: of the agreed items behind the pilot that are audited, 0 to 1; 0 audits nothing, not even a pilot.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0
        self.started = 0
        """Audits that were begun and not dropped."""
        self.done = 0
        self.differing = 0
        self.polled = 0
        """Items on which at least two have voted."""
        self.wrong = 0.0
        """Of their votes the share, summed over the items, that is wrong whichever value is right."""
        self.stopped = False
        """Agreement is not to be trusted here; that is final."""

    def take(self) -> bool:
        """An item agreed: whether it is audited."""
        if self._share <= 0 or self.stopped:
            return False
        if self.take_over():
            return True
        self._due += self._share
        if self._due < 1 - 1e-9:
            return False
        self._due -= 1
        self.started += 1
        return True

    def take_over(self) -> bool:
        """An agreed item waits for the pilot: whether it is audited instead of one that was dropped."""
        if self._share <= 0 or self.started >= PILOT:
            return False
        self.started += 1
        return True

    def audited(self, *, differs: bool) -> None:
        """An audit has ended with an answer."""
        self.done += 1
        self.differing += differs
        self._judge()

    def voted(self, wrong: float | None) -> None:
        """An item was voted on; `wrong` as in `VoteResult.surely_wrong`."""
        if wrong is None or self._share <= 0:
            return
        self.polled += 1
        self.wrong += wrong
        self._judge()

    @property
    def disagrees(self) -> bool:
        """The votes cannot be right so often, whatever the audits say."""
        return self.wrong > self.polled * _WRONG

    def _judge(self) -> None:
        if self.done >= PILOT and (self.disagrees or self.differing > self.done * _DIFFERING):
            self.stopped = True

    def dropped(self) -> None:
        """An audit has ended without an answer: it counts as not begun."""
        self.started -= 1

    def recall(self, result: VoteResult) -> None:
        """What an agent of an earlier session has found out."""
        self.voted(result.surely_wrong)
        if result.audited:
            self.started += 1
            self.audited(differs=result.differs)
        self.stopped = self.stopped or result.stopped

    @property
    def pending(self) -> bool:
        """The pilot is under way: an item that agrees now should wait for what it says."""
        return self._share > 0 and not self.stopped and self.done < PILOT <= self.started
