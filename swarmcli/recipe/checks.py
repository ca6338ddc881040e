"""What a schema cannot say: names that must exist, values that must agree with each other.

The checks read the file's plain data and pass over whatever has the wrong type: the schema reports that. So one run
of `swarm check` finds faults of both kinds.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from swarmcli.errors import Problem
from swarmcli.recipe.document import Document, Path
from swarmcli.recipe.graph_checks import check_graph
from swarmcli.recipe.outline import Named, Outline, listing, mapping, text, texts_in
from swarmcli.recipe.output_schema import schema_problems
from swarmcli.recipe.params import fits, same, type_words
from swarmcli.recipe.template_checks import RESERVED_NAMES, check_templates
from swarmcli.recipe.values import ROLES, Json, ParamType
from swarmcli.recipe.wording import closest, did_you_mean, found, listed
from swarmcli.recipe.yaml_source import plain_value

BUILT_IN_SERVER = "files"

_MODEL_ID = re.compile(r"[^\s/]+/\S+")
_PROVIDERS: Mapping[str, str] = {
    "gpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "chatgpt": "openai",
    "claude": "anthropic", "gemini": "gemini", "mistral": "mistral", "command": "cohere",
    "deepseek": "deepseek", "grok": "xai", "llama": "ollama_chat", "qwen": "ollama_chat",
}  # fmt: skip
"""How a model's name begins -> who is most likely meant; for hints only."""


def check(document: Document, cwd: FilePath) -> Iterator[Problem]:
    """Every problem of the kinds that these modules know, in no particular order."""
    outline = Outline(document)
    yield from _check_old_booleans(document)
    yield from _check_job(outline)
    yield from _check_params(outline)
    yield from _check_models(outline)
    yield from _check_role_circles(outline)
    yield from check_graph(outline)
    yield from check_templates(outline)
    yield from _check_tools(outline)
    yield from _check_votes(outline)
    yield from _check_schemas(outline)
    yield from _check_output(outline, cwd)


_OLD_BOOLEANS = frozenset({"yes", "no", "on", "off"})
_TEXT_KEYS = frozenset({"name", "description", "task", "prompt", "criteria"})


def _check_old_booleans(document: Document) -> Iterator[Problem]:
    """A bare `yes` where text is meant: older YAML reads it as true, so nobody can tell what was meant."""
    for path in document.values:
        word = document.spelling(path)
        free = path and (path[-1] in _TEXT_KEYS or {"default", "choices"} & set(path[2:]))
        if free and word.casefold() in _OLD_BOOLEANS:
            yield document.problem(
                f"a bare {word} is a truth value in YAML 1.1 and text in YAML 1.2",
                path,
                hint=f'write "{word}" for the text, or true or false',
            )


def _check_job(outline: Outline) -> Iterator[Problem]:
    data, problem = outline.data, outline.document.problem
    if "task" not in data and "tasks" not in data:
        yield problem(
            "the recipe has neither 'task' nor 'tasks'", (), hint="add 'task: ...', the job to do"
        )
    mode = data.get("mode")
    if "tasks" in data and mode in ("instant", "thinking", "agent"):
        yield problem(
            f"'mode: {mode}' and fixed 'tasks' exclude each other: tasks run in mode swarm",
            ("mode",),
            hint="remove one of them",
        )


def _check_params(outline: Outline) -> Iterator[Problem]:
    problem = outline.document.problem
    for name, value in outline.params.items():
        path: Path = ("params", name)
        if name in RESERVED_NAMES:
            yield problem(f"'{name}' has a meaning of its own in templates", path, at_key=True,
                          hint="choose another name")  # fmt: skip
        entry = mapping(value)
        kind = entry.get("type", "string")
        if kind not in ("string", "integer", "number", "boolean", "file", "list"):
            continue
        yield from _check_choices(outline, path, entry, kind)
        default = entry.get("default")
        if default is not None and not fits(kind, default):
            message = f"must be {type_words(kind)}, found {found(default)}"
            yield problem(f"{outline.label((*path, 'default'))} {message}", (*path, "default"),
                          hint=_requote(kind, default))  # fmt: skip


