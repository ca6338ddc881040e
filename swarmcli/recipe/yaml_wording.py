"""YAML syntax errors in words that do not need YAML's grammar. Pure: knows the parser's sentences, not the parser."""

import bisect
import re
from typing import NamedTuple

from swarmcli.errors import Problem
from swarmcli.recipe.document import line_starts, problem_at


class _Wording(NamedTuple):
    """The parser's words, ours, and whether the beginning of the construct is the better place."""

    theirs: re.Pattern[str]
    ours: str
    hint: str | None = None
    at_begin: bool = False


_QUOTE = 'put the text in quotes: "..."'
_WORDINGS = (
    _Wording(
        re.compile(r"found character '\\t'"),
        "a tab stands here",
        "use spaces: YAML is not indented with tabs",
    ),
    _Wording(
        re.compile(r"found character ['\"](.)['\"] that"), "text cannot begin with {0}", _QUOTE
    ),
    _Wording(
        re.compile("mapping values are not allowed"),
        "a ': ' is not possible here",
        f"{_QUOTE}, or check the indentation",
    ),
    _Wording(
        re.compile("could not find expected ':'"),
        "this is neither 'key: value' nor part of a text",
        "a text over several lines needs '|' after its key",
        at_begin=True,
    ),
    _Wording(
        re.compile("sequence entries are not allowed"),
        "a list entry cannot begin here",
        "put '- ' on a line of its own, below its key",
    ),
    _Wording(
        re.compile("expected ',' or '.', but got '<stream end>'"),
        "this is never closed",
        at_begin=True,
    ),
    _Wording(re.compile("expected ',' or '(.)', but got"), "',' or '{0}' is missing before this"),
    _Wording(
        re.compile("found unexpected (?:end of stream|document separator)"),
        "this quote is never closed",
        at_begin=True,
    ),
    _Wording(
        re.compile("found unknown escape character '(.)'"),
        "'\\{0}' means nothing in double quotes",
        "use single quotes, or write '\\\\'",
    ),
    _Wording(re.compile("expected the node content"), "a value is missing here"),
    _Wording(
        re.compile("expected '<document start>'"), "this does not belong to the recipe", "remove it"
    ),
    _Wording(re.compile("undefined tag handle|expected URI"), "tags are not allowed", "remove it"),
)
_BRACES_UNQUOTED = re.compile(r"(?:^|[:,\-\[?]) *(?=\{\{)")


def syntax_problem(text: str, theirs: str, offset: int, begin: int) -> Problem:
    """One syntax error.

    Args:
        text: the file.
        theirs: the parser's sentence.
        offset: where the parser gave up.
        begin: where the construct began that it could not finish.
    """
    for near in (offset, begin):
        braces = _braces_in_line_of(text, near)
        if braces is not None:
            return unquoted_braces(text, braces)
    if "<block end>" in theirs:
        return _misplaced(text, offset)
    for wording in _WORDINGS:
        found = wording.theirs.search(theirs)
        if found:
            message = wording.ours.format(*found.groups())
            return problem_at(text, begin if wording.at_begin else offset, message, wording.hint)
    return problem_at(text, offset, f"this is not valid YAML ({theirs})")


def unquoted_braces(text: str, offset: int) -> Problem:
    """The most frequent mistake of all: to YAML, `prompt: {{ topic }}` is a mapping in a mapping."""
    name = re.match(r"\{\{[^{}\r\n]{0,40}\}\}", text[offset:])
    shown = name[0] if name else "{{ name }}"
    message = "text that begins with '{{' needs quotes"
    return problem_at(text, offset, message, f'write "{shown}"')


def _misplaced(text: str, offset: int) -> Problem:
    start = line_starts(text)[bisect.bisect_right(line_starts(text), offset) - 1]
    if text[start:offset].strip(" -?"):
        message, hint = "this stands after the end of the value", "quote the whole value"
    else:
        message = "this line does not fit the lines above it"
        hint = "entries of one list or mapping begin in the same column"
    return problem_at(text, offset, message, hint)


def _braces_in_line_of(text: str, offset: int) -> int | None:
    """The offset of `{{` at the beginning of a value without quotes in the same line, if there is one."""
    starts = line_starts(text)
    line = bisect.bisect_right(starts, offset)
    start = starts[line - 1]
    end = starts[line] if line < len(starts) else len(text)
    found = _BRACES_UNQUOTED.search(text[start:end])
    return start + found.end() if found else None
