"""The last step of a run: what is merged, by whom, and what is done when there is no time or money for the writer."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

from swarmcli.core.claims import Settled, conflicts_section
from swarmcli.core.events import Warned
from swarmcli.core.merge import Merged, merge_in_code
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import final_tasks
from swarmcli.core.ports import Clock, Emit
from swarmcli.core.verdict import StopCause
from swarmcli.engine.merger import Merger
from swarmcli.engine.order import RunOrder
from swarmcli.engine.side_by_side import first_model_error
from swarmcli.errors import ModelError
from swarmcli.recipe.output_schema import validate_output
from swarmcli.recipe.values import MergeStrategy

_IN_PLACE: frozenset[MergeStrategy] = frozenset({"json", "jsonl", "table", "majority"})
"""Strategies in which each leaf has its own place: record i belongs to input i."""


class Finish:
    """Makes the result of one run. A run that was stopped still gets the best one that can be made without a model.

    Args:
        order: the strategy and the time.
        merger: does the merging.
        emit: takes a warning when the writer is left out.
        clock: its zero is the start of the run.
    """

    def __init__(self, *, order: RunOrder, merger: Merger, emit: Emit, clock: Clock) -> None:
        self._order = order
        self._merger = merger
        self._emit = emit
        self._clock = clock
        self._writing: asyncio.Task[Merged] | None = None
        self._conflicts: Sequence[Settled] = ()
        self._hurried = False
        self.stopped_by: StopCause | None = None
        """What cut the merge itself short: budget or timeout."""

    def hurry(self) -> None:
        """Leave the writer out; one that is at work is cut off."""
        self._hurried = True
        if self._writing is not None:
            self._writing.cancel()

    async def result(
        self,
        outcomes: Sequence[Outcome],
        *,
        stopped_by: StopCause | None,
        planner_made: bool,
        conflicts: Sequence[Settled] = (),
    ) -> Merged | None:
        """The result, or None when nothing was finished that could be one.

        A text ends with a section `Conflicts` where some are unresolved, whoever wrote it.

        Raises:
            ModelError: the writer failed in a run that nothing else had stopped.
        """
        self._tell_doubts(outcomes)
        self._conflicts = conflicts
        merged = await self._result(outcomes, stopped_by=stopped_by, planner_made=planner_made)
        section = conflicts_section(conflicts)
        if merged is None or not section or not self._is_text(merged):
            return merged
        return replace(merged, text=f"{merged.text.rstrip()}\n\n{section}".lstrip("\n"))

    def _tell_doubts(self, outcomes: Sequence[Outcome]) -> None:
        """Agents that ended without a failure and yet are the reason why a run is not a success."""
        done = [o for o in outcomes if o.state == "done"]
        unable = [o.agent for o in done if o.status == "insufficient"]
        rejected = [o.agent for o in done if o.verdict == "reject"]
        torn = [o.agent for o in done if o.status == "conflict" and o.verdict != "reject"]
        if unable:
            self._emit(Warned(message=f"could not do their task (insufficient): {_named(unable)}"))
        if torn:
            self._emit(
                Warned(
                    message=f"found contradictions in what they were given (conflict): {_named(torn)}"
                )
            )
        if rejected:
            self._emit(
                Warned(message=f"the critic still rejects what they answer: {_named(rejected)}")
            )

    def _is_text(self, merged: Merged) -> bool:
        """False where a program reads the result: one record per line, JSON, a table, one answer."""
        for_programs = self._order.merge_in_code is not None or self._order.schema is not None
        return not for_programs and merged.structured is None and not _is_json(merged.text)

    async def _result(
        self, outcomes: Sequence[Outcome], *, stopped_by: StopCause | None, planner_made: bool
    ) -> Merged | None:
        if not outcomes and self._order.tasks == ():
            return self._nothing_to_do()
        leaves = self._leaves(outcomes, stopped_by)
        if not any(leaf.state == "done" for leaf in leaves):
            return None
        if self._order.merge_in_code is not None:
            return self._order.merge_in_code(leaves)
        try:
            return await self._merge(self._strategy(leaves, planner_made), leaves, stopped_by)
        except ModelError as error:
            if error.kind == "budget":
                self.stopped_by = "budget"
            if stopped_by is None and self.stopped_by is None:
                raise
            return await self._plainly(leaves, error.message)

    def _nothing_to_do(self) -> Merged:
        """Fan-outs over empty lists: an empty result, as of any pipeline that gets no input."""
        self._emit(Warned(message="there are no items, so there is nothing to do"))
        return (
            merge_in_code(self._order.merge, [])
            if self._order.merge in _IN_PLACE
            else Merged(text="")
        )

    async def _merge(
        self, strategy: MergeStrategy, leaves: Sequence[Outcome], stopped_by: StopCause | None
    ) -> Merged:
        if strategy == "auto":
            return Merged(text=next(leaf.output for leaf in leaves if leaf.output is not None))
        if strategy != "write":
            return await self._merger.merge(strategy, leaves)
        if self._hurried or stopped_by in {"fatal", "outage", "storage"}:
            return await self._plainly(leaves, "the run was stopped")
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._merger.merge("write", leaves, self._conflicts))
                deadline = group.create_task(self._deadline(writing))
                writing.add_done_callback(lambda _: deadline.cancel())
                self._writing = writing
        except* ModelError as failures:
            raise first_model_error(failures) from None
        if writing.cancelled():
            return await self._plainly(leaves, "there was no time for the writer")
        return writing.result()

    async def _deadline(self, writing: asyncio.Task[Merged]) -> None:
        timeout_s = self._order.timeout_s
        if timeout_s is None:
            return
        await self._clock.sleep(max(0.05, timeout_s - self._clock.monotonic()))
        if not writing.done():
            self.stopped_by = "timeout"
            writing.cancel()

    async def _plainly(self, leaves: Sequence[Outcome], why: str) -> Merged:
        self._emit(Warned(message=f"the results are put together without the writer model: {why}"))
        return await self._merger.merge("concat", leaves)

    def _strategy(self, leaves: Sequence[Outcome], planner_made: bool) -> MergeStrategy:
        """What `auto` means here; `auto` itself stands for a single leaf that is the result already."""
        if self._order.merge != "auto":
            return self._order.merge
        if len(leaves) == 1 and self._fits(leaves[0].output):
            return "auto"
        return "write" if planner_made else self._order.in_code

    def _fits(self, output: str | None) -> bool:
        """Whether it can be the result as it is: a planner's task has not been asked for the result's schema."""
        schema = self._order.schema
        return schema is None or (
            output is not None and validate_output(output, schema).error is None
        )

    def _leaves(
        self, outcomes: Sequence[Outcome], stopped_by: StopCause | None
    ) -> Sequence[Outcome]:
        """What is merged: the final agents. A run that was stopped early merges the last that was finished."""
        final = {task.id for task in final_tasks(o.task for o in outcomes)}
        leaves = [o for o in outcomes if o.agent in final]
        if stopped_by is None or all(leaf.state == "done" for leaf in leaves):
            return leaves
        in_place = self._order.merge_in_code is not None or self._order.merge in _IN_PLACE
        if in_place and any(leaf.state == "done" for leaf in leaves):
            return leaves
        done = [o for o in outcomes if o.state == "done"]
        frontier = {task.id for task in final_tasks(o.task for o in done)}
        return [o for o in outcomes if o.agent in frontier or o.agent in final]


def _is_json(text: str) -> bool:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)


def _named(agents: Sequence[str], most: int = 10) -> str:
    more = len(agents) - most
    return ", ".join(agents[:most]) + (f" and {more} more" if more > 0 else "")
