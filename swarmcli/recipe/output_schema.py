"""`output_schema`: finds the JSON in a model's answer and says in plain words why it does not fit.

The validator and the repairer are imported by the first call that needs them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from swarmcli.recipe.document import Path
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import found, quoted, shortened

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCE = re.compile(r" {0,3}```([^`]*)")
_BEGIN = re.compile(r"[\[{]")
_MAX_ATTEMPTS = 2_000
_MAX_REPAIRED = 10_000
_MAX_REPAIRED_DEPTH = 100
"""What the repairer may get: it is slow, and quadratic in the depth."""


class Validated(NamedTuple):
    """What came out: a value when `error` is None, else the reason, for the model and the user."""

    value: Json
    error: str | None


def validate_output(text: str, schema: Mapping[str, Json]) -> Validated:
    """The JSON of an answer, if it fits the schema.

    Looked for in this order: the whole text, the last fenced block, the last object or list in the prose; the first
    that fits wins. Only when none of them is JSON is the text repaired (missing commas, quotes, ends).
    """
    validator = _validator(schema)
    first_error: str | None = None
    for value in _candidates(text):
        error = _error(validator, value)
        if error is None:
            return Validated(value, None)
        first_error = first_error or error
    if first_error is None:
        repaired = _repaired(text)
        if repaired is None:
            return Validated(None, "the answer holds no JSON")
        first_error = _error(validator, repaired)
        if first_error is None:
            return Validated(repaired, None)
    return Validated(None, first_error)


def schema_problems(schema: Mapping[str, Json]) -> list[tuple[Path, str]]:
    """What makes a schema itself unusable: the place in it, and why."""
    import jsonschema
    from jsonschema.validators import validator_for

    problems: list[tuple[Path, str]] = []
    cls: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        fault = cast("_Fault", error)
        message = f"is no valid JSON Schema: {_words(fault)}"
        problems.append((tuple(fault.absolute_path), message))
    except RecursionError:
        problems.append(((), "is nested too deep"))
    if not problems:
        problems.extend(_unusable(dict(schema), ()))
    return problems


def _unusable(schema: Json, path: Path) -> Iterator[tuple[Path, str]]:
    """References that would have to be fetched."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _unusable(item, (*path, index))
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        here = (*path, key)
        if key in {"enum", "const", "default", "examples"}:
            continue
        if key == "$ref" and isinstance(value, str) and not value.startswith("#"):
            yield here, f"refers to another document ('{shortened(value)}')"
        yield from _unusable(value, here)


class _Fault(Protocol):
    """The part of the library's error that messages are made of."""

    validator: str
    validator_value: object
    instance: object
    message: str
    absolute_path: Iterable[str | int]


def _validator(schema: Mapping[str, Json]) -> "Validator":
    import jsonschema
    from jsonschema.validators import validator_for
    from referencing import Registry

    cls: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
    # An empty registry: the default one would fetch `$ref: https://...` over the network.
    nothing: Registry[Any] = Registry()
    return cls(dict(schema), registry=nothing)


def _error(validator: "Validator", value: Json) -> str | None:
    from jsonschema import exceptions
    from referencing.exceptions import Unresolvable

    try:
        fault = cast(
            "_Fault | None", cast("Any", exceptions).best_match(validator.iter_errors(value))
        )
    except Unresolvable as unresolved:
        return f"the schema refers to '{unresolved.ref}', which does not exist"
    except (RecursionError, re.error) as broken:
        return f"the answer cannot be checked ({broken})"
    if fault is None:
        return None
    pointer = "".join(f"/{_escaped(part)}" for part in fault.absolute_path)
    return f"{pointer or 'the answer'}: {_words(fault)}"


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


_TYPES = {
    "object": "an object", "array": "a list", "string": "text", "integer": "a whole number",
    "number": "a number", "boolean": "true or false", "null": "null",
}  # fmt: skip


def _words(fault: _Fault) -> str:
    """The library's message, without Python's spelling for the frequent kinds."""
    wanted = cast("Json", fault.validator_value)
    instance = cast("Json", fault.instance)
    match fault.validator:
        case "required" if isinstance(instance, dict) and isinstance(wanted, list):
            missing = [str(key) for key in wanted if key not in instance]
            return f"{quoted(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "type":
            names = wanted if isinstance(wanted, list) else [wanted]
            kinds = " or ".join(_TYPES.get(str(name), str(name)) for name in names)
            return f"must be {kinds}, found {found(instance)}"
        case "enum" if isinstance(wanted, list):
            choices = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in wanted[:12])
            return f"must be one of {choices}, found {found(instance)}"
        case _:
            return fault.message if len(fault.message) <= 300 else fault.message[:297] + "..."


def _candidates(text: str) -> Iterator[Json]:
    """JSON values in the text, the most likely answer first."""
    whole = _loads(text.strip())
    if whole is not None:
        yield whole[0]
        return
    fenced = _last_block(text)
    block = _loads(fenced.strip()) if fenced is not None else None
    if block is not None:
        yield block[0]
    yield from _last_values(text)


def _last_block(text: str) -> str | None:
    """What stands in the last whole fenced block; found line by line, because a pattern for it takes quadratic time."""
    lines = text.splitlines(keepends=True)
    begin: int | None = None
    last: tuple[int, int] | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.fullmatch(line.rstrip())
        if fence is None:
            continue
        if begin is None:
            begin = number + 1
        elif not fence[1]:
            last, begin = (begin, number), None
    return "".join(lines[slice(*last)]) if last is not None else None


def _loads(text: str) -> tuple[Json] | None:
    try:
        return (cast("Json", json.loads(text, parse_constant=_refuse_constant)),)
    except (ValueError, RecursionError):
        return None


def _last_values(text: str) -> Iterator[Json]:
    """The last outermost object that stands in the text, and the last list (`[1]` may be a footnote)."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    objects: list[Json] = []
    lists: list[Json] = []
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        begin = _BEGIN.search(text, position)
        if begin is None:
            break
        try:
            value, position = cast("tuple[Json, int]", decoder.raw_decode(text, begin.start()))
        except RecursionError:
            break
        except ValueError:
            position = begin.start() + 1
            continue
        (objects if isinstance(value, dict) else lists)[:] = [value]
    yield from objects
    yield from lists


def _repaired(text: str) -> Json:
    """The object or list that was probably meant; None when there is nothing like one."""
    from json_repair import repair_json

    body = _last_block(text) or text
    begin = _BEGIN.search(body)
    if begin is None or len(body) > _MAX_REPAIRED or _depth(body) > _MAX_REPAIRED_DEPTH:
        return None
    try:
        value = cast("Json", repair_json(body[begin.start() :], return_objects=True))
    except (ValueError, RecursionError, IndexError, TypeError):
        return None
    return value if isinstance(value, dict | list) and value else None


def _depth(text: str) -> int:
    """How deep brackets are nested at most, those in strings included."""
    steps = (1 if bracket[0] in "[{" else -1 for bracket in re.finditer(r"[\[{}\]]", text))
    return max(accumulate(steps), default=0)


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")
