"""The end of a run: one durable event with its status, its exit code and its numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarmcli.core.accounts import Accounts
from swarmcli.core.events import Failure, RunCompleted, RunFailed, RunInterrupted
from swarmcli.core.merge import Merged
from swarmcli.core.outcomes import Outcome
from swarmcli.core.ports import Clock
from swarmcli.core.receipt import receipt, unused_agents
from swarmcli.core.spend import Spent
from swarmcli.core.totals import totals
from swarmcli.core.verdict import Verdict, verdict
from swarmcli.engine.conflicts import Conflicts
from swarmcli.engine.engine import Engine
from swarmcli.engine.finish import Finish
from swarmcli.engine.merger import Merger
from swarmcli.engine.order import RunOrder
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, SwarmError
from swarmcli.recipe.output_schema import validate_output
from swarmcli.recipe.values import Json


@dataclass(frozen=True, kw_only=True)
class Closing:
    """Judges one run and adds up what it took, when nothing of it is at work any more."""

    order: RunOrder
    engine: Engine
    finish: Finish
    merger: Merger
    conflicts: Conflicts
    clock: Clock
    spent: Callable[[], Spent]
    accounts: Accounts | None

    def end(
        self,
        outcomes: Sequence[Outcome],
        merged: Merged | None,
        error: SwarmError | None,
        *,
        mode: str,
        planning: Work,
    ) -> RunCompleted | RunFailed | RunInterrupted:
        """The last event.

        Args:
            outcomes: how every agent of the plan ended.
            merged: the result, or None.
            error: what ended the run, where something did.
            mode: how it was carried out in the end.
            planning: the planner's work.
        """
        judged = self._verdict(outcomes, merged, error)
        cls = RunCompleted if merged is not None else RunFailed
        if judged.status == "interrupted":
            cls = RunInterrupted
        failure = None
        if error is not None:
            kind = error.kind if isinstance(error, ModelError) else type(error).__name__
            failure = Failure(kind=kind, message=error.message)
        return cls(
            status=judged.status,
            exit_code=judged.exit_code,
            result=merged.text if merged is not None else None,
            error=failure,
            totals={"mode": mode, **self._totals(outcomes, merged, planning)},
        )

    def _verdict(
        self, outcomes: Sequence[Outcome], merged: Merged | None, error: SwarmError | None
    ) -> Verdict:
        cause = self.engine.stopped_by or self.finish.stopped_by
        if error is not None and merged is None and cause in {None, "fatal", "storage"}:
            return Verdict(status="failed", exit_code=error.exit_code)
        return verdict(
            outcomes,
            has_result=merged is not None,
            min_success=self.order.min_success,
            stopped_by=cause,
            verified=self._is_verified(outcomes) and self._fits_schema(merged),
        )

    def _fits_schema(self, merged: Merged | None) -> bool:
        schema = self.order.schema
        return (
            merged is None or schema is None or validate_output(merged.text, schema).error is None
        )

    def _is_verified(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether all that the recipe's `verify` asks for came out well."""
        verify = self.order.verify
        asked = verify is not None and verify.conflicts
        conflicts = self.conflicts.among(outcomes) if asked else []
        rejected = any(o.verdict == "reject" for o in outcomes if not o.task.optional)
        return not rejected and all(one.chosen is not None for one in conflicts)

    def _totals(
        self, outcomes: Sequence[Outcome], merged: Merged | None, planning: Work
    ) -> dict[str, Json]:
        accounts = self.accounts or Accounts()
        steps = None if self.accounts is None else accounts.steps
        written = merged is not None and accounts.merged_by == "write"
        return totals(
            outcomes,
            receipt=receipt(
                outcomes,
                planning.spans,
                self.merger.work.spans,
                self.conflicts.work.spans,
                steps=steps,
            ),
            spent=self.spent(),
            duration_s=self.clock.monotonic(),
            conflicts=self.conflicts.among(outcomes),
            accounts=accounts,
            unused=()
            if merged is None
            else unused_agents(
                outcomes,
                written=merged.text if written else None,
                stopped=self.engine.stopped_by is not None,
            ),
        )
