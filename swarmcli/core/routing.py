"""Which model answers for which role, and which mode a job needs."""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from swarmcli.core.jsontext import json_values
from swarmcli.core.plan import SINGLE_MODES
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ROLES, Mode, ModelSpec, Recipe, RoleRef

_FALL_BACK_TO: Mapping[str, tuple[str, ...]] = {
    "planner": ("large", "small"),
    "judge": ("large", "small"),
    "writer": ("large", "small"),
    "large": ("small",),
    "small": ("large",),
}


def _as_it_is(spec: ModelSpec) -> ModelSpec:
    return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Role -> model, for the five built-in roles and the recipe's own."""

    models: Mapping[str, ModelSpec]
    reason: str
    """Why the main model was chosen, for the line that is always printed."""
    complete: Callable[[ModelSpec], ModelSpec] = _as_it_is
    """What the environment adds to a model that no role names: its endpoint and its window."""

    def resolve(self, name: str) -> ModelSpec:
        """The model of a role, or of a LiteLLM id that the recipe or the user wrote.

        Raises:
            UsageError: neither a role nor `provider/name`.
        """
        if name in self.models:
            return self.models[name]
        if "/" in name:
            same = [spec for spec in self.models.values() if spec.id == name]
            return same[0] if same else self.complete(ModelSpec(id=name))
        raise UsageError(
            f"{name!r} is no model role of this run (roles: {', '.join(self.models)}) and has no provider",
            hint=f"write provider/model, e.g. openai/{name}",
        )


def parse_override(text: str) -> tuple[str | None, str]:
    """`provider/name` -> (None, id); `role=provider/name` -> (role, id).

    Raises:
        UsageError: no provider, or an empty part.
    """
    role, equals, model = text.partition("=")
    if not equals or "/" in role:
        role, model = "", text
    if equals and "/" not in text.partition("=")[0] and not role:
        raise UsageError(f"-m {text!r} has no role before '='")
    model = model.strip()
    provider, slash, name = model.partition("/")
    if not slash or not provider or not name:
        raise UsageError(
            f"{model or text!r} has no provider",
            hint=f"write provider/model, e.g. -m {role + '=' if role else ''}openai/{model or 'gpt-5-mini'}",
        )
    return (role.strip() or None, model)


def resolve_roles(
    declared: Mapping[str, ModelSpec | RoleRef],
    overrides: Iterable[tuple[str | None, str]],
    default: tuple[ModelSpec, str] | None,
) -> Roles | None:
    """The models of a run.

    An override for all roles beats the recipe; one for a role beats both. An id that the recipe describes (price,
    window, base URL) keeps that description. `default` is used where nothing else is given.

    Returns:
        None when there is no model at all.

    Raises:
        UsageError: an override for a role that does not exist.
    """
    described = {spec.id: spec for spec in declared.values() if isinstance(spec, ModelSpec)}
    given: dict[str, ModelSpec | RoleRef] = dict(declared)
    reason = "the recipe" if described else ""
    pairs = tuple(overrides)
    everything = [model for role, model in pairs if role is None]
    if everything:
        spec = described.get(everything[-1], ModelSpec(id=everything[-1]))
        given = dict.fromkeys((*ROLES, *declared), spec)
        reason = "-m"
    for role, model in pairs:
        if role is None:
            continue
        if role not in ROLES and role not in declared:
            known = ", ".join(dict.fromkeys((*ROLES, *declared)))
            raise UsageError(f"-m {role}={model}: there is no role {role!r} (roles: {known})")
        given[role] = described.get(model, ModelSpec(id=model))
        reason = reason or "-m"
    chosen = _followed(given, {})
    if not chosen and default is not None:
        chosen, reason = {"small": default[0]}, default[1]
    if not chosen:
        return None
    # A role may name a built-in one that nobody gave: that one is known only when the gaps are filled.
    return Roles(models=_followed(given, _fill_gaps(chosen)), reason=reason)


