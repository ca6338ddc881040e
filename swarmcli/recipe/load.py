"""Recipe text -> `Recipe`: the only bridge from what a file says (`schema`) to what the program uses (`values`).

All problems of a file are found in one go. A misspelt key is reported once and then read as the key that was meant,
so that it does not also appear as a missing key, an unknown task and twenty unknown variables.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from swarmcli.errors import Problem, RecipeError
from swarmcli.recipe import schema, values
from swarmcli.recipe.checks import check
from swarmcli.recipe.document import Document, Path, place_of
from swarmcli.recipe.outline import Outline
from swarmcli.recipe.schema_wording import schema_problem
from swarmcli.recipe.template import roots
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import closest, listed
from swarmcli.recipe.yaml_source import MAX_PROBLEMS, parse

VERSION = 1
_SYNONYMS: Mapping[str, str] = {
    "steps": "tasks", "parameters": "params", "inputs": "params", "variables": "params",
    "needs": "depends_on", "depends": "depends_on", "foreach": "for_each", "concurrency": "parallel",
    "system": "prompt", "instructions": "prompt", "budget": "max_cost_usd", "max_cost": "max_cost_usd",
    "retries": "retry", "schema": "output_schema", "max_tokens": "max_output_tokens",
}  # fmt: skip
"""What neighbouring tools call a key -> ours."""
_MAX_NESTED_TYPOS = 5
_FREE_KEYS = frozenset({"default", "choices", "output_schema", "schema", "items"})
"""Below these, values are the user's own data: null is a value there."""


def load_recipe(text: str, source: str, *, cwd: FilePath) -> values.Recipe:
    """Read and check a recipe.

    Args:
        text: the file.
        source: what the user called it, for messages.
        cwd: the working directory, which `output.file` may not leave.

    Raises:
        RecipeError: with every problem that was found, sorted by place.
    """
    document = parse(text, source)
    newer = _newer_version(document)
    if newer is not None:
        raise RecipeError(source, document.text, [newer])
    document, problems = _without_typos(document)
    file, mistyped = _validated(document)
    problems += [*_version_problems(document), *mistyped, *check(document, cwd)]
    if problems or file is None:
        raise RecipeError(source, document.text, _unique(problems)[:MAX_PROBLEMS])
    return _recipe(file, document, source, text)


def template_variables(recipe: values.Recipe) -> frozenset[str]:
    """The variables that a recipe's templates use, for example to know whether standard input is wanted."""
    templates = [recipe.task, *(profile.prompt for profile in recipe.agents.values())]
    for task in recipe.tasks:
        templates += [task.prompt, (task.for_each.expression if task.for_each else None) or ""]
    return frozenset[str]().union(*(roots(template) for template in templates))


def unsupported(recipe: values.Recipe) -> list[Problem]:
    """Uses of features that this version reads but does not carry out yet; running such a recipe is refused."""
    uses = [
        (f"this version of swarm does not carry out {what} yet", path)
        for what, path in _unsupported_uses(recipe)
    ]
    if not uses or not recipe.text:
        return [Problem(message=message) for message, _ in uses]
    document = parse(recipe.text, recipe.source)
    return _unique(
        [
            document.problem(message, path, at_key=True, hint=f"remove '{path[-1]}'")
            for message, path in uses
        ]
    )


def _unsupported_uses(recipe: values.Recipe) -> Iterator[tuple[str, Path]]:
    if recipe.tools.mcp:
        yield "tool servers", ("tools", "mcp")
    for name, profile in recipe.agents.items():
        if profile.tools:
            yield f"the tools of agent '{name}'", ("agents", name, "tools")


def _newer_version(document: Document) -> Problem | None:
    """A recipe of a later format is refused for that alone: nothing else in it can be judged."""
    version = document.data.get("version")
    if type(version) is not int or version <= VERSION:
        return None
    message = f"the recipe is of version {version}; this swarm reads version {VERSION}"
    return document.problem(message, ("version",), hint="update swarm")


