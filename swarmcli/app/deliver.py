"""Delivery: the result to stdout, to a file and into the run folder; nothing but the result on stdout."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

from swarmcli.adapters.atomic import write_atomic
from swarmcli.adapters.runs import RunDir
from swarmcli.app.display import conclude
from swarmcli.app.models import EMBEDDED
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import Prepared
from swarmcli.app.session import SessionResult
from swarmcli.core.events import RunEnd
from swarmcli.core.merge import Merged
from swarmcli.core.safe_json import safe_json
from swarmcli.engine.order import RunReport
from swarmcli.errors import StorageError
from swarmcli.recipe.output_schema import validate_output
from swarmcli.recipe.values import Json
from swarmcli.ui.answer import answer_text, print_answer
from swarmcli.ui.clean import clean
from swarmcli.ui.say import die_of_broken_pipe, err

DOCUMENT_VERSION = 1


def document(
    report: RunReport, *, run: str, artifacts: list[str], structured: Json
) -> dict[str, Any]:
    """The one document of `--json`."""
    totals: Mapping[str, Json] = report.end.totals
    whole = report.end.status == "ok"
    return {
        "schema_version": DOCUMENT_VERSION,
        "run": run,
        "status": report.end.status,
        "exit_code": report.end.exit_code,
        "mode": report.mode,
        "result": report.end.result,
        "structured": structured,
        **{key: value for key, value in totals.items() if key != "mode"},
        "error": {"kind": report.end.error.kind, "message": report.end.error.message}
        if report.end.error
        else None,
        "artifacts": artifacts,
        "resume": None if whole else f"swarm resume {run}",
    }


def write_result(text: str, *, output: str | None, is_prose: bool) -> None:
    """To the file of `-o`, atomically, else to stdout.

    Raises:
        StorageError: the file cannot be written.
    """
    if output not in {None, "-"}:
        write_atomic(Path(str(output)), text.encode("utf-8", "replace"))
        return
    if sys.stdout is None:
        raise StorageError("standard output is closed", hint="write to a file with -o FILE")
    try:
        print_answer(text, sys.stdout, markdown=is_prose)
    except BrokenPipeError:
        die_of_broken_pipe()
    except OSError as error:
        raise StorageError(f"cannot write standard output: {error.strerror}") from error


def json_text(value: object) -> str:
    """JSON for stdout, one document, with everything escaped that a terminal obeys."""
    return safe_json(value, indent=2) + "\n"


def deliver(run_dir: RunDir, prepared: Prepared, result: SessionResult) -> int:
    """Write the result where it was asked for, then the summary; the exit code of the process.

    Raises:
        StorageError: the output file cannot be written; the result is in the run folder all the same.
    """
    options, report = prepared.options, result.report
    end, merged = report.end, report.merged
    structured, fault = _structured(prepared, merged)
    output = options.output or prepared.recipe.output.file
    artifacts: list[str] = []
    text = answer_text(merged.text) if merged is not None else None
    if text is not None:
        kept = run_dir.result_path("json" if isinstance(structured, list | dict) else "md")
        artifacts.append(str(kept))
        with contextlib.suppress(StorageError):
            write_atomic(kept, text.encode("utf-8", "replace"), mode=0o600)
    if output not in {None, "-"} and text is not None:
        artifacts.append(str(Path(str(output)).absolute()))
    with _kept(run_dir):
        if options.format == "json":
            whole = document(report, run=run_dir.id, artifacts=artifacts, structured=structured)
            write_result(json_text(whole), output=output, is_prose=False)
        elif options.format == "text" and text is not None:
            write_result(text, output=output, is_prose=structured is None)
        elif text is not None and output is not None:
            write_result(text, output=output, is_prose=False)
    _explain(run_dir, prepared, result, artifacts, fault)
    return end.exit_code


@contextlib.contextmanager
def _kept(run_dir: RunDir) -> Generator[None]:
    """A result that cannot be delivered is not lost: say how to get it."""
    try:
        yield
    except StorageError as error:
        again = f"swarm resume {run_dir.id} delivers the result again"
        error.hint = f"{error.hint}; then: {again}" if error.hint else again
        raise


def deliver_again(run_dir: RunDir, end: RunEnd, options: RunOptions) -> int:
    """Print the result of a run that is finished already; nothing is called."""
    text = answer_text(end.result or "")
    if options.format == "json":
        value = {
            "schema_version": DOCUMENT_VERSION,
            "run": run_dir.id,
            "status": end.status,
            "exit_code": end.exit_code,
            "result": end.result,
            "structured": _parsed(end.result),
            **end.totals,
            "artifacts": sorted(str(path) for path in run_dir.folder.glob("result.*")),
            "resume": None,
            "error": None
            if end.error is None
            else {"kind": end.error.kind, "message": end.error.message},
        }
        write_result(json_text(value), output=options.output, is_prose=False)
    else:
        write_result(text, output=options.output, is_prose=True)
    return end.exit_code


def _parsed(result: str | None) -> Json:
    """A kept result as `structured`: a JSON document or JSON lines; None for any other text."""
    for text in (result or "", f"[{','.join((result or '').splitlines())}]"):
        try:
            value = cast("Json", json.loads(text))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) or (isinstance(value, list) and value):
            return value
    return None


def _structured(prepared: Prepared, merged: Merged | None) -> tuple[Json, str | None]:
    """The parsed result, and why it does not fit the output schema."""
    if merged is None:
        return None, None
    schema = prepared.recipe.output.schema
    if schema is None:
        return merged.structured, None
    value, fault = validate_output(merged.text, schema)
    return value, fault


def _explain(
    run_dir: RunDir,
    prepared: Prepared,
    result: SessionResult,
    artifacts: list[str],
    fault: str | None,
) -> None:
    """The error or the summary on stderr, and what a CI runner is told."""
    report = result.report
    if report.error is not None:
        hint = f"\nhint: {clean(report.error.hint)}" if report.error.hint else ""
        err(f"error: {clean(report.error.message)}{hint}")
    elif report.merged is None:
        err(f"error: {_cause(report)}\nhint: swarm logs {run_dir.id} --failed")
    if fault is not None:
        err(f"error: the result does not fit the output schema: {clean(fault)}")
    if not prepared.options.quiet:
        tiny = any(model.id == EMBEDDED for model in prepared.models())
        conclude(report.end, result.display, result.view, tiny=tiny, artifacts=artifacts[1:])


def _cause(report: RunReport) -> str:
    """Why there is no result, in one line: the first failure of the most common kind, and how many there are."""
    failures = [o for o in report.outcomes if o.failure is not None and o.state == "failed"]
    if not failures:
        return f"no agent finished ({report.end.status})"
    kinds = Counter(o.failure.kind for o in failures if o.failure is not None)
    kind, count = kinds.most_common(1)[0]
    first = next(o for o in failures if o.failure is not None and o.failure.kind == kind)
    started = len([o for o in report.outcomes if o.state != "skipped"])
    others = f" ({count} of {started} agents)" if started > 1 else ""
    return f"{first.agent}: {clean(first.reason)}{others}"
