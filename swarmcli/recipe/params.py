"""`-p name=value`: from what the user typed to the values that a recipe's templates see."""

import json
import math
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from swarmcli.errors import UsageError
from swarmcli.recipe.values import Json, Param, ParamType, Recipe
from swarmcli.recipe.wording import closest, found, listed, quoted

_ASSIGNMENT = re.compile(r"([^=:@]+?)(:=|=@|=)(.*)", re.DOTALL)
_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,300}", re.ASCII)
_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_TYPE_WORDS: dict[ParamType, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "file": "a path",
    "list": "a list",
}


def type_words(kind: ParamType) -> str:
    """What a value of this type is called in messages."""
    return _TYPE_WORDS[kind]


def fits(kind: ParamType, value: Json) -> bool:
    """Whether a native value is of this type. A whole number is also a number; true is neither."""
    match kind:
        case "string" | "file":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "list":
            return isinstance(value, list)


def bind_params(
    recipe: Recipe,
    assignments: Sequence[str],
    *,
    stdin: Callable[[], str],
    cwd: Path,
    warn: Callable[[str], None] = lambda _message: None,
) -> dict[str, Json]:
    """The value of every parameter, in the recipe's order.

    Args:
        recipe: declares the parameters.
        assignments: `k=v`, `k=@file`, `k=@-` (standard input) and `k:=json`; of several for one name the last counts.
        stdin: called at most once, and only for `k=@-`.
        cwd: what relative paths start from.
        warn: told about bytes that are not text; nothing stops for them.

    Raises:
        UsageError: an unknown, missing or mistyped parameter, or a file that cannot be read.
    """
    declared = {param.name: param for param in recipe.params}
    reader = _Reader(stdin, cwd, warn)
    values: dict[str, Json] = {}
    for text in assignments:
        typed = _parse(text)
        param = declared.get(typed.name)
        if param is None:
            raise _unknown(typed, recipe)
        values[param.name] = reader.value(param, typed)
    missing = [p for p in recipe.params if p.required and p.name not in values]
    if missing:
        raise _missing(missing, recipe)
    for param in recipe.params:
        if param.name not in values:
            if param.type == "file" and isinstance(param.default, str):
                reader.check_file(param, param.default, "its default")
            values[param.name] = cast("Json", json.loads(json.dumps(param.default)))
    return {name: values[name] for name in declared}


