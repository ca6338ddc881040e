"""YAML text -> `Document`. The only module that knows PyYAML.

Rule 1: nothing but `RecipeError` leaves `parse`, whatever the text is.
Rule 2: plain words mean what YAML 1.2's core schema says: `no` and `off` are text, `012` is no number.
Rule 3: a file means the same to every reader: what hides or repeats content (anchors, merge keys,
duplicate keys, tags, several documents) is refused.

PyYAML's parser is read event by event: its `compose` recurses, and a deeply nested file could exhaust the stack.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import yaml
from yaml.error import MarkedYAMLError
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from swarmcli.errors import Problem, RecipeError
from swarmcli.recipe.document import Document, Path, Span, place_of, problem_at
from swarmcli.recipe.values import Json
from swarmcli.recipe.yaml_wording import syntax_problem, unquoted_braces

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 50
MAX_PROBLEMS = 100

_TOO_LARGE = Problem(
    message=f"the file is larger than a recipe may be ({MAX_BYTES:,} bytes)",
    hint="pass long texts with -p name=@file",
)


def decode(raw: bytes, source: str) -> str:
    """A recipe's bytes as text.

    Raises:
        RecipeError: too large, or not UTF-8; the message names the first bad byte.
    """
    if len(raw) > MAX_BYTES:
        raise RecipeError(source, "", [_TOO_LARGE])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = raw.decode("utf-8", "replace")
        offset = len(raw[: error.start].decode("utf-8", "replace"))
        bad = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        message = f"the file is not UTF-8: {bad}"
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            message = "the file is UTF-16, not UTF-8"
        raise RecipeError(
            source, shown, [problem_at(shown, offset, message, "save it as UTF-8")]
        ) from None


def parse(text: str, source: str) -> Document:
    """Read one YAML mapping.

    Raises:
        RecipeError: the text is not YAML, or uses what recipes may not.
    """
    body = text.removeprefix("\ufeff")
    if len(body.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise RecipeError(source, "", [_TOO_LARGE])
    builder = _Builder(body)
    builder.run()
    if builder.problems:
        raise RecipeError(source, body, builder.problems)
    if not isinstance(builder.root, dict):
        raise RecipeError(source, body, [_no_mapping(builder.root)])
    return Document(text=body, data=builder.root, keys=builder.keys, values=builder.values)


def _no_mapping(root: Json) -> Problem:
    if root is None:
        return Problem(message="the recipe is empty", line=1, column=1, hint="try: swarm new NAME")
    found = "a list" if isinstance(root, list) else "plain text"
    message = f"a recipe is a mapping of keys, found {found}"
    return Problem(message=message, line=1, column=1, hint="begin with 'version: 1'")


class _Events(Reader, Scanner, Parser):
    """PyYAML's scanner and parser without its composer, constructor and resolver."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def __iter__(self) -> Iterator[yaml.Event]:
        while self.check_event():  # pyright: ignore[reportUnknownMemberType]
            yield cast("yaml.Event", self.get_event())  # pyright: ignore[reportUnknownMemberType]


class _Stop(Exception):
    """Told within this module: no further event can be trusted or afforded."""


