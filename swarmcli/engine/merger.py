"""The merge: from the leaf agents' outcomes to one result, in code or by the role `writer` over a reduce tree.

A failed agent reaches the writer as a failure that our code states, never as prose.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.claims import Settled
from swarmcli.core.events import MergeCompleted, MergeStarted
from swarmcli.core.factsheet import fact_sheet
from swarmcli.core.merge import Merged, merge_in_code
from swarmcli.core.mergetree import (
    DEFAULT_WINDOW,
    LEAST_BUDGET,
    Piece,
    condensed,
    groups,
    halved,
    input_budget,
    joined,
    piece_budget,
    piece_tokens,
    split_large,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock, Emit, ModelClient, ModelReply, ModelRequest
from swarmcli.core.remarks import remarks_on
from swarmcli.core.tokens import cut_to_tokens, estimate_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of
from swarmcli.engine.side_by_side import complete_all
from swarmcli.engine.typed import ask_for_json, schema_text, with_schema
from swarmcli.engine.work import Work
from swarmcli.errors import FailureKind, ModelError
from swarmcli.prompts import PromptText, load_prompt
from swarmcli.recipe.values import Json, MergeStrategy

_INSTRUCTIONS = 256
"""Tokens that our own prompt around the material takes, at most."""
_NOT_CONDENSED: frozenset[FailureKind] = frozenset({"truncated", "empty"})
"""Ends of a reducer's call that lose nothing: what it was shown is carried on as it is."""
_HALVINGS = 3
"""How often a text that is cut off is written in twice as many parts."""


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
        self._job = briefing.job_outline
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
        self._shorten_job(window * 3 // 4)
        around = estimate_tokens(self._job + schema) + _INSTRUCTIONS
        wrap, room = self._briefing.blocks.wrap, (window - around) // 4 * 3
        remarks = remarks_on(leaves, conflicts, wrap=wrap, budget=room)
        budget = max(LEAST_BUDGET, window - around - estimate_tokens(remarks))
        pieces = [
            Piece(name=leaf.agent, agents=(leaf.agent,), text=leaf.output)
            for leaf in leaves
            if leaf.output is not None
        ]
        facts = _facts(leaves)
        if facts is not None and piece_tokens(facts) <= min(budget // 3, budget - LEAST_BUDGET):
            parts = await self._fitted(pieces, budget - piece_tokens(facts))
            parts[-1] = (*parts[-1], facts)
        else:
            parts = await self._fitted([*pieces, *([facts] if facts else [])], budget)
        return await self._write_whole(parts, remarks)

    def _shorten_job(self, tokens: int) -> None:
        """A job that would leave no room for the results in a known window is shown without its middle."""
        if self._writer.context_window is None:
            return
        job = cut_to_tokens(self._briefing.job_outline, tokens)
        if job != self._job:
            self._briefing.warn(
                f"the job is too long for the window of {self._writer.id}: the merge does not see all of it"
            )
        self._job = job

    async def _fitted(self, pieces: Sequence[Piece], budget: int) -> list[tuple[Piece, ...]]:
        """The pieces as the writer gets them: one group, or several where they cannot be condensed into one."""
        grouped = _grouped(pieces, budget)
        while len(grouped) > 1:
            reduced = await self._reduce(grouped, budget)
            fewer = _grouped([piece for level in reduced for piece in level], budget)
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

    async def _reduce(
        self, grouped: Sequence[Sequence[Piece]], budget: int
    ) -> list[Sequence[Piece]]:
        """One level of the tree: of each group one smaller piece, and what it leaves out; all groups at once."""
        words = str(max(40, min(piece_budget(budget), self._answer()) // 3))
        several = [group for group in grouped if len(group) > 1]
        prompts = [self._prompt("reducer", group, words=words) for group in several]
        texts = iter(await self._ask(prompts, _NOT_CONDENSED))
        return [condensed(group, next(texts)) if len(group) > 1 else group for group in grouped]

    def _cut(self, reduced: Sequence[Sequence[Piece]], tokens: int) -> list[Piece]:
        """One piece of each group, so that the tree ends.

        For a model that does not condense, where the result is one JSON value that cannot be written in parts.
        """
        self._briefing.warn(
            f"{self._writer.id} did not condense the results as asked: parts of them were cut"
        )
        texts = [
            cut_to_tokens("\n\n".join(piece.text for piece in level), tokens) for level in reduced
        ]
        return [joined(level, text) for level, text in zip(reduced, texts, strict=True)]

    def _prompt(self, kind: str, pieces: Sequence[Piece], **more: str) -> PromptText:
        results = "\n\n".join(
            self._briefing.blocks.wrap(piece.name, piece.text) for piece in pieces
        )
        is_small = is_tiny(self._writer) and kind != "reducer"
        prompt = load_prompt("writer_small" if is_small else kind)
        values = {
            "job": self._job,
            "results": results,
            "data_note": DATA_NOTE,
            **more,
        }
        return prompt.render(**{name: values[name] for name in prompt.variables})

    async def _write_whole(
        self, parts: Sequence[Sequence[Piece]], remarks: str, halvings: int = _HALVINGS
    ) -> str:
        """The result, in more and shorter parts where an answer is cut off at the model's limit."""
        try:
            if len(parts) == 1:
                return await self._write_last(self._prompt("writer", parts[0], failures=remarks))
            return await self._write_parts(parts, remarks)
        except ModelError as error:
            halves = halved(parts)
            can_be_split = self._schema is None and halvings and len(halves) > len(parts)
            if error.kind != "truncated" or not can_be_split:
                raise
        return await self._write_whole(halves, remarks, halvings - 1)

    async def _write_parts(self, parts: Sequence[Sequence[Piece]], remarks: str) -> str:
        """A result that is longer than one answer: in parts, side by side, which our code puts together."""
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
        texts = await self._ask(prompts)
        self._briefing.warn(
            f"the results are too long for one text by {self._writer.id}: it was written in {len(parts)} parts"
        )
        return "\n\n".join(text.strip() for text in texts)

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

    async def _ask(
        self, prompts: Sequence[PromptText], spared: Collection[FailureKind] = ()
    ) -> list[str]:
        """Ask the writer all `prompts` at once; the answers in the same order, empty where a failure is spared."""
        requests = [self._request(prompt) for prompt in prompts]
        return [reply.text for reply in await self._complete(requests, spared)]

    async def _complete(
        self, requests: Sequence[ModelRequest], spared: Collection[FailureKind] = ()
    ) -> list[ModelReply]:
        started_s = self._clock.monotonic()
        replies = await complete_all(self._client, requests, spared)
        ended_s = self._clock.monotonic()
        self.work.add("writer", replies, started_s=started_s, ended_s=ended_s)
        return replies


def _grouped(pieces: Sequence[Piece], budget: int) -> list[tuple[Piece, ...]]:
    return groups(split_large(pieces, piece_budget(budget)), budget)


def _facts(leaves: Sequence[Outcome]) -> Piece | None:
    """All agents' claims as one piece, put together in code."""
    lines = fact_sheet((leaf.agent, claim) for leaf in leaves for claim in leaf.claims)
    agents = tuple(leaf.agent for leaf in leaves if leaf.claims)
    return Piece(name="facts", agents=agents, text="\n".join(lines)) if lines else None