def _version_problems(document: Document) -> list[Problem]:
    if "version" not in document.data:
        message, hint = "the recipe has no 'version'", f"begin with 'version: {VERSION}'"
        return [document.problem(message, (), hint=hint)]
    version = document.data["version"]
    if version is None or (type(version) is int and version == VERSION):
        return []  # that it has no value is reported with the other empty ones
    spelling = document.spelling(("version",)) or "a collection"
    message = f"'version' must be {VERSION}, found {spelling}"
    return [document.problem(message, ("version",), hint=f"write 'version: {VERSION}'")]


def _without_typos(document: Document) -> tuple[Document, list[Problem]]:
    """The document with each unknown key renamed to the one that was meant, or left out, and the problems."""
    problems: list[Problem] = []
    for _ in range(_MAX_NESTED_TYPOS):
        names: dict[Path, str | None] = {}
        for path, known in schema.unknown_keys(document.data):
            meant = _meant(document, path, known, names)
            names[path] = meant
            hint = f"did you mean '{meant}'?" if meant else f"known here: {listed(known, 24)}"
            message = f"unknown key '{path[-1]}'"
            problems.append(document.problem(message, path, at_key=True, hint=hint))
        if not names:
            break
        document = document.renamed(names)
    return document, problems


def _meant(
    document: Document, path: Path, known: tuple[str, ...], taken: Mapping[Path, str | None]
) -> str | None:
    key, around = str(path[-1]), path[:-1]
    free = [
        name
        for name in known
        if (*around, name) not in document.keys
        and not any(p[:-1] == around and other == name for p, other in taken.items())
    ]
    close = closest(key, free)
    synonym = _SYNONYMS.get(key)
    return close or (synonym if synonym in free else None)


def _validated(document: Document) -> tuple[schema.RecipeFile | None, list[Problem]]:
    outline = Outline(document)
    empty = list(_empty_values(document.data, ()))
    problems = [
        document.problem(
            f"{outline.label(path)} has no value",
            path,
            at_key=True,
            hint="give it one, or remove the line",
        )
        for path in empty
    ]
    try:
        return schema.RecipeFile.model_validate(document.data), problems
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            found = schema_problem(outline, fault, empty)
            if found is not None:
                problems.append(found)
        return None, problems


def _empty_values(value: Json, path: Path) -> list[Path]:
    """Where `key:` stands without a value, outside of the user's own data."""
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    empty: list[Path] = []
    for key, item in entries:
        if item is None and key != "default":
            empty.append((*path, key))
        elif key not in _FREE_KEYS:
            empty += _empty_values(item, (*path, key))
    return empty


