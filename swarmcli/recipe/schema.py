"""What a recipe file may say: strict keys, strict types, nothing converted silently.

The models are the one source of the file format: `load` validates with them, `swarm schema` prints them, and their
descriptions are what an editor shows. Defaults come from `values`, so that each stands in one place.
"""

import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

os.environ.setdefault(
    "PYDANTIC_DISABLE_PLUGINS", "__all__"
)  # looking for plug-ins costs 15 ms at each start

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from swarmcli.recipe import values
from swarmcli.recipe.document import Path
from swarmcli.recipe.units import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    parse_duration,
    parse_percent,
)
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import found

REFUSED = "swarm"
"""Type of the errors that our own validators raise; `ctx` holds `text` and `hint`."""

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
ENV_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _refuse(text: str, hint: str = "") -> PydanticCustomError:
    """An error whose message goes on after the key: `'limits.timeout' must be ...`."""
    return PydanticCustomError(REFUSED, "{text}", {"text": text, "hint": hint})


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(value: object) -> float:
    try:
        return parse_duration(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = f"write {value:g}s or {value:g}m" if _is_number(value) and value > 0 else ""
        raise _refuse(f"must be {error}, found {found(value)}", hint) from None


def _percent(value: object) -> float:
    try:
        return parse_percent(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = ""
        if _is_number(value) and 0 <= value <= 100:
            hint = f"write {value * 100 if value <= 1 else value:g}%"
        raise _refuse(f"must be {error}, found {found(value)}", hint) from None


def _not_blank(value: str) -> str:
    if not value.strip():
        raise _refuse("is empty", "write some text, or remove the line")
    return value


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise _refuse("must be one line without control characters")
    return _not_blank(value)


def _shape(value: object) -> str | None:
    """The tag of a union's member."""
    names: Mapping[type, str] = {str: "(text)", dict: "(mapping)", list: "(list)"}
    return names.get(type(value))


Text = Annotated[
    str, AfterValidator(_not_blank), WithJsonSchema({"type": "string", "minLength": 1})
]
Line = Annotated[str, AfterValidator(_one_line), WithJsonSchema({"type": "string", "minLength": 1})]
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
VariableName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
EnvName = Annotated[str, StringConstraints(pattern=ENV_PATTERN)]
Count = Annotated[int, Field(ge=1)]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
Percent = Annotated[
    float,
    BeforeValidator(_percent),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN}),
]
JsonSchema = Annotated[
    dict[str, JsonValue], Field(description="A JSON Schema that the answer must match.")
]
ModelName = Annotated[
    str,
    AfterValidator(_one_line),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "description": "A role, or a LiteLLM id: provider/name.",
        }
    ),
]


def _default_percent(share: float) -> dict[str, Any]:
    """What an editor shows for a percentage's default."""
    return {"default": f"{share * 100:g}%"}


def _one_of_keys(quantifier: str, *keys: str) -> Callable[[dict[str, Any]], None]:
    """Tells editors that one of these keys is needed; the messages of `load` come from `checks`."""

    def add(schema: dict[str, Any]) -> None:
        schema[quantifier] = [{"required": [key]} for key in keys]

    return add


class _Strict(BaseModel):
    """Unknown keys are errors, and `"5"` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ParamEntry(_Strict):
    """A parameter; the user sets it with `-p name=value`."""

    type: values.ParamType = Field(default="string", description="What the value must be.")
    description: str = Field(
        default="", description="Shown where the parameter is missing or wrong."
    )
    default: JsonValue = Field(
        default=None, description="Used when -p does not set it; without a default -p must."
    )
    choices: list[JsonValue] = Field(default=[], description="The only values allowed.")


class PriceEntry(_Strict):
    """US dollars per million tokens; wins over LiteLLM's table."""

    input_per_mtok: float = Field(ge=0, description="USD per million prompt tokens.")
    output_per_mtok: float = Field(ge=0, description="USD per million answer tokens.")
    cached_input_per_mtok: float | None = Field(
        default=None,
        ge=0,
        description="USD per million prompt tokens that the provider read from its cache; "
        "without it they cost what other prompt tokens do.",
    )


