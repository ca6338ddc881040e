"""Votes: an agent's question goes to several models, and to a larger one where they do not agree.

Rules: whoever fails abstains, as long as somebody answers; the escalated model's own answer is final; what the small
models wrote reaches another prompt only inside data blocks. Agreement is a signal only where the models err
differently, so a fan-out may have it audited (`core.votes.Audit`) and routed around.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from swarmcli.core.blocks import DataBlocks
from swarmcli.core.canonical import Value, same
from swarmcli.core.events import AgentUpdated, VoteTallied
from swarmcli.core.ports import Emit
from swarmcli.core.tally import VoteResult
from swarmcli.core.votes import Ballot, Tally, Voter, value_text, vote_value
from swarmcli.engine.asking import Answer
from swarmcli.engine.courts import Court
from swarmcli.engine.notes import MAX_STEPS, notes_on, short
from swarmcli.engine.panel import Panel, Seat
from swarmcli.errors import NO_ACCESS_KINDS, ModelError
from swarmcli.recipe.values import Vote

MAX_POSITIONS = 4
_VALUE_CHARS = 200


class Poll:
    """The vote of one agent.

    Args:
        vote: its settings.
        panel: asks the models.
        court: whether agreement is trusted.
        blocks: wraps what the small models wrote.
        emit: takes `vote.tallied` and what the agent's row says.
        before: what the vote came to when it was still trusted; None: it was not held before.
    """

    def __init__(
        self,
        vote: Vote,
        *,
        panel: Panel,
        court: Court,
        blocks: DataBlocks,
        emit: Emit,
        before: VoteResult | None = None,
    ) -> None:
        self._vote = vote
        self._panel = panel
        self._court = court
        self._blocks = blocks
        self._emit = emit
        self._seats = dict(panel.seats(vote.models or (None,), vote.samples))
        self._ballot = Ballot(list(self._seats), vote.rule)
        self._answers: dict[Voter, Answer] = {}
        self._counted: set[Voter] = set()
        """The draws whose votes are in, by the models that gave them."""
        paid = before or VoteResult()
        self._result: VoteResult = VoteResult(
            asked=0 if court.stopped else len(self._seats),
            jury=court.jury,
            small_calls=paid.small_calls,
            large_calls=paid.large_calls,
            small_usd=paid.small_usd,
            large_usd=paid.large_usd,
        )

    async def hold(self) -> tuple[Answer, VoteResult]:
        """The answer, and how it came to be.

        Raises:
            ModelError: nobody answers, or the escalation model does not; or a model cannot be accessed at all.
        """
        vote, court = self._vote, self._court
        if vote.escalate is not None and court.stopped:
            return await self._escalated(vote.escalate, notes=False)
        silence = await self._collect()
        leader = self._ballot.leader
        agreed = self._ballot.agreed is True
        self._result = replace(
            self._result,
            value=None if leader is None else value_text(leader.value)[:_VALUE_CHARS],
            counts=_counts(self._ballot.tallies),
            agreed=agreed,
        )
        if vote.escalate is None:
            if silence is not None:
                raise silence
            return self._settled(leader)
        court.voted(self._result)
        if agreed and leader is not None:
            return await self._judged(vote.escalate, leader)
        try:
            return await self._escalated(vote.escalate, notes=vote.notes)
        except ModelError as error:
            _refuse_no_access(error)
            if silence is None:
                raise
            raise silence from error

    async def _judged(self, escalate: str, leader: Tally) -> tuple[Answer, VoteResult]:
        """They agreed: audit that, wait for the pilot, or trust it."""
        court = self._court
        audits = court.take()
        if not audits and court.pending:
            await self._panel.keep()
            self._note("vote: waits for the pilot")
            audits = await court.pilot()
        if court.stopped:
            return await self._escalated(escalate, notes=False)
        if not audits:
            return self._settled(leader)
        return await self._audited(escalate, leader)

    async def _collect(self) -> ModelError | None:
        """Ask until nothing can change any more; different models before further samples of one.

        Returns:
            Why nobody has answered; None where somebody has.
        """
        waiting = sorted(self._seats, key=lambda voter: voter.sample)
        failures: list[ModelError] = []
        while wanted := self._ballot.wanted(arbiter=self._vote.escalate is not None):
            asked, waiting = waiting[:wanted], waiting[wanted:]
            replies = await self._panel.ask([self._seats[voter] for voter in asked])
            for voter, reply in zip(asked, replies, strict=True):
                if isinstance(reply, ModelError):
                    _refuse_no_access(reply)
                    failures.append(reply)
                    self._ballot.cast(voter, None)
                    continue
                self._answers[voter] = reply
                self._count(small=reply)
                self._ballot.cast(voter, self._vote_of(voter, reply))
        return None if self._answers else failures[-1]

    def _vote_of(self, voter: Voter, reply: Answer) -> Value | None:
        """What a reply votes for; nothing where a fallback gave it whose own vote, the same draw, is in already."""
        draw = Voter(reply.model, voter.sample)
        if draw in self._counted:
            return None
        self._counted.add(draw)
        return self._value(reply)

    def _settled(self, leader: Tally | None) -> tuple[Answer, VoteResult]:
        """The leading value stands; where nobody gave one, the answer of the first who said anything."""
        self._tell()
        voter = (
            leader.voter
            if leader is not None
            else next(v for v in self._seats if v in self._answers)
        )
        return self._answers[voter], self._stamped()

    async def _escalated(self, escalate: str, *, notes: bool) -> tuple[Answer, VoteResult]:
        """The escalation model answers, and that is final; it thinks again only where its own vote was another one.

        A third answer of a model that voted itself contradicts that vote.
        """
        self._result = replace(self._result, escalated=True)
        self._tell()
        self._note(f"asks {escalate}")
        positions = _positions(self._ballot, self._answers) if notes else []
        seat = self._arbiter(escalate)
        if positions:
            seat = replace(seat, prompt="escalate", notes=self._notes(positions, MAX_STEPS))
        answer = await self._ask_large(seat)
        value, tallies = self._value(answer), self._ballot.tallies
        third = value is not None and not any(same(value, tally.value) for tally in tallies)
        if positions and len(tallies) > 1 and third and seat.sample:
            answer = await self._deliberated(seat, [*positions, answer], answer)
        return answer, self._stamped()

    async def _deliberated(self, seat: Seat, positions: Sequence[Answer], own: Answer) -> Answer:
        """The escalation model's second thoughts; its first ones where it has none."""
        self._note("vote: three answers, thinks again")
        notes = self._notes(positions, 0)
        try:
            return await self._ask_large(
                replace(seat, prompt="deliberate", notes=notes, thinking=True)
            )
        except ModelError as error:
            _refuse_no_access(error)
            return own

    async def _audited(self, escalate: str, leader: Tally) -> tuple[Answer, VoteResult]:
        """The escalation model answers too, unaware of the others; its answer counts."""
        court = self._court
        self._note(f"vote: agreed, audited by {escalate}")
        try:
            answer = await self._ask_large(self._arbiter(escalate))
        except ModelError as error:
            court.dropped()
            _refuse_no_access(error)
            return self._settled(leader)
        except BaseException:  # cancelled: whoever waits must not wait for this one
            court.dropped()
            raise
        value = self._value(answer)
        if value is None:
            court.dropped()
            return self._settled(leader)
        differs = not same(value, leader.value)
        court.audited(differs=differs)
        self._result = replace(self._result, audited=True, differs=differs)
        self._tell()
        return answer, self._stamped()

    async def _ask_large(self, seat: Seat) -> Answer:
        [reply] = await self._panel.ask([seat])
        if isinstance(reply, ModelError) and reply.kind == "context_overflow" and seat.notes:
            [reply] = await self._panel.ask([replace(seat, prompt="", notes="")])
        if isinstance(reply, ModelError):
            raise reply
        self._count(large=reply)
        return reply

    def _arbiter(self, escalate: str) -> Seat:
        """The escalation model; where it has voted too, this is another draw of it."""
        [(voter, seat)] = self._panel.seats([escalate], 1)
        drawn = sum(other.model == voter.model for other in self._seats)
        return replace(seat, sample=drawn)

    def _value(self, answer: Answer) -> Value | None:
        if answer.status == "insufficient":
            return None
        return vote_value(answer.output, answer.text, self._vote.canonical)

    def _count(self, *, small: Answer | None = None, large: Answer | None = None) -> None:
        result = self._result
        if small is not None:
            cost = _plus(result.small_usd, small)
            self._result = replace(result, small_calls=result.small_calls + 1, small_usd=cost)
        if large is not None:
            cost = _plus(result.large_usd, large)
            self._result = replace(result, large_calls=result.large_calls + 1, large_usd=cost)

    def _stamped(self) -> VoteResult:
        return replace(self._result, stopped=self._court.stopped)

    def _tell(self) -> None:
        result = self._result
        self._emit(
            VoteTallied(
                agent=self._panel.agent,
                rule=self._vote.rule,
                agreed=result.agreed,
                escalated=result.escalated,
                value=result.value,
                counts=result.counts,
                asked=result.asked,
            )
        )

    def _note(self, text: str) -> None:
        self._emit(AgentUpdated(agent=self._panel.agent, note=text))

    def _said(self, answer: Answer) -> str:
        """The answer in a line: its value, where the reply is not typed and holds its steps too."""
        value = self._value(answer)
        if value is not None and self._vote.canonical in {"number", "choice"}:
            return value_text(value)
        return short(answer.output)

    def _notes(self, positions: Sequence[Answer], steps: int) -> str:
        said = [(self._said(answer), answer) for answer in positions]
        return notes_on(said, steps=steps, wrap=self._blocks.wrap)


def _refuse_no_access(error: ModelError) -> None:
    """A model that cannot be reached at all is not outvoted: the run stops."""
    if error.kind in NO_ACCESS_KINDS:
        raise error


def _plus(cost_usd: float | None, answer: Answer) -> float | None:
    if cost_usd is None or answer.cost_usd is None or answer.cached:
        return None
    return cost_usd + answer.cost_usd


def _counts(tallies: Sequence[Tally]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for tally in tallies:
        counts[value_text(tally.value)[:_VALUE_CHARS]] += tally.votes
    return dict(counts)


def _positions(ballot: Ballot, answers: Mapping[Voter, Answer]) -> list[Answer]:
    """One answer for each value, most votes first; those without a value where there is none."""
    named = [answers[tally.voter] for tally in ballot.tallies]
    return (named or list(answers.values()))[:MAX_POSITIONS]
