"""The merge: from the leaf agents' outcomes to one result, in code or by the role `writer` over a reduce tree.

A failed agent reaches the writer as a failure that our code states, never as prose.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.claims import Settled
from swarmcli.core.events import MergeCompleted, MergeStarted
from swarmcli.core.factsheet import conflict_lines, fact_sheet
from swarmcli.core.merge import Merged, merge_in_code
from swarmcli.core.mergetree import (
    DEFAULT_WINDOW,
    LEAST_BUDGET,
    Piece,
    agents_of,
    groups,
    input_budget,
    left_out,
    piece_budget,
    piece_tokens,
    span_name,
    split_large,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest
from swarmcli.core.remarks import doubtful_lines, failed_lines, within
from swarmcli.core.tokens import cut_to_tokens, estimate_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of
from swarmcli.engine.typed import ask_for_json, schema_text, with_schema
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError
from swarmcli.prompts import PromptText, load_prompt
from swarmcli.recipe.values import Json, MergeStrategy

_INSTRUCTIONS = 256
"""Tokens that our own prompt around the material takes, at most."""


class Merger:
    """Merges the leaves of one run.

    Args:
        client: the composed model path, for `write`.
        briefing: the job and the models.
        emit: takes `merge.started` and `merge.completed`.
        clock: its zero is the start of the run.
        timeout_s: total time for one writer call.
        schema: JSON Schema that the writer's answer must fit; None: prose.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        briefing: Briefing,
        emit: Emit,
        clock: Clock,
        timeout_s: float,
        schema: Mapping[str, Json] | None = None,
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._emit = emit
        self._clock = clock
        self._timeout_s = timeout_s
        self._schema = schema
        self._writer = briefing.roles.resolve("writer")
        self.work = Work()

    async def merge(
        self,
        strategy: MergeStrategy,
        leaves: Sequence[Outcome],
        conflicts: Sequence[Settled] = (),
    ) -> Merged:
        """The result of `leaves`, in plan order.

        Args:
            strategy: as decided; `auto` is the caller's.
            leaves: how the final agents ended.
            conflicts: what the agents' claims contradict each other in; the writer is told.

        Raises:
            ModelError: the writer failed.
        """
        self._emit(MergeStarted(strategy=strategy, agents=len(leaves)))
        started_s = self._clock.monotonic()
        merged = (
            await self._write(leaves, conflicts)
            if strategy == "write"
            else merge_in_code(strategy, leaves)
        )
        seconds = round(self._clock.monotonic() - started_s, 4)
        self._emit(MergeCompleted(strategy=strategy, seconds=seconds, cost_usd=self.work.cost_usd))
        return merged

    async def _write(self, leaves: Sequence[Outcome], conflicts: Sequence[Settled]) -> Merged:
        """With ever less material per call where the model's window turns out to be smaller than it is said to be."""
        window = input_budget(self._writer.context_window, self._writer.max_output_tokens)
        while True:
            try:
                return Merged(text=await self._written(leaves, conflicts, window))
            except ModelError as error:
                if error.kind != "context_overflow" or window <= LEAST_BUDGET:
                    raise
                self._briefing.warn(
                    f"the window of {self._writer.id} is smaller than expected: merging in smaller steps"
                )
                window = max(LEAST_BUDGET, window // 2)

    async def _written(
        self, leaves: Sequence[Outcome], conflicts: Sequence[Settled], window: int
    ) -> str:
        schema = "" if self._schema is None else schema_text(self._schema)
        around = estimate_tokens(self._briefing.job_outline + schema) + _INSTRUCTIONS
        remarks = self._remarks(leaves, conflicts, (window - around) // 4 * 3)
        budget = max(LEAST_BUDGET, window - around - estimate_tokens(remarks))
        pieces = [
            Piece(name=leaf.agent, agents=(leaf.agent,), text=leaf.output)
            for leaf in leaves
            if leaf.output is not None
        ]
        facts = _facts(leaves)
        if facts is not None and piece_tokens(facts) <= budget // 3:
            parts = await self._fitted(pieces, budget - piece_tokens(facts))
            parts[-1] = (*parts[-1], facts)
        else:
            parts = await self._fitted([*pieces, *([facts] if facts else [])], budget)
        if len(parts) == 1:
            return await self._write_last(self._prompt("writer", parts[0], failures=remarks))
        return await self._write_parts(parts, remarks)

    def _remarks(self, leaves: Sequence[Outcome], conflicts: Sequence[Settled], budget: int) -> str:
        """What our code has to say about the results; the words of a conflict are the agents' and stand in a block."""
        parts = [failed_lines(leaves, budget), doubtful_lines(leaves)]
        lines = conflict_lines(conflicts)
        if lines:
            kept = within(lines, budget // 2)
            more = f" The first {len(kept)} of {len(lines)}." if len(kept) < len(lines) else ""
            block = self._briefing.blocks.wrap("conflicts", "\n".join(kept))
            parts.append(
                f"CONFLICTS (agents state different values for the same key).{more}\n{block}"
            )
        return "\n\n".join(part for part in parts if part)

    async def _fitted(self, pieces: Sequence[Piece], budget: int) -> list[tuple[Piece, ...]]:
        """The pieces as the writer gets them: one group, or several where they cannot be condensed into one."""
        grouped = _grouped(pieces, budget)
        while len(grouped) > 1:
            reduced = await self._reduce(grouped, budget)
            fewer = _grouped(reduced, budget)
            if len(fewer) > len(grouped) * 3 // 4:
                if self._schema is None:
                    return _grouped([p for g in grouped for p in g], min(budget, self._answer()))
                fewer = _grouped(self._cut(reduced, piece_budget(budget)), budget)
            grouped = fewer
        return grouped or [()]

    def _answer(self) -> int:
        """Tokens that one answer of the writer may have."""
        writer = self._writer
        room = writer.max_output_tokens or (writer.context_window or DEFAULT_WINDOW) // 4
        return max(LEAST_BUDGET, room)

    async def _reduce(self, grouped: Sequence[Sequence[Piece]], budget: int) -> list[Piece]:
        """One level of the tree: each group of pieces becomes one smaller piece, all groups at once."""
        words = str(max(40, min(piece_budget(budget), self._answer()) // 3))
        several = [group for group in grouped if len(group) > 1]
        prompts = [self._prompt("reducer", group, words=words) for group in several]
        texts = iter(await self._ask(prompts) if prompts else [])
        level: list[Piece] = []
        for group in grouped:
            if len(group) == 1:
                level.append(group[0])
                continue
            text = next(texts)
            agents = agents_of(group)
            level.append(Piece(name=span_name(agents), agents=agents, text=text))
            level += left_out(group, text)
        return level

    def _cut(self, pieces: Sequence[Piece], tokens: int) -> list[Piece]:
        """For a model that does not condense, where the result is one JSON value that cannot be written in parts."""
        self._briefing.warn(
            f"{self._writer.id} did not condense the results as asked: parts of them were cut"
        )
        return [replace(piece, text=cut_to_tokens(piece.text, tokens)) for piece in pieces]

    def _prompt(self, kind: str, pieces: Sequence[Piece], **more: str) -> PromptText:
        results = "\n\n".join(
            self._briefing.blocks.wrap(piece.name, piece.text) for piece in pieces
        )
        is_small = is_tiny(self._writer) and kind != "reducer"
        prompt = load_prompt("writer_small" if is_small else kind)
        values = {
            "job": self._briefing.job_outline,
            "results": results,
            "data_note": DATA_NOTE,
            **more,
        }
        return prompt.render(**{name: values[name] for name in prompt.variables})

    async def _write_parts(self, parts: Sequence[Sequence[Piece]], remarks: str) -> str:
        """A result that is longer than one answer: in parts, side by side, which our code puts together."""
        self._briefing.warn(
            f"the results are too long for one text by {self._writer.id}: it was written in {len(parts)} parts"
        )
        last = len(parts) - 1
        prompts = [
            self._prompt(
                "writer_part",
                part,
                part=f"part {i + 1} of {len(parts)}",
                failures=remarks if i == last else "",
            )
            for i, part in enumerate(parts)
        ]
        return "\n\n".join(text.strip() for text in await self._ask(prompts))

    async def _write_last(self, prompt: PromptText) -> str:
        if self._schema is None:
            return (await self._ask([prompt]))[0]
        messages = with_schema(messages_of(prompt), self._schema)
        request = replace(self._request(prompt), messages=messages, response_schema=self._schema)

        async def ask(question: ModelRequest) -> ModelReply:
            return (await self._complete([question]))[0]

        return (
            await ask_for_json(ask, request, wrap=self._briefing.blocks.wrap, on_retry=lambda: None)
        )[1]

    def _request(self, prompt: PromptText) -> ModelRequest:
        return ModelRequest(
            model=self._writer,
            messages=messages_of(prompt),
            purpose="writer",
            timeout_s=self._timeout_s,
        )

    async def _ask(self, prompts: Sequence[PromptText]) -> list[str]:
        """Ask the writer all `prompts` at once; the answers in the same order."""
        replies = await self._complete([self._request(prompt) for prompt in prompts])
        return [reply.text for reply in replies]

    async def _complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        started_s = self._clock.monotonic()
        replies = await complete_all(self._client, requests)
        ended_s = self._clock.monotonic()
        self.work.add("writer", replies, started_s=started_s, ended_s=ended_s)
        return replies


async def complete_all(client: ModelClient, requests: Sequence[ModelRequest]) -> list[ModelReply]:
    """All answers, in order; the first failure cancels the others.

    Raises:
        ModelError: one of the calls failed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.complete(request)) for request in requests]
    except* ModelError as failures:
        raise first_model_error(failures) from None
    return [call.result() for call in calls]


def first_model_error(group: BaseExceptionGroup[ModelError]) -> ModelError:
    """The first single failure of a group that a TaskGroup raised."""
    first = group.exceptions[0]
    return first_model_error(first) if isinstance(first, BaseExceptionGroup) else first


def _grouped(pieces: Sequence[Piece], budget: int) -> list[tuple[Piece, ...]]:
    return groups(split_large(pieces, piece_budget(budget)), budget)


def _facts(leaves: Sequence[Outcome]) -> Piece | None:
    """All agents' claims as one piece, put together in code."""
    lines = fact_sheet((leaf.agent, claim) for leaf in leaves for claim in leaf.claims)
    agents = tuple(leaf.agent for leaf in leaves if leaf.claims)
    return Piece(name="facts", agents=agents, text="\n".join(lines)) if lines else None