class ModelEntry(_Strict):
    """A model with its settings."""

    model: Line = Field(description="LiteLLM id: provider/name.")
    fallbacks: list[ModelName] = Field(
        default=[], description="Tried in order when this model fails."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Sampling temperature.")
    max_output_tokens: Count | None = Field(default=None, description="Longest answer, in tokens.")
    api_base: Line | None = Field(
        default=None, description="Base URL of an OpenAI-compatible server."
    )
    api_key_env: EnvName | None = Field(
        default=None, description="Name of the environment variable that holds the key."
    )
    context_window: Count | None = Field(
        default=None, description="Prompt and answer together, in tokens."
    )
    price: PriceEntry | None = None
    reasoning_effort: Line | None = Field(
        default=None, description="For example low, medium, high."
    )


class AgentEntry(_Strict):
    """A profile that the planner and tasks may name."""

    description: str = Field(
        default="", description="Tells the planner what this agent is good at."
    )
    prompt: str = Field(default="", description="Instructions before the task's own prompt.")
    model: ModelName | None = None
    tools: list[Line] = Field(default=[], description="files, server/tool or server/*.")
    max_turns: Count = Field(
        default=values.Profile(name="").max_turns, description="Most model calls in one agent."
    )
    output_schema: JsonSchema | None = None


class ForEachEntry(_Strict):
    """One agent per item: of a list (`items`), or of another fan-out (`from`)."""

    model_config = ConfigDict(json_schema_extra=_one_of_keys("oneOf", "items", "from"))

    items: (
        Annotated[
            Annotated[Text, Tag("(text)")] | Annotated[list[JsonValue], Tag("(list)")],
            Discriminator(_shape),
        ]
        | None
    ) = Field(default=None, description='A list, or one expression that gives one: "{{ files }}".')
    source: Id | None = Field(
        default=None,
        alias="from",
        description="A fan-out; each item starts as soon as it is done there.",
    )
    name: VariableName = Field(
        default=values.ForEach().name, alias="as", description="What prompts call the item."
    )


class VoteEntry(_Strict):
    """Several models or samples answer; equal answers win, others are escalated."""

    models: list[ModelName] = Field(default=[], description="Who votes.")
    samples: Count = Field(default=values.Vote().samples, description="Answers per model.")
    rule: Literal["unanimous", "majority"] = Field(
        default=values.Vote().rule, description="When a vote is decided."
    )
    canonical: Literal["text", "number", "choice", "json"] = Field(
        default=values.Vote().canonical, description="How answers are compared."
    )
    escalate: ModelName | None = Field(default=None, description="Who answers when they disagree.")
    notes: bool = Field(default=values.Vote().notes, description="Show the votes to that model.")
    audit: Percent = Field(
        default=values.Vote().audit,
        description="Share of agreed items that escalate checks too.",
        json_schema_extra=_default_percent(values.Vote().audit),
    )


class TaskEntry(_Strict):
    """One task of a fixed graph."""

    id: Id = Field(description="Unique; dependants name it.")
    prompt: Text = Field(description="What the agent is asked (a template).")
    for_each: ForEachEntry | None = None
    agent: Id | None = Field(default=None, description="A profile of `agents`.")
    model: ModelName | None = None
    depends_on: list[Id] = Field(default=[], description="Tasks whose answers this one gets.")
    optional: bool = Field(default=False, description="Its failure does not stop dependants.")
    output_schema: JsonSchema | None = None
    vote: VoteEntry | None = None


class PlanEntry(_Strict):
    """Bounds of planner-made plans."""

    max_tasks: Count = Field(
        default=values.PlanRules().max_tasks, description="Most tasks in a plan."
    )
    replans: int = Field(
        default=values.PlanRules().replans, ge=0, description="Most re-plans in a run."
    )


class VerifyEntry(_Strict):
    """What is checked beside the conflicts that code always looks for."""

    conflicts: bool = Field(
        default=values.Verify().conflicts, description="Ask again where agents disagree."
    )
    critic: ModelName | None = Field(default=None, description="Who judges the result.")
    rounds: Count = Field(default=values.Verify().rounds, description="Most rounds of criticism.")
    criteria: str = Field(default=values.Verify().criteria, description="What the critic looks at.")


class MergeEntry(_Strict):
    """How the final tasks' answers become one."""

    strategy: values.MergeStrategy = Field(
        default="auto", description="auto: write where it is needed."
    )


class LimitsEntry(_Strict):
    """Caps of one run."""

    parallel: Count | None = Field(default=None, description="Agents at work at once.")
    timeout: Duration | None = Field(default=None, description="Of the whole run: 90s, 5m, 1h30m.")
    task_timeout: Duration | None = Field(default=None, description="Of one agent.")
    max_cost_usd: float | None = Field(default=None, gt=0, description="Most US dollars spent.")
    max_tokens: Count | None = Field(default=None, description="Most tokens, in and out together.")
    max_calls: Count = Field(default=values.Limits().max_calls, description="Most model calls.")
    reserve: Percent = Field(
        default=values.Limits().reserve,
        description="Share of the budget kept for the merge.",
        json_schema_extra=_default_percent(values.Limits().reserve),
    )


class RateEntry(_Strict):
    """A provider's limit that you know."""

    rpm: Count | None = Field(default=None, description="Requests per minute.")
    tpm: Count | None = Field(default=None, description="Tokens per minute.")
    parallel: Count | None = Field(default=None, description="Requests at once.")


class RetryEntry(_Strict):
    """What happens after a call failed for a passing reason."""

    attempts: int = Field(
        default=values.Recipe(name="", source="", text="").retry_attempts,
        ge=1,
        le=100,
        description="Most requests for one answer.",
    )


class HedgeEntry(_Strict):
    """When a straggler gets a duplicate call."""

    quantile: float = Field(
        default=values.Hedge().quantile, gt=0, lt=1, description="Slower than this share of calls."
    )
    max_extra: Percent = Field(
        default=values.Hedge().max_extra,
        description="Most duplicates, as a share of all calls.",
        json_schema_extra=_default_percent(values.Hedge().max_extra),
    )


class CacheEntry(_Strict):
    """How the answer cache is used."""

    mode: values.CacheMode | None = Field(
        default=None, description="use (the default), refresh, only or off."
    )
    ttl: Duration | None = Field(default=None, description="How long answers stay valid: 30d.")


class McpEntry(_Strict):
    """A tool server: a command to start, or a URL."""

    model_config = ConfigDict(json_schema_extra=_one_of_keys("oneOf", "command", "url"))

    command: Line | None = Field(default=None, description="Program to start; needs `swarm trust`.")
    args: list[str] = Field(default=[], description="Its arguments.")
    env: list[EnvName] = Field(default=[], description="Names of variables that are passed on.")
    url: Line | None = Field(default=None, description="Address of a running server.")


class ToolsEntry(_Strict):
    """Tool servers, and which of their tools may be used."""

    mcp: dict[Id, McpEntry] = Field(default={}, description="Servers by name.")
    allow: list[Line] = Field(default=[], description="server/tool or server/*.")
    deny: list[Line] = Field(default=[], description="server/tool or server/*; wins over allow.")


class OutputEntry(_Strict):
    """Where the result goes, and in which shape."""

    file: Line | None = Field(default=None, description="A path inside the working directory.")
    format: values.OutputFormat | None = Field(
        default=None,
        description="What the result is; with json or jsonl, several answers become records.",
    )
    json_schema: JsonSchema | None = Field(default=None, alias="schema")


class RecipeFile(_Strict):
    """A swarm recipe, version 1."""

    model_config = ConfigDict(json_schema_extra=_one_of_keys("anyOf", "task", "tasks"))

    version: Literal[1] = Field(description="The version of the recipe format.")
    name: Annotated[Line, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Default: the file's name."
    )
    description: str = Field(default="", description="One line, shown by `swarm recipes`.")
    params: dict[VariableName, ParamEntry] = Field(default={}, description="Parameters by name.")
    files: list[Line] = Field(default=[], description="Globs of files offered to agents.")
    task: Text | None = Field(default=None, description="The job (a template).")
    mode: values.Mode = Field(default="auto", description="How the job is worked on.")
    models: dict[
        Id,
        Annotated[
            Annotated[Line, Tag("(text)")] | Annotated[ModelEntry, Tag("(mapping)")],
            Discriminator(_shape),
        ],
    ] = Field(
        default={},
        description="Role -> LiteLLM id, another role, or a mapping. "
        "Roles used by swarm: planner, small, large, judge, writer.",
    )
    agents: dict[Id, AgentEntry] = Field(default={}, description="Agent profiles by name.")
    tasks: Annotated[list[TaskEntry], Field(min_length=1)] | None = Field(
        default=None, description="A fixed graph: no planner call."
    )
    plan: PlanEntry = PlanEntry()
    vote: VoteEntry | None = None
    verify: VerifyEntry | None = None
    merge: MergeEntry = MergeEntry()
    limits: LimitsEntry = LimitsEntry()
    rate: dict[Line, RateEntry] = Field(
        default={}, description='Limits by model pattern: "openai/*".'
    )
    retry: RetryEntry = RetryEntry()
    hedge: (
        Annotated[
            Annotated[Literal["off", "on"], Tag("(text)")]
            | Annotated[HedgeEntry, Tag("(mapping)")],
            Discriminator(_shape),
        ]
        | None
    ) = Field(default=None, description="Duplicate calls for stragglers: on by default; or off.")
    cache: CacheEntry = CacheEntry()
    on_error: values.OnError = Field(default="continue", description="After a failed agent.")
    min_success: Percent = Field(
        default=1.0,
        description="Share of agents that must succeed for exit code 0.",
        json_schema_extra=_default_percent(1.0),
    )
    tools: ToolsEntry = ToolsEntry()
    output: OutputEntry = OutputEntry()


def to_json_schema() -> dict[str, Any]:
    """The file format as a JSON Schema document of draft-07, which editors and SchemaStore read."""
    document = _draft_07(RecipeFile.model_json_schema(ref_template="#/definitions/{model}"))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "swarm recipe",
        "definitions": document.pop("$defs"),
        **document,
    }


