"""The result on stdout: rendered for a person at a terminal, byte for byte for everything else.

Rule: nothing here adds anything but one newline at the end. A terminal gets Markdown drawn by Rich, cleaned before and
after: an entity such as `&#x202e;` becomes a character only while it is rendered.
"""

import os
from collections.abc import Mapping
from typing import TextIO

from swarmcli.ui.clean import clean, clean_result
from swarmcli.ui.terminal import columns, is_terminal, needs_ascii, wants_color

MAX_RENDERED_CHARS = 200_000
"""Longer answers are printed as they are: laying them out would take seconds."""
MAX_WIDTH = 120


def answer_text(text: str) -> str:
    """The result as stdout and `-o` receive it: cleaned, with exactly one newline at its end."""
    return clean_result(text).rstrip("\n") + "\n"


def print_answer(
    text: str,
    stream: TextIO,
    *,
    markdown: bool = True,
    color: bool | None = None,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Print the result.

    Args:
        text: as the run ended with it.
        stream: stdout.
        markdown: False for a format that is no prose: JSON, JSON lines, a table of values.
        color: default: what the terminal and the environment want.
        env: the environment.

    Raises:
        OSError: stdout cannot be written; `BrokenPipeError` when the reader has gone.
    """
    if not is_terminal(stream):
        _write(answer_text(text), stream)
        return
    shown = clean(text, joiners=True).rstrip("\n") + "\n"
    if not markdown or len(shown) > MAX_RENDERED_CHARS or needs_ascii(stream, env):
        _write(shown, stream)
        return
    _render(shown, stream, wants_color("auto", stream, env) if color is None else color, env)


def _write(text: str, stream: TextIO) -> None:
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text)
    elif is_terminal(stream):
        buffer.write(text.encode(stream.encoding or "utf-8", "replace"))
    else:
        buffer.write(text.encode("utf-8"))
    stream.flush()


def _render(text: str, stream: TextIO, color: bool, env: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.segment import Segment, Segments

    console = Console(
        file=stream,
        width=min(MAX_WIDTH, columns(stream, env)),
        force_terminal=True,
        color_system="auto" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ=env,
    )
    drawn = console.render(Markdown(text, hyperlinks=False))
    safe = [Segment(clean(s.text, joiners=True), s.style) for s in drawn if not s.control]
    console.print(Segments(safe), end="")
