"""What the flags of `run`, `solve`, `map`, `plan` and `resume` say; None means that a flag was not given."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from swarmcli.recipe.values import CacheMode, Mode

Format = Literal["text", "json", "stream-json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Flags, already checked for their form; times in seconds, shares from 0 to 1."""

    params: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    mode: Mode | None = None
    jobs: int | None = None
    max_agents: int | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    timeout_s: float | None = None
    task_timeout_s: float | None = None
    allow_unpriced: bool = False
    dry_run: bool = False
    plan_file: str | None = None
    cache: CacheMode | None = None
    fail_fast: bool = False
    min_success: float | None = None
    allow: tuple[str, ...] = ()
    trust_hash: str | None = None
    output: str | None = None
    format: Format | None = None
    """None: text, or what the run that is resumed was asked for."""
    events: str | None = None
    schema: str | None = None
    progress: str | None = None
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    debug: bool = False
    no_stdin: bool = False
    yes: bool = False
    no_input: bool = False
    jsonl: bool = False
    """`map --jsonl`."""

    def to_record(self) -> dict[str, Any]:
        """For `run.json`."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> "RunOptions":
        """The inverse; unknown keys of a newer version are left out."""
        known = {f.name for f in fields(RunOptions)}
        values: dict[str, Any] = {k: v for k, v in record.items() if k in known}
        for name in ("params", "files", "models", "allow"):
            values[name] = tuple(values.get(name) or ())
        return RunOptions(**values)