def _requote(kind: ParamType, default: Json) -> str | None:
    if kind == "string" and not isinstance(default, list | dict):
        return f'write "{str(default).lower() if isinstance(default, bool) else default}" in quotes'
    if kind in ("integer", "number", "boolean") and isinstance(default, str):
        return "remove the quotes" if fits(kind, plain_value(default)) else None
    return f"write [{default}]" if kind == "list" and isinstance(default, str) else None


def _check_choices(
    outline: Outline, path: Path, entry: Mapping[str, Json], kind: ParamType
) -> Iterator[Problem]:
    """Each choice has the parameter's type, and the default is one of them; of a list, each item."""
    problem = outline.document.problem
    choices = listing(entry.get("choices"))
    for index, choice in enumerate(choices):
        if kind != "list" and not fits(kind, choice):
            here: Path = (*path, "choices", index)
            message = f"must be {type_words(kind)}, found {found(choice)}"
            yield problem(f"{outline.label(here)} {message}", here, hint=_requote(kind, choice))
    default = entry.get("default")
    if not choices or default is None or not fits(kind, default):
        return
    for item in default if isinstance(default, list) else [default]:
        if not any(same(item, choice) for choice in choices):
            here = (*path, "default")
            message = f"{outline.label(here)} is not one of its choices, found {found(item)}"
            yield problem(message, here, hint=f"choices: {listed(map(str, choices))}")


def _check_models(outline: Outline) -> Iterator[Problem]:
    """Every model that is named somewhere is a role of this recipe, a built-in role or an id."""
    for named in _model_names(outline):
        yield from _check_model(outline, named)
    for name, value in outline.models.items():
        model = text(mapping(value).get("model"))
        if model is None or _MODEL_ID.fullmatch(model):
            continue
        path: Path = ("models", name, "model")
        hint = f"to use another role's model write '{name}: {model}'"
        if model not in outline.models and model not in ROLES:
            hint = _provider_hint(model)
        yield outline.document.problem(
            f"{outline.label(path)} must be a model id (provider/name), found {found(model)}",
            path,
            hint=hint,
        )


def _model_names(outline: Outline) -> Iterator[Named]:
    data = outline.data
    for name, value in outline.models.items():
        if isinstance(value, str):
            yield Named(("models", name), value)
        yield from texts_in(mapping(value).get("fallbacks"), ("models", name, "fallbacks"))
    for name, value in outline.agents.items():
        yield from texts_in(mapping(value).get("model"), ("agents", name, "model"))
    yield from texts_in(mapping(data.get("verify")).get("critic"), ("verify", "critic"))
    for path, vote in _votes(outline):
        yield from texts_in(vote.get("models"), (*path, "models"))
        yield from texts_in(vote.get("escalate"), (*path, "escalate"))
    for task in outline.tasks:
        yield from texts_in(task.entry.get("model"), (*task.path, "model"))


def _votes(outline: Outline) -> Iterator[tuple[Path, Mapping[str, Json]]]:
    yield ("vote",), mapping(outline.data.get("vote"))
    for task in outline.tasks:
        yield (*task.path, "vote"), mapping(task.entry.get("vote"))


def _check_model(outline: Outline, named: Named) -> Iterator[Problem]:
    name = named.text
    if not name.strip() or name in outline.models or name in ROLES:
        return
    if _MODEL_ID.fullmatch(name):
        return
    if "/" in name:
        message = f"'{name}' is no model id: write provider/name without spaces"
        yield outline.document.problem(message, named.path)
        return
    roles = (*outline.models, *ROLES)
    close = closest(name, roles)
    yield outline.document.problem(
        f"'{name}' is neither a model role nor a model id (provider/name)",
        named.path,
        hint=f"did you mean '{close}'?" if close else _provider_hint(name),
    )


def _provider_hint(model: str) -> str:
    for begin, provider in _PROVIDERS.items():
        if model.casefold().startswith(begin):
            return f"did you mean '{provider}/{model}'?"
    return f"write provider/{model}, for example openai/gpt-5-mini"


