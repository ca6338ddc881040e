"""Conflicts between agents: found in code, told, and where the recipe wants it asked again of other models.

Rule: a conflict is resolved only by an answer that is equal to one of its positions, from a model that was shown all of
them with their sources. At most two are asked: one that is no author, then `large` with reasoning effort.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.claims import (
    Conflict,
    Position,
    Settled,
    conflict_record,
    conflicts_among,
    one_line,
    position_of,
    shown,
    with_unit,
)
from swarmcli.core.events import ConflictFound
from swarmcli.core.judgement import last_object
from swarmcli.core.mergetree import DEFAULT_WINDOW
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock, Emit, ModelReply, ModelRequest
from swarmcli.core.routing import with_thinking
from swarmcli.core.tokens import cut_to_tokens, estimate_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of, room_for_inputs
from swarmcli.engine.critic import other_models
from swarmcli.engine.turns import Turns
from swarmcli.engine.work import Work
from swarmcli.errors import NO_ACCESS_KINDS, ModelError, StorageError
from swarmcli.prompts import PromptText, load_prompt
from swarmcli.recipe.values import ModelSpec

MAX_ASKED = 50
"""Conflicts of one run that are asked again; where there are more, the prompts rather than the values are at fault."""
_WITNESSES = 2
"""Agents of one position whose own words are shown."""
_DETAIL = ((10, 300), (3, 80), (1, 0))
"""Sources of one position, and tokens of each witness's words; less where the window is small for all positions."""


class Conflicts:
    """The conflicts of one run.

    Args:
        turns: makes the call of one question.
        briefing: the job, the models and the data blocks.
        emit: takes `conflict.found`.
        clock: its zero is the start of the run.
        parallel: most questions at once.
    """

    def __init__(
        self,
        *,
        turns: Callable[[], Turns],
        briefing: Briefing,
        emit: Emit,
        clock: Clock,
        parallel: int,
    ) -> None:
        self._turns = turns
        self._briefing = briefing
        self._emit = emit
        self._clock = clock
        self._slots = asyncio.Semaphore(parallel)
        self._compared: Sequence[Outcome] = ()
        self._found: Sequence[Conflict] = ()
        self._told: set[tuple[str, str]] = set()
        self._chosen: dict[tuple[str, str], Position] = {}
        self.work = Work()
        self.refused: ModelError | StorageError | None = None
        """Why nothing more is asked: the budget, no access to a model, or no journal to keep the answer."""

    def among(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """All conflicts between the claims of finished agents, in plan order, and what came of them so far."""
        if self._compared != tuple(outcomes):
            self._compared, self._found = tuple(outcomes), conflicts_among(outcomes)
        settled = [
            Settled(conflict=conflict, chosen=self._chosen.get(conflict.topic))
            for conflict in self._found
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
                reply = await self._ask(conflict, by_agent, model)
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

    async def _ask(
        self, conflict: Conflict, by_agent: Mapping[str, Outcome], model: ModelSpec
    ) -> ModelReply | None:
        started_s = self._clock.monotonic()
        turns = self._turns()
        try:
            reply = await turns.ask(self._question(conflict, by_agent, model))
            await turns.keep()
        except (ModelError, StorageError) as error:
            if isinstance(error, StorageError) or error.kind in {"budget", *NO_ACCESS_KINDS}:
                self.refused = self.refused or error
            self._briefing.warn(f"a conflict could not be asked again: {error.message}")
            return None
        ended_s = self._clock.monotonic()
        self.work.add("judge", [reply], started_s=started_s, ended_s=ended_s)
        return reply

    def _question(
        self, conflict: Conflict, by_agent: Mapping[str, Outcome], model: ModelSpec
    ) -> ModelRequest:
        """All positions, with as much around each of them as a window of usual size holds.

        Raises:
            ModelError: (context_overflow) the model's own is too small for them.
        """
        asker = f"the judge of {shown(conflict.key)}"
        window = min(model.context_window or DEFAULT_WINDOW, DEFAULT_WINDOW)
        room = room_for_inputs(replace(model, context_window=window), asker, "")
        prompts = [
            self._prompt(conflict, by_agent, sources=sources, words=words)
            for sources, words in _DETAIL
        ]
        prompt = next((p for p in prompts if estimate_tokens(p.user) <= room), prompts[-1])
        if model.context_window is not None:
            room_for_inputs(model, asker, prompt.user)
        return ModelRequest(model=model, messages=messages_of(prompt), purpose="judge")

    def _prompt(
        self, conflict: Conflict, by_agent: Mapping[str, Outcome], *, sources: int, words: int
    ) -> PromptText:
        """Key, values, sources and words are all agents' text: each stands in a data block."""
        wrap = self._briefing.blocks.wrap
        positions = [
            wrap(f"value {number}", _case(conflict, position, by_agent, sources, words))
            for number, position in enumerate(conflict.positions, 1)
        ]
        return load_prompt("conflict").render(
            data_note=DATA_NOTE,
            job=self._briefing.job_outline,
            question=wrap("disputed", shown(conflict.key)),
            positions="\n\n".join(positions),
        )


def _case(
    conflict: Conflict,
    position: Position,
    by_agent: Mapping[str, Outcome],
    sources: int,
    words: int,
) -> str:
    """One value, where it comes from, and what the first agents who state it wrote. Not how many they are."""
    lines = [f"value: {with_unit(one_line(position.value), conflict.unit)}"]
    lines += [f"source: {shown(source)}" for source in position.sources[:sources]]
    for agent in position.agents[: _WITNESSES if words else 0]:
        lines.append(f"words of {agent}: {cut_to_tokens(by_agent[agent].output or '', words)}")
    return "\n".join(lines)
