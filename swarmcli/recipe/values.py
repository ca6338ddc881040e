"""What the program uses of a recipe: frozen values, nothing optional that has a default, units in names.

`schema` says what the file may hold, `load` is the only bridge from there to here. This module is pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Mode = Literal["auto", "instant", "thinking", "agent", "swarm"]
ParamType = Literal["string", "integer", "number", "boolean", "file", "list"]
MergeStrategy = Literal["auto", "write", "concat", "json", "jsonl", "table", "majority"]
OutputFormat = Literal["text", "markdown", "json", "jsonl"]
CacheMode = Literal["use", "refresh", "only", "off"]
Canonical = Literal["text", "number", "choice", "json"]
OnError = Literal["continue", "fail_fast"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A JSON value."""

ROLES = ("planner", "small", "large", "judge", "writer")
"""The model roles that the engine uses; a recipe may add its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    input_per_mtok: float
    output_per_mtok: float
    cached_input_per_mtok: float | None = None
    """Of input tokens that the provider read from its own cache; None: as other input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to reach one model and how to ask it."""

    id: str
    """LiteLLM id: `provider/name`."""
    fallbacks: tuple[str, ...] = ()
    """Roles or LiteLLM ids that are tried in order when this model fails."""
    temperature: float | None = None
    max_output_tokens: int | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    context_window: int | None = None
    """Tokens of prompt and answer together; None: what LiteLLM's table says, else unknown."""
    price: Price | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRef:
    """`planner: large`: this role uses the model of another role."""

    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A declared parameter of a recipe."""

    name: str
    type: ParamType = "string"
    description: str = ""
    default: Json = None
    required: bool = True
    """True when the recipe gives no default."""
    choices: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An agent profile that the planner and tasks may name."""

    name: str
    description: str = ""
    prompt: str = ""
    """Instructions put before the task's own prompt (a template)."""
    model: str | None = None
    """A role or a LiteLLM id; None: the task's, else role `small`."""
    tools: tuple[str, ...] = ()
    max_turns: int = 12
    output_schema: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForEach:
    """A fan-out. Exactly one of `items` (a list), `expression` (one Jinja expression) and `source` (a fan-out's id)."""

    items: tuple[Json, ...] | None = None
    expression: str | None = None
    source: str | None = None
    name: str = "item"
    """The variable that holds the item in the prompt (`as:` in the file)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Several models or samples answer; their canonical values decide."""

    models: tuple[str, ...] = ()
    samples: int = 1
    rule: Literal["unanimous", "majority"] = "unanimous"
    canonical: Canonical = "text"
    escalate: str | None = None
    notes: bool = True
    audit: float = 0.0
    """Share of agreed items that is checked by `escalate`, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One entry of `tasks:`; a fan-out becomes one agent per item."""

    id: str
    prompt: str
    for_each: ForEach | None = None
    agent: str | None = None
    model: str | None = None
    depends_on: tuple[str, ...] = ()
    optional: bool = False
    output_schema: Mapping[str, Json] | None = None
    vote: Vote | None = None
    line: int = 0
    """Where it stands in the file, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRules:
    """Bounds of planner-made plans."""

    max_tasks: int = 60
    replans: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """What is checked beside the always-on conflict detection."""

    conflicts: bool = False
    critic: str | None = None
    rounds: int = 1
    criteria: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps of one run; None means no cap."""

    parallel: int | None = None
    """Agents at work at once; None: 100, or a small number for local models."""
    timeout_s: float | None = None
    task_timeout_s: float | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_calls: int = 10_000
    reserve: float = 0.15
    """Share of the budget kept for the merge, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A declared provider limit for the model ids that match `pattern` (shell style)."""

    pattern: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """When a straggler gets one duplicate call."""

    quantile: float = 0.9
    max_extra: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """How the answer cache is used."""

    mode: CacheMode | None = None
    """None: nobody has said."""
    ttl_s: float | None = None

    @property
    def effective_mode(self) -> CacheMode:
        """The mode in force: `use` where nobody has said."""
        return self.mode or "use"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A tool server: a command to start, or a URL."""

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Tool servers and grants."""

    mcp: tuple[McpServer, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and in which shape the result goes."""

    file: str | None = None
    format: OutputFormat | None = None
    """`json` and `jsonl`: several answers of a fixed graph become records, unless `merge` says otherwise."""
    schema: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe as the program uses it; templates are still unrendered."""

    name: str
    source: str
    """What the user called it: a path, `-`, or a shipped recipe's name."""
    text: str
    """The file as read: what `run.json` keeps and hashes."""
    description: str = ""
    params: tuple[Param, ...] = ()
    files: tuple[str, ...] = ()
    task: str = ""
    mode: Mode = "auto"
    models: Mapping[str, ModelSpec | RoleRef] = field(
        default_factory=dict[str, ModelSpec | RoleRef]
    )
    agents: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    tasks: tuple[TaskSpec, ...] = ()
    plan: PlanRules = PlanRules()
    vote: Vote | None = None
    verify: Verify | None = None
    merge: MergeStrategy = "auto"
    limits: Limits = Limits()
    rate: tuple[Rate, ...] = ()
    retry_attempts: int = 5
    hedge: Hedge | None = Hedge()
    """None: off."""
    cache: CacheRules = CacheRules()
    on_error: OnError = "continue"
    min_success: float = 1.0
    """Share of agents that must succeed for exit 0, 0 to 1."""
    tools: Tools = Tools()
    output: Output = Output()