def _check_role_circles(outline: Outline) -> Iterator[Problem]:
    names = {role: value for role, value in outline.models.items() if isinstance(value, str)}
    reported: set[str] = set()
    for start in names:
        chain = [start]
        while (following := names.get(chain[-1])) is not None and following not in chain:
            chain.append(following)
        if following is None or reported & {*chain}:
            continue
        circle = [*chain[chain.index(following) :], following]
        reported |= {*circle}
        if len(circle) == 2:
            message = f"model role '{following}' names itself"
        else:
            message = f"model roles name each other in a circle: {' -> '.join(circle)}"
        path: Path = ("models", circle[0])
        yield outline.document.problem(message, path, hint="give one of them a model id")


def _check_tools(outline: Outline) -> Iterator[Problem]:
    problem = outline.document.problem
    for name, value in outline.servers.items():
        path: Path = ("tools", "mcp", name)
        server = mapping(value)
        if name == BUILT_IN_SERVER:
            message = f"the name '{name}' belongs to the built-in tools"
            yield problem(message, path, at_key=True, hint="choose another name")
        if isinstance(value, dict) and ("command" in server) == ("url" in server):
            message = f"{outline.label(path)} needs either 'command' or 'url'"
            yield problem(message, path, at_key=True)
    tools = [*outline.texts("tools", "allow"), *outline.texts("tools", "deny")]
    for name, value in outline.agents.items():
        tools += texts_in(listing(mapping(value).get("tools")), ("agents", name, "tools"))
    servers = (*outline.servers, BUILT_IN_SERVER)
    for tool in tools:
        server, slash, pattern = tool.text.partition("/")
        if server in servers:
            if server != BUILT_IN_SERVER and not pattern:
                message = f"'{tool.text}' names no tool of server '{server}'"
                yield problem(message, tool.path, hint=f"write '{server}/*' for all of them")
            continue
        message = f"no server '{server}' is declared under tools.mcp"
        if not slash:
            message = f"'{tool.text}' is no tool: {message}"
        yield problem(message, tool.path, hint=did_you_mean(server, servers))


def _check_votes(outline: Outline) -> Iterator[Problem]:
    problem = outline.document.problem
    for path, vote in _votes(outline):
        if "audit" in vote and "escalate" not in vote:
            message = f"{outline.label((*path, 'audit'))} needs 'escalate': the model that checks"
            yield problem(message, (*path, "audit"), at_key=True)
    for pattern, value in mapping(outline.data.get("rate")).items():
        if value == {}:
            message = f"{outline.label(('rate', pattern))} limits nothing"
            yield problem(message, ("rate", pattern), hint="give rpm, tpm or parallel")


def _check_schemas(outline: Outline) -> Iterator[Problem]:
    places: list[tuple[Path, Json]] = [
        (("output", "schema"), mapping(outline.data.get("output")).get("schema")),
        *(
            (("agents", name, "output_schema"), mapping(value).get("output_schema"))
            for name, value in outline.agents.items()
        ),
        *(
            ((*task.path, "output_schema"), task.entry.get("output_schema"))
            for task in outline.tasks
        ),
    ]
    for path, schema in places:
        if isinstance(schema, dict):
            for inner, message in schema_problems(schema):
                yield outline.document.problem(f"{outline.label(path)} {message}", (*path, *inner))


def _check_output(outline: Outline, cwd: FilePath) -> Iterator[Problem]:
    name = text(mapping(outline.data.get("output")).get("file"))
    if name is None:
        return
    reason = why_outside(name, cwd)
    if reason is not None:
        yield outline.document.problem(
            f"'output.file' {reason}",
            ("output", "file"),
            hint="write a path inside the working directory, or use -o",
        )


def why_outside(name: str, cwd: FilePath) -> str | None:
    """Why a recipe may not write to this path; None when it may."""
    path = FilePath(name)
    if path.is_absolute() or name.startswith("~"):
        return f"must not be absolute, found '{name}'"
    if ".." in re.split(r"[/\\]", name):
        return f"must not hold '..', found '{name}'"
    try:
        root = cwd.resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            return f"leaves the working directory through a link: '{name}'"
        if target == root or target.is_dir() or name.endswith(("/", "\\")):
            return f"is a folder: '{name}'"
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be a file: {error}"
    return None
