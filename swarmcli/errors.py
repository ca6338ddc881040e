"""Every error that a user can meet, and the exit code that it means. This module imports nothing of ours.

SwarmError                  1   something failed; the message says what, where and what to do next
├── UsageError              2   a flag, a parameter or an environment value is wrong
│   ├── RecipeError         2   the recipe is wrong: a list of located problems
│   └── PlanFileError       2   a `--plan` file is wrong
├── PlanError               1   the planner's answer is no usable plan
├── ModelError              *   a model call failed; `kind` decides (75 retryable, 77 no access, else 1)
├── NoModelError           77   no model can be used: no key, no local model
├── UncertainError          1   an agent's tool may have run, and nobody knows how it ended
└── StorageError            1   a run folder, journal, cache or output file cannot be used
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_BUDGET = 4
EXIT_GATE = 5
EXIT_RETRYABLE = 75
EXIT_NO_ACCESS = 77
EXIT_TIMEOUT = 124
EXIT_SIGINT = 130
EXIT_SIGPIPE = 141
EXIT_SIGTERM = 143

FailureKind = Literal[
    "rate_limit",  # 429 that will pass
    "server",  # 5xx
    "network",  # no connection, reset, name not resolved, body cut
    "timeout",  # the call's total deadline passed
    "protocol",  # the endpoint did not answer as an OpenAI-compatible API
    "truncated",  # finish_reason "length", or a stream without an end
    "empty",  # a reply without content
    "content_filter",
    "auth",  # 401, 403
    "quota",  # out of credit: does not pass by waiting
    "no_key",
    "unknown_model",
    "bad_request",
    "context_overflow",  # the prompt does not fit the model's window
    "schema",  # the output does not match `output_schema`, also after one re-ask
    "template",  # a prompt could not be rendered
    "budget",  # the call would pass a cap
    "cache_miss",  # `--cache only` and no entry
    "uncertain",  # a tool with side effects may have run in an earlier session, and nobody knows how it ended
    "uncalled",  # the run ended before this agent could call
    "internal",  # a bug of ours
]
"""Why a call or an agent failed: one closed list for retries, exit codes and reports."""

FAILURE_KINDS: frozenset[str] = frozenset(get_args(FailureKind))
RETRYABLE_KINDS: frozenset[str] = frozenset({"rate_limit", "server", "network", "timeout"})
"""A later identical call may succeed: retried in the run, exit 75 when nothing else went wrong."""
NO_ACCESS_KINDS: frozenset[str] = frozenset({"auth", "quota", "no_key"})
"""No call to this model can succeed: the run stops at first sight, exit 77."""


class SwarmError(Exception):
    """The root: one message, and one hint that names the next command."""

    exit_code: int = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SwarmError, ValueError):
    """What the user typed or exported cannot be used; nothing was started."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault in a text file, with its place (1-based; 0 when the place is unknown)."""

    message: str
    line: int = 0
    column: int = 0
    hint: str | None = None
    """What to write instead, for example `did you mean 'prompt'?`."""


class RecipeError(UsageError):
    """A recipe that cannot be used: every problem found, sorted by place.

    Args:
        source: what the user called it (a path, `-`, or a shipped recipe's name).
        text: the file's text, for the source lines in the message; empty when unreadable.
        problems: at least one.
    """

    def __init__(self, source: str, text: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.text = text
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        super().__init__(
            "; ".join(f"{source}:{p.line}:{p.column}: {p.message}" for p in self.problems),
            hint=f"swarm check {source}",
        )


class PlanFileError(UsageError):
    """A file given with `--plan` is not a plan."""


class PlanError(SwarmError):
    """The planner's answer is not a usable plan, also after one repair turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a provider says that a call took which gave no usable answer."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cost_usd: float | None = None
    """None when the price is unknown."""


class ModelError(SwarmError):
    """A model call failed.

    Args:
        message: redacted, one line, without the key.
        kind: see `FailureKind`.
        model: the LiteLLM id that was called.
        retry_after_s: what the provider asked for, already bounded; None when it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        model: str = "",
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind: FailureKind = kind
        self.model = model
        self.retry_after_s = retry_after_s
        self.attempts = 0
        """Requests that were sent before it was given up; set by the retries."""
        self.seconds = 0.0
        """Busy time of those requests."""
        self.charge: Charge | None = None
        """What the last of them took; None when the provider has not said. A `copy` is never charged again."""
        self.exit_code = exit_code_of({kind})

    def copy(self) -> "ModelError":
        """The same error without traceback: whoever raises one collects frames in it."""
        return ModelError(
            self.message,
            kind=self.kind,
            model=self.model,
            retry_after_s=self.retry_after_s,
            hint=self.hint,
        )


class NoModelError(SwarmError):
    """No model can be used; the message lists what would help."""

    exit_code = EXIT_NO_ACCESS


class UncertainError(SwarmError):
    """An agent of an interrupted session may have had side effects; it is not run again unasked."""


class StorageError(SwarmError, OSError):
    """A run folder, journal or output file cannot be read or written."""


def exit_code_of(kinds: Iterable[str]) -> int:
    """The exit code of a run in which everything failed, from the kinds of its failures."""
    seen = set(kinds)
    if seen & NO_ACCESS_KINDS:
        return EXIT_NO_ACCESS
    if seen and seen <= RETRYABLE_KINDS:
        return EXIT_RETRYABLE
    return EXIT_FAILED
