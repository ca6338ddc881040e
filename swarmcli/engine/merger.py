"""The merge: from the leaf agents' outcomes to one result, in code or by the role `writer` over a reduce tree.

A failed agent reaches the writer as a failure that our code states, never as prose.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.events import MergeCompleted, MergeStarted
from swarmcli.core.merge import Merged, merge_in_code
from swarmcli.core.mergetree import (
    LEAST_BUDGET,
    Piece,
    groups,
    input_budget,
    piece_budget,
    split_large,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest
from swarmcli.core.tokens import cut_to_tokens, estimate_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of
from swarmcli.engine.typed import ask_for_json, schema_text, with_schema
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError
from swarmcli.prompts import PromptText, load_prompt
from swarmcli.recipe.values import Json, MergeStrategy


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

    async def merge(self, strategy: MergeStrategy, leaves: Sequence[Outcome]) -> Merged:
        """The result of `leaves`, in plan order.

        Raises:
            ModelError: the writer failed.
        """
        self._emit(MergeStarted(strategy=strategy, agents=len(leaves)))
        started_s = self._clock.monotonic()
        merged = (
            await self._write(leaves) if strategy == "write" else merge_in_code(strategy, leaves)
        )
        seconds = round(self._clock.monotonic() - started_s, 4)
        self._emit(MergeCompleted(strategy=strategy, seconds=seconds, cost_usd=self.work.cost_usd))
        return merged

    async def _write(self, leaves: Sequence[Outcome]) -> Merged:
        budget = self._budget(leaves)
        pieces = [
            Piece(name=leaf.agent, agents=(leaf.agent,), text=leaf.output)
            for leaf in leaves
            if leaf.output is not None
        ]
        grouped = _grouped(pieces, budget)
        while len(grouped) > 1:
            pieces = await self._reduce(grouped, budget)
            fewer = _grouped(pieces, budget)
            if len(fewer) > len(grouped) * 3 // 4:
                pieces = self._cut(pieces, piece_budget(budget))
                fewer = _grouped(pieces, budget)
            grouped = fewer
        prompt = self._prompt("writer", pieces, failures=_failures(leaves))
        return Merged(text=await self._write_last(prompt))

    def _budget(self, leaves: Sequence[Outcome]) -> int:
        schema = "" if self._schema is None else schema_text(self._schema)
        around = estimate_tokens(self._briefing.job_outline + _failures(leaves) + schema) + 256
        writer = self._writer
        return max(
            LEAST_BUDGET, input_budget(writer.context_window, writer.max_output_tokens) - around
        )

    async def _reduce(self, grouped: Sequence[Sequence[Piece]], budget: int) -> list[Piece]:
        """One level of the tree: each group of pieces becomes one smaller piece, all groups at once."""
        words = str(max(40, piece_budget(budget) // 3))
        several = [group for group in grouped if len(group) > 1]
        prompts = [self._prompt("reducer", group, words=words) for group in several]
        texts = iter(await self._ask(prompts) if prompts else [])
        return [
            Piece(name=_span_name(group), agents=_agents(group), text=next(texts))
            if len(group) > 1
            else group[0]
            for group in grouped
        ]

    def _cut(self, pieces: Sequence[Piece], tokens: int) -> list[Piece]:
        """For a model that does not condense: without this the tree would have no end."""
        self._briefing.warn(
            f"{self._writer.id} did not condense the results as asked: parts of them were cut"
        )
        return [replace(piece, text=cut_to_tokens(piece.text, tokens)) for piece in pieces]

    def _prompt(self, kind: str, pieces: Sequence[Piece], **more: str) -> PromptText:
        results = "\n\n".join(
            self._briefing.blocks.wrap(piece.name, piece.text) for piece in pieces
        )
        prompt = load_prompt(
            f"{kind}_small" if is_tiny(self._writer) and kind == "writer" else kind
        )
        values = {
            "job": self._briefing.job_outline,
            "results": results,
            "data_note": DATA_NOTE,
            **more,
        }
        return prompt.render(**{name: values[name] for name in prompt.variables})

    async def _write_last(self, prompt: PromptText) -> str:
        if self._schema is None:
            return (await self._ask([prompt]))[0]
        messages = with_schema(messages_of(prompt), self._schema)
        request = replace(self._request(prompt), messages=messages, response_schema=self._schema)

        async def ask(question: ModelRequest) -> ModelReply:
            return (await self._complete([question]))[0]

        return (await ask_for_json(ask, request, lambda: None))[1]

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


def _span_name(pieces: Sequence[Piece]) -> str:
    first, last = pieces[0].agents[0], pieces[-1].agents[-1]
    return first if first == last else f"{first} to {last}"


def _agents(pieces: Sequence[Piece]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(agent for piece in pieces for agent in piece.agents))


def _failures(leaves: Sequence[Outcome]) -> str:
    """Statements of ours about agents without a result; kinds only, because messages may quote outside text."""
    lines = [
        f"- {leaf.agent}: {leaf.failure.kind if leaf.failure else leaf.state}"
        for leaf in leaves
        if leaf.output is None
    ]
    return "FAILED (no result):\n" + "\n".join(lines) if lines else ""