def _unique(problems: list[Problem]) -> list[Problem]:
    """Without repetitions, in the file's order."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.line, p.column))


# From the schema's models to the program's values


def _recipe(file: schema.RecipeFile, document: Document, source: str, text: str) -> values.Recipe:
    stem = FilePath(source).stem if source != "-" else ""
    return values.Recipe(
        name=file.name or stem or "recipe",
        source=source,
        text=text,
        description=file.description,
        params=tuple(_param(name, entry) for name, entry in file.params.items()),
        files=tuple(file.files),
        task=file.task or "",
        mode=file.mode,
        models={role: _model(entry) for role, entry in file.models.items()},
        agents={name: _profile(name, entry) for name, entry in file.agents.items()},
        tasks=tuple(_task(entry, document, i) for i, entry in enumerate(file.tasks or ())),
        plan=_same(values.PlanRules, file.plan),
        vote=_vote(file.vote),
        verify=_same(values.Verify, file.verify) if file.verify else None,
        merge=file.merge.strategy,
        limits=_limits(file.limits),
        rate=tuple(_same(values.Rate, entry, pattern=p) for p, entry in file.rate.items()),
        retry_attempts=file.retry.attempts,
        hedge=_hedge(file.hedge),
        cache=values.CacheRules(mode=file.cache.mode, ttl_s=file.cache.ttl),
        on_error=file.on_error,
        min_success=file.min_success,
        tools=_tools(file.tools),
        output=values.Output(
            file=file.output.file,
            format=file.output.format,
            schema=_json(file.output.json_schema),
        ),
    )


_Value = TypeVar("_Value")


def _same(cls: type[_Value], entry: BaseModel, **more: object) -> _Value:
    """A value whose fields are those of the entry, lists as tuples."""
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        more[name] = tuple(cast("list[object]", value)) if isinstance(value, list) else value
    return cls(**more)


def _json(schema_: object) -> Mapping[str, Json] | None:
    return cast("Mapping[str, Json] | None", schema_)


def _param(name: str, entry: schema.ParamEntry) -> values.Param:
    return values.Param(
        name=name,
        type=entry.type,
        description=entry.description,
        default=cast("Json", entry.default),
        required="default" not in entry.model_fields_set,
        choices=tuple(cast("list[Json]", entry.choices)),
    )


def _model(entry: str | schema.ModelEntry) -> values.ModelSpec | values.RoleRef:
    if isinstance(entry, str):
        return values.ModelSpec(id=entry) if "/" in entry else values.RoleRef(role=entry)
    return values.ModelSpec(
        id=entry.model,
        fallbacks=tuple(entry.fallbacks),
        temperature=entry.temperature,
        max_output_tokens=entry.max_output_tokens,
        api_base=entry.api_base,
        api_key_env=entry.api_key_env,
        context_window=entry.context_window,
        price=_same(values.Price, entry.price) if entry.price else None,
        reasoning_effort=entry.reasoning_effort,
    )


def _profile(name: str, entry: schema.AgentEntry) -> values.Profile:
    return values.Profile(
        name=name,
        description=entry.description,
        prompt=entry.prompt,
        model=entry.model,
        tools=tuple(entry.tools),
        max_turns=entry.max_turns,
        output_schema=_json(entry.output_schema),
    )


def _task(entry: schema.TaskEntry, document: Document, index: int) -> values.TaskSpec:
    return values.TaskSpec(
        id=entry.id,
        prompt=entry.prompt,
        for_each=_for_each(entry.for_each),
        agent=entry.agent,
        model=entry.model,
        depends_on=tuple(entry.depends_on),
        optional=entry.optional,
        output_schema=_json(entry.output_schema),
        vote=_vote(entry.vote),
        line=place_of(document.text, document.offset(("tasks", index))).line,
    )


def _for_each(entry: schema.ForEachEntry | None) -> values.ForEach | None:
    if entry is None:
        return None
    if isinstance(entry.items, str):
        return values.ForEach(expression=entry.items, name=entry.name)
    items = None if entry.items is None else tuple(cast("list[Json]", entry.items))
    return values.ForEach(items=items, source=entry.source, name=entry.name)


def _vote(entry: schema.VoteEntry | None) -> values.Vote | None:
    return _same(values.Vote, entry) if entry else None


def _limits(entry: schema.LimitsEntry) -> values.Limits:
    return values.Limits(
        parallel=entry.parallel,
        timeout_s=entry.timeout,
        task_timeout_s=entry.task_timeout,
        max_cost_usd=entry.max_cost_usd,
        max_tokens=entry.max_tokens,
        max_calls=entry.max_calls,
        reserve=entry.reserve,
    )


def _hedge(entry: str | schema.HedgeEntry | None) -> values.Hedge | None:
    if isinstance(entry, schema.HedgeEntry):
        return _same(values.Hedge, entry)
    return None if entry == "off" else values.Hedge()


def _tools(entry: schema.ToolsEntry) -> values.Tools:
    servers = (_same(values.McpServer, server, name=name) for name, server in entry.mcp.items())
    return values.Tools(mcp=tuple(servers), allow=tuple(entry.allow), deny=tuple(entry.deny))
