"""`swarm eval`: reads the questions, lets the configurations answer them, prints how they compare."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmcli.adapters.atomic import write_atomic
from swarmcli.app.configurations import Configuration, Setting, configurations
from swarmcli.app.dataset import read_questions, sample
from swarmcli.app.deliver import json_text, write_result
from swarmcli.app.intake import Stdin
from swarmcli.app.models import preflight
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import blocks_of
from swarmcli.app.session import events_file
from swarmcli.app.sheet import NOTHING
from swarmcli.app.signals import caught
from swarmcli.app.trials import Trials
from swarmcli.app.work import check_output
from swarmcli.app.workspace import open_workspace
from swarmcli.core.budget import Budget
from swarmcli.core.comparison import Answered, Result
from swarmcli.core.events import Failure
from swarmcli.core.safe_json import safe_json
from swarmcli.core.scoring import Scorer
from swarmcli.core.verdict import StopCause
from swarmcli.errors import (
    EXIT_BUDGET,
    EXIT_OK,
    EXIT_PARTIAL,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    EXIT_TIMEOUT,
    UsageError,
    exit_code_of,
)
from swarmcli.recipe.values import Json
from swarmcli.ui.clean import clean
from swarmcli.ui.say import err, out
from swarmcli.ui.scores import score_table

DOCUMENT_VERSION = 1
GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """The flags that only `swarm eval` has."""

    recipe: str | None = None
    configs: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    scorer: Scorer | None = None
    """None: by the questions themselves."""


def evaluate(dataset: str, wish: EvalOptions, options: RunOptions) -> int:
    """`swarm eval DATASET`; the exit code."""
    ws = open_workspace(quiet=options.quiet)
    if options.output == "-":
        raise UsageError(
            "-o takes a record of each answer, and stdout the table",
            hint="-o answers.jsonl, or all of it as one JSON document on stdout with --json",
        )
    check_output(options.output, dataset)
    stdin = Stdin(forbidden=False, note=ws.note)
    everything = read_questions(dataset, scorer=wish.scorer, stdin=stdin)
    setting = Setting(
        ws=ws,
        options=options,
        blocks=blocks_of(ws),
        questions=sample(everything, wish.limit, wish.seed),
    )
    configs = configurations(setting, wish.recipe, wish.configs)
    if options.dry_run:
        return _preview(_asked(dataset, wish, setting), configs, options)
    for config in configs:
        if config.first.cache.mode != "only":
            preflight(config.first.models(), ws.surroundings())
    budget = _budget(setting, configs)
    with contextlib.ExitStack() as stack:
        sink = None
        if options.events is not None:
            sink = events_file(Path(options.events), stack)
            stack.callback(sink.close)
        trials = Trials(setting, budget=budget, note=ws.note, sink=sink)
        results = asyncio.run(_execute(trials, configs))
    code = _deliver(_asked(dataset, wish, setting), options, trials, results, budget)
    _explain(
        results, trials.stopped_by, kept=all(c.first.cache.effective_mode == "use" for c in configs)
    )
    return code


def _asked(dataset: str, wish: EvalOptions, setting: Setting) -> dict[str, Json]:
    """What every configuration is asked, as JSON."""
    return {
        "schema_version": DOCUMENT_VERSION,
        "dataset": dataset,
        "questions": len(setting.questions),
        "limit": wish.limit,
        "seed": wish.seed,
        "scorers": dict(Counter(q.scorer for q in setting.questions)),
    }


def _preview(
    asked: Mapping[str, Json], configs: Sequence[Configuration], options: RunOptions
) -> int:
    if options.format == "json":
        rows = [
            {"name": c.name, "description": c.description, "at_once": c.at_once} for c in configs
        ]
        out(json_text({**asked, "configurations": rows}).rstrip("\n"))
        return EXIT_OK
    out(f"{asked['questions']} questions, nothing was sent")
    for config in configs:
        runs = "one run" if config.at_once else "a run each"
        out(f"{clean(config.name)}: {clean(config.description)}, {runs}")
    return EXIT_OK


def _budget(setting: Setting, configs: Sequence[Configuration]) -> Budget:
    """Caps in dollars and tokens hold for the evaluation as a whole, the cap on calls for each run of a recipe."""
    limits = [config.first.limits for config in configs]
    dollars = [limit.max_cost_usd for limit in limits if limit.max_cost_usd is not None]
    tokens = [limit.max_tokens for limit in limits if limit.max_tokens is not None]
    runs = [1 if c.at_once and c.first.recipe.source else len(setting.questions) for c in configs]
    return Budget(
        max_cost_usd=min(dollars, default=None),
        max_tokens=min(tokens, default=None),
        max_calls=sum(limit.max_calls * n for limit, n in zip(limits, runs, strict=True)),
        reserve=0.0,
        allow_unpriced=setting.options.allow_unpriced,
    )


async def _execute(trials: Trials, configs: Sequence[Configuration]) -> list[Result]:
    with _signals(trials):
        return await trials.execute(configs)


@contextlib.contextmanager
def _signals(trials: Trials) -> Generator[None]:
    """First signal: nothing new starts, open calls get a grace; second: stop now."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        cause: StopCause = "sigint" if number == signal.SIGINT else "sigterm"
        if trials.stopped_by is not None:
            trials.cancel(cause)
            return
        err(f"Stopping: calls get {GRACE_S:g} s to finish. Ctrl-C again to stop now.")
        trials.interrupt(cause)
        loop.call_later(GRACE_S, trials.cancel, cause)

    with caught(on_signal):
        yield