_NO_KEY: Final = object()
_DROPPED: Final = object()


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been read."""

    into: "list[Json] | dict[str, Json]"
    path: Path | None
    """None below something refused: its content is read, but kept nowhere."""
    key: object = _NO_KEY
    """In a mapping: the name that waits for its value; `_DROPPED` when the value is to be thrown away."""
    is_key: bool = False
    """True for a collection that stands where a name belongs."""


@dataclass(slots=True)
class _Builder:
    """Builds data out of parser events and collects problems on the way."""

    text: str
    root: Json = None
    keys: dict[Path, Span] = field(default_factory=dict[Path, Span])
    values: dict[Path, Span] = field(default_factory=dict[Path, Span])
    problems: list[Problem] = field(default_factory=list[Problem])
    stack: list[_Open] = field(default_factory=list[_Open])
    nodes: int = 0
    documents: int = 0

    def run(self) -> None:
        """Read everything, or up to the first syntax error."""
        bad = Reader.NON_PRINTABLE.search(self.text)
        if bad is not None:
            self.problems.append(_control_character(self.text, bad))
            return
        events = _Events(self.text)
        try:
            for event in events:
                self._take(event)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            begin = error.context_mark or mark
            self.problems.append(
                syntax_problem(
                    self.text,
                    error.problem or "unknown",
                    mark.index if mark else 0,
                    begin.index if begin else 0,
                )
            )
        except _Stop:
            pass
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            # For example the escape `\UFFFFFFFF`, which PyYAML hands to `chr` unchecked.
            message = f"this is not valid YAML ({error})"
            self.problems.append(problem_at(self.text, events.index, message))

    def _report(self, offset: int, message: str, hint: str | None = None) -> None:
        self.problems.append(problem_at(self.text, offset, message, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _take(self, event: yaml.Event) -> None:
        start = event.start_mark.index
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._report(start, "a recipe is one document", "remove this '---'")
                    raise _Stop
            case yaml.AliasEvent():
                message = f"'*{event.anchor}': recipes have no aliases"
                self._report(start, message, "repeat the value here")
                self._place(None, Span(start, start))
            case yaml.ScalarEvent():
                self._scalar(event, Span(start, event.end_mark.index))
            case yaml.MappingStartEvent():
                self._open({}, event, start)
            case yaml.SequenceStartEvent():
                self._open([], event, start)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                if self.stack.pop().is_key:
                    self.stack[-1].key = _DROPPED
            case _:
                pass

    def _open(
        self,
        into: "list[Json] | dict[str, Json]",
        event: yaml.MappingStartEvent | yaml.SequenceStartEvent,
        start: int,
    ) -> None:
        if self.text.startswith("{{", start):
            self.problems.append(unquoted_braces(self.text, start))
            raise _Stop
        if len(self.stack) >= MAX_DEPTH:
            self._report(start, f"lists and mappings are nested more than {MAX_DEPTH} deep")
            raise _Stop
        kind = "map" if isinstance(into, dict) else "seq"
        self._check_marks(event.anchor, event.tag, kind, start)
        is_key = self._expects_key()
        if is_key:
            self._report(start, "a key must be text", "write 'name: value'")
        path = None if is_key else self._place(into, Span(start, start))
        self.stack.append(_Open(into, path, is_key=is_key))

    def _check_marks(self, anchor: str | None, tag: str | None, kind: str, start: int) -> None:
        if anchor is not None:
            message = f"'&{anchor}': recipes have no anchors"
            self._report(start, message, "remove it; write the value where it is needed")
        if tag is not None and tag != f"tag:yaml.org,2002:{kind}":
            name = tag.replace("tag:yaml.org,2002:", "!!")
            self._report(start, f"the tag '{name}' is not allowed", "remove it")

    def _expects_key(self) -> bool:
        top = self.stack[-1] if self.stack else None
        return top is not None and isinstance(top.into, dict) and top.key is _NO_KEY

    def _scalar(self, event: yaml.ScalarEvent, span: Span) -> None:
        self._check_marks(event.anchor, event.tag, "str", span.start)
        plain = event.implicit[0]
        word = event.value if plain else self._whole_characters(event.value, span)
        value = plain_value(word) if plain else word
        if self._expects_key():
            self._key(word, value, span, plain=plain)
            return
        if isinstance(value, float) and not math.isfinite(value):
            self._report(span.start, f"'{word}' is not a finite number", "quote it if it is text")
        self._place(value, span)

    def _whole_characters(self, word: str, span: Span) -> str:
        r"""Joins `\ud83d\ude00`, as JSON writes an emoji, into one character; half a pair is refused."""
        if not _SURROGATE.search(word):
            return word
        try:
            return word.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._report(span.start, "this text holds half of a character (a lone \\ud800-\\udfff)")
            return _SURROGATE.sub("\ufffd", word)

    def _key(self, word: str, meaning: Json, span: Span, *, plain: bool) -> None:
        """Remember the name that the next value gets."""
        top = self.stack[-1]
        top.key = _DROPPED
        if plain and word == "<<":
            self._report(span.start, "recipes have no merge keys ('<<')", "write the keys out")
        elif not isinstance(meaning, str):
            hint = f'write "{word}" in quotes' if word else None
            self._report(span.start, f"a key must be text, found {word or 'nothing'}", hint)
        elif isinstance(top.into, dict) and word in top.into:
            first = None if top.path is None else self.keys.get((*top.path, word))
            line = f" (first on line {place_of(self.text, first.start).line})" if first else ""
            self._report(span.start, f"the key '{word}' is here twice{line}", "keep one of them")
        else:
            top.key = word
            if top.path is not None:
                self.keys[(*top.path, word)] = span

    def _place(self, value: Json, span: Span) -> Path | None:
        """Put a value where it belongs; returns its path, None when it is kept nowhere."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            message = f"the file has more than {MAX_NODES:,} values"
            self._report(span.start, message, "pass long lists with -p name=@file")
            raise _Stop
        if not self.stack:
            self.root, path = value, ()
        else:
            path = self._append(self.stack[-1], value)
        if path is not None:
            self.values[path] = span
        return path

    def _append(self, top: _Open, value: Json) -> Path | None:
        if isinstance(top.into, list):
            top.into.append(value)
            return None if top.path is None else (*top.path, len(top.into) - 1)
        name = top.key
        # An alias can stand where a name belongs; then the next value is nameless.
        top.key = _DROPPED if name is _NO_KEY else _NO_KEY
        if not isinstance(name, str):
            return None
        top.into[name] = value
        return None if top.path is None else (*top.path, name)


def _control_character(text: str, bad: re.Match[str]) -> Problem:
    code = ord(bad[0])
    hint = f'inside double quotes write "\\x{code:02x}"' if code < 256 else "remove it"
    message = f"the character U+{code:04X} is not allowed in YAML"
    return problem_at(text, bad.start(), message, hint)


_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS = 300


def plain_value(word: str) -> bool | int | float | str | None:
    """What a word without quotes means in YAML 1.2's core schema.

    One step stricter: digits after a leading zero are text, because YAML 1.1 reads them as octal.
    """
    if word in _WORDS:
        return _WORDS[word]
    if len(word) > _MAX_DIGITS:
        return word
    if _INT.fullmatch(word):
        return int(word)
    if _OTHER_BASE.fullmatch(word):
        return int(word, 0)
    if _NOT_FINITE.fullmatch(word):
        return float(word.replace(".", ""))
    return float(word) if _FLOAT.fullmatch(word) else word
