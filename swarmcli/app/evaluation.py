"""`swarm eval`: reads the questions, lets the configurations answer them, prints how they compare."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Generator, Sequence
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
from swarmcli.app.sheet import NOTHING
from swarmcli.app.signals import caught
from swarmcli.app.trials import Trials
from swarmcli.app.workspace import open_workspace
from swarmcli.core.budget import Budget
from swarmcli.core.comparison import Answered, Result
from swarmcli.core.scoring import Scorer
from swarmcli.core.verdict import StopCause
from swarmcli.errors import EXIT_OK, EXIT_PARTIAL, StorageError, UsageError, exit_code_of
from swarmcli.ui.clean import clean
from swarmcli.ui.json_lines import JsonLines, json_line
from swarmcli.ui.say import err
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
    _check_output(options.output)
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
        return _preview(setting, configs)
    for config in configs:
        if config.first.cache.mode != "only":
            preflight(config.first.models(), ws.surroundings())
    budget = _budget(setting, configs)
    with _events(options.events) as sink:
        trials = Trials(setting, budget=budget, note=ws.note, sink=sink)
        results = asyncio.run(_execute(trials, configs))
    return _deliver(dataset, wish, setting, trials, results, budget)


def _check_output(output: str | None) -> None:
    if output is None:
        return
    path = Path(output).absolute()
    target = path if path.exists() else path.parent
    if output in {"", "-"} or path.is_dir() or not os.access(target, os.W_OK):
        raise UsageError(
            f"-o {output!r} is no file that can be written",
            hint="-o answers.jsonl takes a record of each answer; stdout gets the table, or JSON with --json",
        )


def _preview(setting: Setting, configs: Sequence[Configuration]) -> int:
    err(f"{len(setting.questions)} questions")
    for config in configs:
        runs = "one run" if config.at_once else "a run each"
        err(f"{clean(config.name)}: {clean(config.description)}, {runs}")
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


@contextlib.contextmanager
def _events(path: str | None) -> Generator[JsonLines | None]:
    if path is None:
        yield None
        return
    try:
        with Path(path).open("w", encoding="utf-8") as stream:
            sink = JsonLines(
                stream, lambda error: err(f"warning: {path} is incomplete: {error.strerror}")
            )
            try:
                yield sink
            finally:
                sink.close()
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="choose another --events file"
        ) from error


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
    dataset: str,
    wish: EvalOptions,
    setting: Setting,
    trials: Trials,
    results: Sequence[Result],
    budget: Budget,
) -> int:
    options = setting.options
    answers = [answered for result in results for answered in result.answers]
    code = _exit_code(answers, trials.stopped_by, options.min_success)
    records = [answered.record() for answered in answers]
    rows = [result.summary(results[0]) for result in results]
    has_result = any(answered.status == "ok" for answered in answers)
    if options.format == "json":
        spent = budget.spent
        document = {
            "schema_version": DOCUMENT_VERSION,
            "status": _status(code, has_result=has_result),
            "exit_code": code,
            "dataset": dataset,
            "questions": len(setting.questions),
            "limit": wish.limit,
            "seed": wish.seed,
            "scorers": dict(Counter(q.scorer for q in setting.questions)),
            "configurations": rows,
            "paid_usd": round(spent.cost_usd, 6) if spent.cost_known else None,
            "duration_s": round(trials.seconds, 3),
            "records": records,
        }
        write_result(json_text(document), output=None, is_prose=False)
    elif has_result:
        write_result(score_table(rows), output=None, is_prose=False)
    if options.output is not None:
        lines = "".join(f"{json_line(record)}\n" for record in records)
        write_atomic(Path(options.output), lines.encode("utf-8", "replace"))
    _explain(answers)
    return code


def _explain(answers: Sequence[Answered]) -> None:
    """Why answers are missing, in one line: the most common cause; that others were stopped by it is none."""
    failures = [answered.error for answered in answers if answered.error is not None]
    if not failures:
        return
    causes = [failure for failure in failures if failure.kind != NOTHING.kind] or failures
    kind, _ = Counter(failure.kind for failure in causes).most_common(1)[0]
    why = next(failure.message for failure in causes if failure.kind == kind)
    word = "error" if len(failures) == len(answers) else "warning"
    err(f"{word}: {len(failures)} of {len(answers)} answers are missing: {kind}: {clean(why)}")


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


_STATUSES = {EXIT_OK: "ok", EXIT_PARTIAL: "partial", 4: "budget", 124: "timeout"}


def _status(code: int, *, has_result: bool) -> str:
    if code in {130, 143}:
        return "interrupted"
    return _STATUSES.get(code, "failed") if has_result or code in _STATUSES else "failed"