class _Typed(NamedTuple):
    """One assignment as the user wrote it."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        shown = self.value if len(self.value) <= 40 else self.value[:37] + "..."
        return f"-p {self.name}{self.operator}{shown}"


def _parse(text: str) -> _Typed:
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        name = text.strip(string.whitespace + "=:@") or "name"
        raise UsageError(f"-p {text}: a parameter needs a value", hint=f"-p {name}=...")
    return _Typed(match[1].strip(), match[2], match[3])


def _unknown(typed: _Typed, recipe: Recipe) -> UsageError:
    names = [param.name for param in recipe.params]
    message = f"-p {typed.name}: recipe '{recipe.name}' has no parameter '{typed.name}'"
    close = closest(typed.name, names)
    if close is not None:
        return UsageError(message, hint=f"did you mean '-p {close}{typed.operator}...'?")
    return UsageError(message, hint=f"its parameters: {listed(names) if names else 'none'}")


def _missing(missing: Sequence[Param], recipe: Recipe) -> UsageError:
    names = [param.name for param in missing]
    noun = "parameter" if len(names) == 1 else "parameters"
    verb = "needs a value" if len(names) == 1 else "need values"
    described = [f"\n  {p.name}: {p.description}" for p in missing if p.description]
    example = " ".join(f"-p {name}=..." for name in names)
    return UsageError(
        f"{noun} {quoted(names)} of recipe '{recipe.name}' {verb}{''.join(described)}",
        hint=f"swarm run {recipe.source} {example}",
    )


class _Reader:
    """Turns assignments into values; reads files and standard input."""

    def __init__(self, stdin: Callable[[], str], cwd: Path, warn: Callable[[str], None]) -> None:
        self._stdin = stdin
        self._cwd = cwd
        self._warn = warn
        self._piped: str | None = None

    def value(self, param: Param, typed: _Typed) -> Json:
        """The parameter's value; its type and choices hold."""
        if typed.operator == ":=":
            value = self._native(param, typed)
        elif param.type == "file":
            value = self._path(param, typed)
        elif typed.operator == "=@":
            value = self._converted(param, typed, self._content(typed), from_file=True)
        else:
            value = self._converted(
                param, typed, self._text(typed.value, str(typed)), from_file=False
            )
        _check_choices(param, typed, value)
        return value

    def check_file(self, param: Param, path: str, said: str) -> None:
        """Raises `UsageError` unless the path is there and no folder."""
        try:
            place = self._cwd / path
            problem = "is a folder" if place.is_dir() else "does not exist"
            bad = place.is_dir() or not place.exists()
        except (OSError, ValueError) as error:
            problem, bad = f"cannot be used ({error})", True
        if bad:
            raise UsageError(f"{said}: the file '{path}' of parameter '{param.name}' {problem}")

    def _native(self, param: Param, typed: _Typed) -> Json:
        text = self._text(typed.value, str(typed))
        try:
            value = cast("Json", json.loads(text, parse_constant=_refuse_constant))
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UsageError(
                f"{typed}: this is not JSON ({reason})",
                hint=f"for plain text: -p {typed.name}=...",
            ) from None
        value = _whole_characters(value)
        if not fits(param.type, value):
            raise _mistyped(param, typed, found(value))
        if param.type == "file" and isinstance(value, str):
            self.check_file(param, value, str(typed))
        return value

    def _path(self, param: Param, typed: _Typed) -> str:
        if typed.operator == "=@" and typed.value == "-":
            raise UsageError(
                f"{typed}: parameter '{param.name}' is a path, not text",
                hint=f"-p {param.name}=PATH, or declare it as 'type: string' to read standard input",
            )
        path = self._text(typed.value, str(typed))
        self.check_file(param, path, str(typed))
        return path

    def _content(self, typed: _Typed) -> str:
        if typed.value == "-":
            if self._piped is None:
                self._piped = self._text(self._stdin(), "standard input")
            return self._piped
        try:
            raw = (self._cwd / typed.value).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(
                f"{typed}: cannot read the file ({reason})",
                hint=f"for text that begins with '@': -p '{typed.name}:=\"@...\"'",
            ) from None
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._warn(f"{typed.value} is not UTF-8 (byte {error.start}); bad bytes were replaced")
            return raw.decode("utf-8-sig", "replace")

    def _text(self, text: str, said: str) -> str:
        """The text without lone surrogates, which Python makes of bytes that are no text."""
        clean = text.encode("utf-8", "surrogateescape" if _escaped(text) else "replace")
        if (shown := clean.decode("utf-8", "replace")) != text:
            self._warn(f"{said} is not UTF-8; bad bytes were replaced")
        return shown

    def _converted(self, param: Param, typed: _Typed, text: str, *, from_file: bool) -> Json:
        if param.type == "string":
            return text.rstrip("\r\n") if param.choices else text
        if param.type == "list":
            return _listed(text, by_line=from_file)
        value = _scalar(param.type, text.strip())
        if value is None:
            raise _mistyped(param, typed, found(text.strip()))
        return value


def _escaped(text: str) -> bool:
    """Whether every surrogate in it stands for one byte of the command line."""
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in text)


def _whole_characters(value: Json) -> Json:
    """A JSON value whose texts hold no lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {str(_whole_characters(k)): _whole_characters(v) for k, v in value.items()}
    return value


def _scalar(kind: ParamType, text: str) -> Json:
    """A number or a truth value; None when the text is neither."""
    if kind == "boolean":
        return _WORDS.get(text.casefold())
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if kind == "integer" or not re.fullmatch(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?", text, re.ASCII):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _listed(text: str, *, by_line: bool) -> list[Json]:
    """A JSON array; else one item a line (of a file) or between commas (on the command line)."""
    if text.lstrip().startswith("["):
        try:
            value = cast("Json", json.loads(text, parse_constant=_refuse_constant))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, list):
            return [_whole_characters(item) for item in value]
    if by_line:
        return [line for line in _LINE_BREAK.split(text) if line.strip()]
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_choices(param: Param, typed: _Typed, value: Json) -> None:
    if not param.choices:
        return
    for item in value if isinstance(value, list) else [value]:
        if not any(same(item, choice) for choice in param.choices):
            allowed = [c if isinstance(c, str) else json.dumps(c) for c in param.choices]
            close = closest(item, allowed) if isinstance(item, str) else None
            raise UsageError(
                f"{typed}: parameter '{param.name}' must be one of {listed(allowed)}, found {found(item)}",
                hint=f"did you mean '{close}'?" if close else None,
            )


def same(one: Json, other: Json) -> bool:
    """Equal, and both or neither a truth value: in Python `True == 1`."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _mistyped(param: Param, typed: _Typed, what: str) -> UsageError:
    hint = f'-p \'{param.name}:=["a", "b"]\'' if param.type == "list" else None
    message = f"{typed}: parameter '{param.name}' must be {type_words(param.type)}, found {what}"
    return UsageError(message, hint=hint)


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")
