"""Conflicts between agents: found in code, told, and where the recipe wants it asked again of other models.

Rule: a conflict is resolved only by an answer that is equal to one of its positions, from a model that was shown all of
them with their sources. At most two are asked: one that is no author, then `large` with reasoning effort.
"""

import asyncio
from collections.abc import Mapping, Sequence

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.claims import (
    Conflict,
    Position,
    Settled,
    conflict_record,
    conflicts_among,
    position_of,
    shown,
    with_unit,
)
from swarmcli.core.events import ConflictFound
from swarmcli.core.judgement import last_object
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest
from swarmcli.core.routing import with_thinking
from swarmcli.core.tokens import cut_to_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of
from swarmcli.engine.critic import other_models
from swarmcli.engine.work import Work
from swarmcli.errors import NO_ACCESS_KINDS, ModelError
from swarmcli.prompts import load_prompt
from swarmcli.recipe.values import ModelSpec

MAX_ASKED = 50
"""Conflicts of one run that are asked again; where there are more, the prompts rather than the values are at fault."""
_MAX_SOURCES = 10
_WITNESSES = 2
"""Agents of one position whose own words are shown."""
_WORDS_TOKENS = 300
"""How much of an agent's words is shown, in tokens."""


class Conflicts:
    """The conflicts of one run.

    Args:
        client: the composed model path.
        briefing: the job, the models and the data blocks.
        emit: takes `conflict.found`.
        clock: its zero is the start of the run.
        parallel: most questions at once.
        timeout_s: total time for one question.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        briefing: Briefing,
        emit: Emit,
        clock: Clock,
        parallel: int,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._emit = emit
        self._clock = clock
        self._slots = asyncio.Semaphore(parallel)
        self._timeout_s = timeout_s
        self._told: set[tuple[str, str]] = set()
        self._chosen: dict[tuple[str, str], Position] = {}
        self.work = Work()
        self.refused: ModelError | None = None
        """Why nothing more is asked: the budget, or no access to a model."""

    def among(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """All conflicts between the claims of finished agents, in plan order, and what came of them so far."""
        settled = [
            Settled(conflict=conflict, chosen=self._chosen.get(conflict.topic))
            for conflict in conflicts_among(outcomes)
        ]
        for one in settled:
            if one.conflict.topic not in self._told:
                self._told.add(one.conflict.topic)
                values = conflict_record(one)["values"]
                self._emit(ConflictFound(key=one.conflict.key, values=values))
        return settled

    async def ask_again(self, outcomes: Sequence[Outcome]) -> None:
        """Ask other models about each conflict; what they settle is in the next `among`.

        A question that fails leaves its conflict unresolved; `refused` says when that ended the asking.
        """
        found = [one.conflict for one in self.among(outcomes) if one.chosen is None]
        if len(found) > MAX_ASKED:
            self._briefing.warn(
                f"{len(found)} conflicts were found; only the first {MAX_ASKED} are asked again"
            )
        by_agent = {outcome.agent: outcome for outcome in outcomes}
        async with asyncio.TaskGroup() as group:
            for conflict in found[:MAX_ASKED]:
                group.create_task(self._settle(conflict, by_agent))

    async def _settle(self, conflict: Conflict, by_agent: Mapping[str, Outcome]) -> None:
        async with self._slots:
            for model in self._judges({by_agent[agent].model for agent in conflict.agents}):
                if self.refused is not None:
                    return
                reply = await self._ask(self._question(conflict, by_agent, model))
                answer = None if reply is None else last_object(reply.text).get("answer")
                position = position_of(conflict, answer)
                if position is not None:
                    self._chosen[conflict.topic] = position
                    return

    def _judges(self, authors: set[str]) -> list[ModelSpec]:
        """One that is no author, where there is one; then `large`, which may be one, and thinks for longer."""
        others = other_models(self._briefing, authors)[:1]
        large = with_thinking(self._briefing.roles.resolve("large"))
        if is_tiny(large) or any(model.id == large.id for model in others):
            return others
        return [*others, large]

    async def _ask(self, question: ModelRequest) -> ModelReply | None:
        started_s = self._clock.monotonic()
        try:
            reply = await self._client.complete(question)
        except ModelError as error:
            if error.kind == "budget" or error.kind in NO_ACCESS_KINDS:
                self.refused = self.refused or error
            self._briefing.warn(f"a conflict could not be asked again: {error.message}")
            return None
        ended_s = self._clock.monotonic()
        self.work.add("judge", [reply], started_s=started_s, ended_s=ended_s)
        return reply

    def _question(
        self, conflict: Conflict, by_agent: Mapping[str, Outcome], model: ModelSpec
    ) -> ModelRequest:
        """Key, values, sources and words are all agents' text: each stands in a data block."""
        wrap = self._briefing.blocks.wrap
        positions = [
            wrap(f"value {number}", self._case(conflict, position, by_agent))
            for number, position in enumerate(conflict.positions, 1)
        ]
        prompt = load_prompt("conflict").render(
            data_note=DATA_NOTE,
            job=self._briefing.job_outline,
            question=wrap("disputed", conflict.key),
            positions="\n\n".join(positions),
        )
        return ModelRequest(
            model=model,
            messages=messages_of(prompt),
            purpose="judge",
            timeout_s=self._timeout_s,
        )

    def _case(self, conflict: Conflict, position: Position, by_agent: Mapping[str, Outcome]) -> str:
        """One value, where it comes from, and what the first agents who state it wrote. Not how many they are."""
        lines = [f"value: {with_unit(position.value, conflict.unit)}"]
        lines += [f"source: {shown(source)}" for source in position.sources[:_MAX_SOURCES]]
        for agent in position.agents[:_WITNESSES]:
            words = cut_to_tokens(by_agent[agent].output or "", _WORDS_TOKENS)
            lines.append(f"words of {agent}: {words}")
        return "\n".join(lines)