def _followed(
    given: Mapping[str, ModelSpec | RoleRef], known: Mapping[str, ModelSpec]
) -> dict[str, ModelSpec]:
    """`known`, and each given role whose references lead to a model."""
    models = dict(known)
    for role in given:
        target: str | None = role
        for _ in range(len(given) + 1):
            if target is None or role in models:
                break
            spec = given.get(target, known.get(target))
            if isinstance(spec, ModelSpec):
                models[role] = spec
            target = spec.role if isinstance(spec, RoleRef) else None
    return models


def _fill_gaps(chosen: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    any_model = next(iter(chosen.values()))
    filled = dict(chosen)
    for role in ROLES:
        if role not in filled:
            named = [chosen[other] for other in _FALL_BACK_TO[role] if other in chosen]
            filled[role] = named[0] if named else any_model
    return filled


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChoice:
    """A mode and the reason that is shown for it."""

    mode: Mode
    reason: str


_MANY = re.compile(
    r"\b(each|every|all|list|compare|comparison|versus|vs|pros and cons|options|alternatives|steps|plan|research|"
    r"survey|report|review|analy[sz]e|audit|respectively)\b",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^[ \t]*(?:[-*•][ \t]+|\d{1,4}[.)](?!\d)[ \t]*)\S", re.MULTILINE)
_WORD = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\s\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+"
)
"""Between spaces; about two characters where a script, as Chinese, Japanese and Thai, has none."""
_SHORT_WORDS = 25


def listed_items(job: str) -> int:
    """Items of the longest list in the job: lines as `- x`, `* x`, `1. x`, `2) x`, or a JSON array.

    An array is what a parameter of type `list` is written as. Numbers do not count: they are rather one thing, a row.
    """
    lengths = [len(_ITEM.findall(job))]
    with contextlib.suppress(RecursionError):
        for found in json_values(job):
            entries = cast("list[object]", found.value) if isinstance(found.value, list) else []
            lengths.append(sum(isinstance(entry, str | dict) for entry in entries))
    return max(lengths)


def choose_mode(
    recipe: Recipe, task: str, requested: Mode | None, *, has_material: bool
) -> ModeChoice:
    """The mode of a run: `auto` is decided by cheap signals here, and then by the planner, which may decline to split.

    Args:
        recipe: its `tasks` imply swarm, its `mode` is the default.
        task: the rendered job.
        requested: `--mode`, or None.
        has_material: files or standard input came along.
    """
    if recipe.tasks:
        return ModeChoice(mode="swarm", reason="the recipe has fixed tasks")
    mode = requested or recipe.mode
    if mode != "auto":
        return ModeChoice(mode=mode, reason="--mode" if requested else "the recipe")
    words = len(_WORD.findall(task))
    signal = _signal(task, words, has_material=has_material)
    if signal is None:
        length = "1 word" if words == 1 else f"{words} words"
        return ModeChoice(mode="instant", reason=f"a short question ({length}, nothing to split)")
    return ModeChoice(mode="swarm", reason=f"{signal}: the planner decides how far to split")


def _signal(task: str, words: int, *, has_material: bool) -> str | None:
    """What hints at work that could be split, from the strongest sign to the weakest; None for a simple question."""
    items = listed_items(task)
    if items > 1:
        return f"a list of {items} items"
    if has_material:
        return "files or piped text came along"
    if many := _MANY.search(task):
        return f"the job says {many[0].casefold()!r}"
    return f"a job of {words} words" if words > _SHORT_WORDS else None


def single_mode(mode: str) -> Mode:
    """The mode of one call that a plan without tasks asks for."""
    return cast("Mode", mode) if mode in SINGLE_MODES else "instant"


def with_thinking(spec: ModelSpec) -> ModelSpec:
    """The model as mode `thinking` calls it: with reasoning effort, unless the recipe chose one."""
    return spec if spec.reasoning_effort else replace(spec, reasoning_effort="medium")
