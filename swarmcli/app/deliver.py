"""Delivery: the result to stdout, to a file and into the run folder; nothing but the result on stdout."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from swarmcli.adapters.atomic import write_atomic
from swarmcli.adapters.runs import RunDir
from swarmcli.app.display import conclude
from swarmcli.app.models import EMBEDDED
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import Prepared
from swarmcli.app.session import SessionResult
from swarmcli.core.event_json import to_record
from swarmcli.core.events import RunEnd, Stamped
from swarmcli.core.merge import Merged
from swarmcli.core.safe_json import safe_json
from swarmcli.engine.order import RunReport
from swarmcli.errors import StorageError
from swarmcli.recipe.output_schema import validate_output
from swarmcli.recipe.values import Json
from swarmcli.ui.answer import answer_text, print_answer
from swarmcli.ui.clean import clean
from swarmcli.ui.say import die_of_broken_pipe, err, out

DOCUMENT_VERSION = 1


def document(end: RunEnd, *, run: str, artifacts: list[str], structured: Json) -> dict[str, Any]:
    """The one document of `--json`."""
    return {
        "schema_version": DOCUMENT_VERSION,
        "run": run,
        "status": end.status,
        "exit_code": end.exit_code,
        "mode": end.totals.get("mode"),
        "result": end.result,
        "structured": structured,
        **{key: value for key, value in end.totals.items() if key != "mode"},
        "error": {"kind": end.error.kind, "message": end.error.message} if end.error else None,
        "artifacts": artifacts,
        "resume": None if end.status == "ok" else f"swarm resume {run}",
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
        _keep(run_dir, text, structured)
        artifacts = _artifacts(run_dir, output)
    with _kept(run_dir):
        if options.format == "json":
            whole = document(end, run=run_dir.id, artifacts=artifacts, structured=structured)
            write_result(json_text(whole), output=output, is_prose=False)
        elif text is not None and _wants_text(options, output):
            write_result(text, output=output, is_prose=structured is None)
    _explain(run_dir, prepared, result, _asked_for(output) if artifacts else [], fault)
    return end.exit_code


def _keep(run_dir: RunDir, text: str, structured: Json) -> None:
    """The result in the run folder: its text, and its structure where it has one."""
    with contextlib.suppress(StorageError):
        write_atomic(run_dir.result_path("md"), text.encode("utf-8", "replace"), mode=0o600)
        if isinstance(structured, list | dict):
            data = json_text(structured).encode("utf-8", "replace")
            write_atomic(run_dir.result_path("json"), data, mode=0o600)


def _artifacts(run_dir: RunDir, output: str | None) -> list[str]:
    """Where the result stands: in the run folder, and in the file that was asked for."""
    kept = [path for kind in ("md", "json") if (path := run_dir.result_path(kind)).exists()]
    return [*map(str, kept), *_asked_for(output)]


def _asked_for(output: str | None) -> list[str]:
    """The file of `-o` or `output.file`."""
    return [] if output is None or output == "-" else [str(Path(output).absolute())]


def _wants_text(options: RunOptions, output: str | None) -> bool:
    """The last line of a stream of events holds the result; only a file gets it as text as well."""
    return options.format != "stream-json" or output not in {None, "-"}


@contextlib.contextmanager
def _kept(run_dir: RunDir) -> Generator[None]:
    """A result that cannot be delivered is not lost: say how to get it."""
    try:
        yield
    except StorageError as error:
        again = f"swarm resume {run_dir.id} delivers the result again"
        error.hint = f"{error.hint}; then: {again}" if error.hint else again
        raise


def deliver_again(run_dir: RunDir, end: RunEnd, stamped: Stamped, options: RunOptions) -> int:
    """Print the result of a run that is finished already; nothing is called.

    Args:
        run_dir: its folder.
        end: its last event.
        stamped: the same with its place in the run: the line that a stream of events ends with.
        options: the format, and where to.
    """
    text = answer_text(end.result or "")
    if options.format == "stream-json":
        out(safe_json(to_record(stamped)))
    if options.format == "json":
        whole = document(
            end,
            run=run_dir.id,
            artifacts=_artifacts(run_dir, options.output),
            structured=_kept_structure(run_dir),
        )
        write_result(json_text(whole), output=options.output, is_prose=False)
    elif _wants_text(options, options.output):
        write_result(text, output=options.output, is_prose=True)
    return end.exit_code


def _kept_structure(run_dir: RunDir) -> Json:
    """What `structured` was when the result was written; None where it was nothing."""
    try:
        return cast("Json", json.loads(run_dir.result_path("json").read_text("utf-8")))
    except (OSError, ValueError, RecursionError):
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
    written: list[str],
    fault: str | None,
) -> None:
    """The error or the summary on stderr, and what a CI runner is told."""
    report = result.report
    if report.error is not None:
        hint = f"\nhint: {clean(report.error.hint)}" if report.error.hint else ""
        err(f"error: {clean(report.error.message)}{hint}")
    elif report.merged is None:
        cause, hint = _cause(report)
        err(f"error: {cause}\nhint: {hint or f'swarm logs {run_dir.id} --failed'}")
    if fault is not None:
        err(f"error: the result does not fit the output schema: {clean(fault)}")
    # Without a first event, as on a full disk, there is no run to sum up, and the error has told it all.
    if result.view.run and not prepared.options.quiet:
        tiny = any(model.id == EMBEDDED for model in prepared.models())
        conclude(report.end, result.display, result.view, tiny=tiny, artifacts=written)


def _cause(report: RunReport) -> tuple[str, str | None]:
    """Why there is no result: the first failure of the most common kind, how many there are, and what helps."""
    failures = [o for o in report.outcomes if o.failure is not None and o.state == "failed"]
    if not failures:
        return f"no agent finished ({report.end.status})", None
    kinds = Counter(o.failure.kind for o in failures if o.failure is not None)
    kind, count = kinds.most_common(1)[0]
    first = next(o for o in failures if o.failure is not None and o.failure.kind == kind)
    total = len(report.outcomes)
    others = f" ({count} of {total} agents)" if total > 1 else ""
    return f"{first.agent}: {clean(first.reason)}{others}", first.hint and clean(first.hint)