def _deliver(
    asked: Mapping[str, Json],
    options: RunOptions,
    trials: Trials,
    results: Sequence[Result],
    budget: Budget,
) -> int:
    """The records to their file, the table or the document to stdout; the exit code."""
    answers = [answered for result in results for answered in result.answers]
    code = _exit_code(answers, trials.stopped_by, options.min_success)
    records = [answered.record() for answered in answers]
    rows = [result.summary(results[0]) for result in results]
    has_result = any(answered.status == "ok" for answered in answers)
    spent = budget.spent
    document = {
        **asked,
        "status": _status(code, has_result=has_result),
        "exit_code": code,
        "configurations": rows,
        "paid_usd": round(spent.cost_usd, 6) if spent.cost_known else None,
        "duration_s": round(trials.seconds, 3),
        "records": records,
    }
    try:
        if options.output is not None:
            lines = "".join(f"{safe_json(record)}\n" for record in records)
            write_atomic(Path(options.output), lines.encode("utf-8", "replace"))
    finally:  # neither of the two places takes the other one's part with it
        if options.format == "json":
            write_result(json_text(document), output=None, is_prose=False)
        elif has_result:
            write_result(score_table(rows), output=None, is_prose=False)
    return code


_STOPS = {
    EXIT_BUDGET: "a cap was reached",
    EXIT_TIMEOUT: "the time is over",
    EXIT_SIGINT: "interrupted",
    EXIT_SIGTERM: "terminated",
}


def _explain(results: Sequence[Result], stopped_by: int | None, *, kept: bool) -> None:
    """Why answers are missing, how that counts, and what comes next.

    Args:
        results: of all configurations.
        stopped_by: the exit code of what ended everything early.
        kept: whether the same command will find these answers in the cache.
    """
    answers = [answered for result in results for answered in result.answers]
    failures = [answered.error for answered in answers if answered.error is not None]
    if not failures:
        return
    wrong = sum(answered.status == "failed" for answered in answers)
    word = "error" if len(failures) == len(answers) else "warning"
    err(
        f"{word}: {len(failures)} of {len(answers)} answers are missing: {_causes(failures, stopped_by)} "
        f"({wrong} counted as wrong, {len(failures) - wrong} not counted)"
    )
    if stopped_by is not None and kept:
        err("hint: the same command goes on from here")


def _causes(failures: Sequence[Failure], stopped_by: int | None) -> str:
    """What ended everything, and the most common failure; that others were stopped by it is none of its own."""
    words = [_STOPS[stopped_by]] if stopped_by in _STOPS else []
    told = [failure for failure in failures if failure.kind != NOTHING.kind]
    if told:
        kind, _ = Counter(failure.kind for failure in told).most_common(1)[0]
        words.append(f"{kind}: {clean(next(f.message for f in told if f.kind == kind))}")
    return "; ".join(words) or NOTHING.message


def _exit_code(
    answers: Sequence[Answered], stopped_by: int | None, min_success: float | None
) -> int:
    if stopped_by is not None:
        return stopped_by
    done = sum(answered.status == "ok" for answered in answers)
    if done == 0:
        kinds = {answered.error.kind for answered in answers if answered.error is not None}
        return exit_code_of(kinds - {NOTHING.kind})
    needed = 1.0 if min_success is None else min_success
    return EXIT_OK if done >= needed * len(answers) - 1e-9 else EXIT_PARTIAL


_STATUSES = {
    EXIT_OK: "ok",
    EXIT_PARTIAL: "partial",
    EXIT_BUDGET: "budget",
    EXIT_TIMEOUT: "timeout",
}


def _status(code: int, *, has_result: bool) -> str:
    if code in {EXIT_SIGINT, EXIT_SIGTERM}:
        return "interrupted"
    return _STATUSES.get(code, "failed") if has_result or code in _STATUSES else "failed"
