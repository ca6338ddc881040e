"""The verdict on a run: one status and one exit code from what happened."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from swarmcli import errors
from swarmcli.core.outcomes import Outcome

Status = Literal["ok", "partial", "unverified", "budget", "timeout", "interrupted", "failed"]
StopCause = Literal["budget", "timeout", "sigint", "sigterm", "fatal", "outage", "storage"]
"""`fatal`: no access to a model; `outage`: agent after agent failed the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the run ended."""

    status: Status
    exit_code: int


def verdict(
    outcomes: Sequence[Outcome],
    *,
    has_result: bool,
    min_success: float = 1.0,
    stopped_by: StopCause | None = None,
    verified: bool = True,
) -> Verdict:
    """Judge a run.

    An answer that may be wrong is worse than one that is missing: `unverified` goes before `partial`. What agents say
    of themselves (`insufficient`) is told and not judged: the text of an agent does not set the exit code.

    Args:
        outcomes: every agent of the plan; optional ones do not count against `min_success`.
        has_result: something is written to stdout.
        min_success: share of agents that must succeed, 0 to 1.
        stopped_by: what ended the run before its plan did.
        verified: False when the recipe's `verify` was not met: a critic rejects an answer, or a conflict is left.
    """
    if stopped_by in {"sigint", "sigterm"}:
        code = errors.EXIT_SIGINT if stopped_by == "sigint" else errors.EXIT_SIGTERM
        return Verdict(status="interrupted", exit_code=code)
    if stopped_by == "timeout":
        return Verdict(status="timeout", exit_code=errors.EXIT_TIMEOUT)
    if stopped_by == "budget":
        return Verdict(status="budget", exit_code=errors.EXIT_BUDGET)
    if not has_result:
        return Verdict(status="failed", exit_code=errors.exit_code_of(_causes(outcomes)))
    if stopped_by == "fatal":
        return Verdict(status="partial", exit_code=errors.exit_code_of(_causes(outcomes)))
    if stopped_by == "storage":
        return Verdict(status="partial", exit_code=errors.EXIT_FAILED)
    if not verified:
        return Verdict(status="unverified", exit_code=errors.EXIT_GATE)
    counted = [o for o in outcomes if o.state == "done" or not o.task.optional]
    done = sum(o.state == "done" for o in counted)
    if done < math.ceil(min_success * len(counted) - 1e-9):
        return Verdict(status="partial", exit_code=errors.EXIT_PARTIAL)
    return Verdict(status="ok", exit_code=errors.EXIT_OK)


def _causes(outcomes: Sequence[Outcome]) -> list[str]:
    """Why agents failed; what was skipped or cancelled because of that is no cause of its own."""
    return [o.failure.kind for o in outcomes if o.state == "failed" and o.failure is not None]