def _draft_07(schema: dict[str, Any]) -> dict[str, Any]:
    """One schema without titles and nulls, and with `$ref` alone: draft-07 ignores what stands beside it."""
    kept = {key: value for key, value in schema.items() if key != "title"}
    if isinstance(kept.get("default"), dict | None):
        kept.pop("default", None)
    for key in ("properties", "$defs", "patternProperties"):
        if key in kept:
            kept[key] = {name: _draft_07(inner) for name, inner in kept[key].items()}
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(kept.get(key), dict):
            kept[key] = _draft_07(kept[key])
    if "patternProperties" in kept:
        kept.setdefault("additionalProperties", False)
    for key in ("anyOf", "oneOf"):
        if key in kept:
            choices = [_draft_07(inner) for inner in kept.pop(key) if inner != {"type": "null"}]
            kept = {**choices[0], **kept} if len(choices) == 1 else {**kept, key: choices}
    if "$ref" in kept and len(kept) > 1:
        kept["allOf"] = [{"$ref": kept.pop("$ref")}]
    return kept


def unknown_keys(data: Json) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The path of each key that the file format does not have, and the keys that it has in that place."""
    return _unknown(data, RecipeFile, ())


def _unknown(data: Json, annotation: object, path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _unknown(data, inner[0], path)
    elif origin in (Union, types.UnionType):
        for choice in inner:
            yield from _unknown(data, choice, path)
    elif origin is list and isinstance(data, list):
        for index, item in enumerate(data):
            yield from _unknown(item, inner[0], (*path, index))
    elif origin is dict and isinstance(data, dict):
        for key, item in data.items():
            yield from _unknown(item, inner[1], (*path, key))
    elif isinstance(annotation, type) and issubclass(annotation, _Strict):
        yield from _unknown_in(data, annotation, path)


def _unknown_in(
    data: Json, model: type[_Strict], path: Path
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    if not isinstance(data, dict):
        return
    known = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for key, value in data.items():
        if key in known:
            yield from _unknown(value, known[key], (*path, key))
        else:
            yield (*path, key), tuple(known)
