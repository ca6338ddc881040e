"""The flags that the work commands share, declared once and handed over as one `RunOptions`."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_type_hints

import typer

from swarmcli.app.options import RunOptions
from swarmcli.recipe.units import parse_duration, parse_percent

INPUT, MODEL, LIMITS, BEHAVIOUR, OUTPUT, DISPLAY = (
    "Input",
    "Model",
    "Limits",
    "Behaviour",
    "Output",
    "Display",
)


def duration_s(text: str) -> float:
    """`90s`, `5m`, `1h30m`, `500ms`, `2d` as seconds."""
    return _parsed(parse_duration, text)


def share(text: str) -> float:
    """`80%` as 0.8."""
    return _parsed(parse_percent, text)


def _parsed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: it must be {error}") from None


def dollars(text: str) -> float:
    """A finite positive amount."""
    try:
        value = float(text.strip().removeprefix("$"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise typer.BadParameter(f"{text!r} is no amount in US dollars; write for example 2.50")
    return value


def _opt(*names: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=False, **more)


Texts = list[str] | None


class _Shared:
    """Name, type and declaration of each shared flag; the names are those of `RunOptions`."""

    params: Annotated[
        Texts,
        _opt(
            "-p",
            "--param",
            panel=INPUT,
            metavar="K=V",
            help="A parameter: k=v, k=@file, k=@- (stdin) or k:=json.",
        ),
    ]
    files: Annotated[
        Texts,
        _opt(
            "-f",
            "--file",
            panel=INPUT,
            metavar="GLOB",
            help="Files offered to the agents, instead of the recipe's.",
        ),
    ]
    plan_file: Annotated[
        str | None,
        _opt(
            "--plan",
            panel=INPUT,
            metavar="FILE",
            help="Use this plan (plan v1) and ask no planner.",
        ),
    ]
    no_stdin: Annotated[bool, _opt("--no-stdin", panel=INPUT, help="Do not read standard input.")]
    models: Annotated[
        Texts,
        _opt(
            "-m",
            "--model",
            panel=MODEL,
            metavar="PROVIDER/NAME",
            help="For every role, or role=provider/name for one.",
        ),
    ]
    mode: Annotated[
        Literal["auto", "instant", "thinking", "agent", "swarm"] | None,
        _opt("--mode", panel=MODEL, help="How far to split the job."),
    ]
    jobs: Annotated[
        int | None,
        _opt("-j", "--jobs", panel=LIMITS, min=1, metavar="N", help="Agents at work at once."),
    ]
    max_agents: Annotated[
        int | None,
        _opt(
            "--max-agents",
            panel=LIMITS,
            min=1,
            metavar="N",
            help="Most tasks that a planner may make.",
        ),
    ]
    max_cost_usd: Annotated[
        float | None,
        _opt("--max-cost", panel=LIMITS, metavar="USD", parser=dollars, help="Stop at this cost."),
    ]
    max_tokens: Annotated[
        int | None,
        _opt("--max-tokens", panel=LIMITS, min=1, metavar="N", help="Stop at this many tokens."),
    ]
    timeout_s: Annotated[
        float | None,
        _opt(
            "--timeout",
            panel=LIMITS,
            metavar="5m",
            parser=duration_s,
            help="Time for the whole run.",
        ),
    ]
    task_timeout_s: Annotated[
        float | None,
        _opt(
            "--task-timeout",
            panel=LIMITS,
            metavar="90s",
            parser=duration_s,
            help="Time for one agent.",
        ),
    ]
    allow_unpriced: Annotated[
        bool,
        _opt(
            "--allow-unpriced",
            panel=LIMITS,
            help="With --max-cost: allow models without a known price.",
        ),
    ]
    dry_run: Annotated[
        bool,
        _opt(
            "-n", "--dry-run", panel=BEHAVIOUR, help="Show what would run; no call, no key needed."
        ),
    ]
    cache: Annotated[
        Literal["use", "refresh", "only", "off"] | None,
        _opt(
            "--cache", panel=BEHAVIOUR, help="How the answer cache is used; default: SWARM_CACHE."
        ),
    ]
    fail_fast: Annotated[
        bool, _opt("--fail-fast", panel=BEHAVIOUR, help="Stop at the first failure.")
    ]
    min_success: Annotated[
        float | None,
        _opt(
            "--min-success",
            panel=BEHAVIOUR,
            metavar="80%",
            parser=share,
            help="Share of agents for exit 0.",
        ),
    ]
    allow: Annotated[
        Texts,
        _opt("--allow", panel=BEHAVIOUR, metavar="TOOL,...", help="Grant tools to the agents."),
    ]
    trust_hash: Annotated[
        str | None,
        _opt(
            "--trust-hash", panel=BEHAVIOUR, metavar="HASH", help="Trust the recipe with this hash."
        ),
    ]
    yes: Annotated[
        bool, _opt("-y", "--yes", panel=BEHAVIOUR, help="Answer yes to questions about cost.")
    ]
    no_input: Annotated[bool, _opt("--no-input", panel=BEHAVIOUR, help="Never ask anything.")]
    output: Annotated[
        str | None,
        _opt(
            "-o",
            "--output",
            panel=OUTPUT,
            metavar="FILE",
            help="Write the result here; - is stdout.",
        ),
    ]
    format: Annotated[
        Literal["text", "json", "stream-json"] | None,
        _opt(
            "--format",
            panel=OUTPUT,
            help="The result as text, one JSON document, or a stream of events.",
        ),
    ]
    json_format: Annotated[bool, _opt("--json", panel=OUTPUT, help="Short for --format json.")]
    events: Annotated[
        str | None,
        _opt("--events", panel=OUTPUT, metavar="FILE", help="Write every event here, a line each."),
    ]
    schema: Annotated[
        str | None,
        _opt(
            "--schema", panel=OUTPUT, metavar="FILE", help="The result must fit this JSON schema."
        ),
    ]
    progress: Annotated[
        Literal["auto", "tree", "plain", "none"] | None,
        _opt(
            "--progress",
            panel=DISPLAY,
            help="What stderr shows while it runs; default: SWARM_PROGRESS.",
        ),
    ]
    color: Annotated[
        Literal["auto", "always", "never"], _opt("--color", panel=DISPLAY, help="Colour on stderr.")
    ]
    quiet: Annotated[bool, _opt("-q", "--quiet", panel=DISPLAY, help="Only errors on stderr.")]
    verbose: Annotated[
        int, _opt("-v", "--verbose", panel=DISPLAY, count=True, help="A line per agent; -vv: more.")
    ]
    debug: Annotated[bool, _opt("--debug", panel=DISPLAY, help="Show a traceback on an error.")]


_DEFAULTS: dict[str, Any] = {"color": "auto", "verbose": 0}
_BOOLEANS = {name for name, hint in get_type_hints(_Shared).items() if hint is bool}


def with_run_options(*without: str) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Give a command the shared flags; it receives them as the keyword argument `options`.

    Args:
        without: names of flags that make no sense for this command.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        hints = {
            k: v
            for k, v in get_type_hints(_Shared, include_extras=True).items()
            if k not in without
        }
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_DEFAULTS.get(name, False if name in _BOOLEANS else None),
                annotation=hint,
            )
            for name, hint in hints.items()
        ]

        @functools.wraps(command)
        def call(**values: Any) -> None:
            given = {name: values.pop(name) for name in hints}
            raise typer.Exit(command(**values, options=options_of(given)))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        setattr(call, "__signature__", inspect.Signature([*parameters, *shared]))  # noqa: B010  Typer reads it
        call.__annotations__ = {p.name: p.annotation for p in [*parameters, *shared]}
        return call

    return decorate


def options_of(given: dict[str, Any]) -> RunOptions:
    """The flags as one value; `--json` and lists are folded in."""
    values = dict(given)
    if values.pop("json_format", False):
        if values.get("format") not in {None, "json"}:
            raise typer.BadParameter(
                f"--json and --format {values['format']} contradict each other"
            )
        values["format"] = "json"
    for name in ("params", "files", "models"):
        values[name] = tuple(values.get(name) or ())
    values["allow"] = tuple(
        t.strip() for text in values.get("allow") or () for t in text.split(",") if t.strip()
    )
    return RunOptions(**values)
