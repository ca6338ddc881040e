"""Text that somebody else wrote, made safe for a terminal.

Rule: whatever a model, a tool, a server or a file said passes through here before it is drawn. `clean` is for
screens, `clean_result` for results that go to a pipe or a file and must stay what they are.
"""

import re

_C1 = "\x80-\x9f"
_SEQUENCES = re.compile(
    # CSI, with its parameters and its final byte.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    # OSC, DCS, SOS, PM and APC: a string that ends with BEL or ST, or, when it was cut off, with the line.
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\n{_C1}]*(?:\x07|\x1b\\|\x9c)?"
    # Every other escape: a character set, keypad mode, reset.
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_SURROGATES = "\ud800-\udfff"
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Bidi controls, zero-width and other characters without a glyph: they reorder or hide what stands beside them."""
_JOINERS = "\u200c\u200d\ufe00-\ufe0f"
"""Joiners and variation selectors: harmless, and needed to spell Persian or to compose an emoji."""

_DROP = re.compile(f"[{_CONTROLS}{_SURROGATES}{_INVISIBLE}{_JOINERS}]")
_DROP_BUT_JOINERS = re.compile(f"[{_CONTROLS}{_SURROGATES}{_INVISIBLE}]")
_FOLDED = re.compile(r"[\n\t ]+")
_RESULT_CONTROLS = re.compile(f"[{_CONTROLS}]")
_RESULT_SURROGATES = re.compile(f"[{_SURROGATES}]")


def clean(text: str, *, joiners: bool = False) -> str:
    """The text without anything that a terminal obeys, or that hides or reorders what a person sees.

    Escape sequences go as a whole, every line end becomes a newline, newlines and tabs stay. Total and idempotent.

    Args:
        text: any string, lone surrogates included.
        joiners: keep joiners and variation selectors. They make widths uncertain, so never in a row of the tree.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCES.sub("", text)
    text = _LINE_ENDS.sub("\n", text)
    return (_DROP_BUT_JOINERS if joiners else _DROP).sub("", text)


def one_line(text: str) -> str:
    """`clean`, and every run of white space becomes one space: a row is exactly one line."""
    return _FOLDED.sub(" ", clean(text)).strip(" ")


def clean_result(text: str) -> str:
    r"""The text for stdout or a file: no control character but newline and tab, nothing else changed.

    So `\r\n` becomes `\n`, and an escape sequence loses the ESC that makes it one. Bidi controls and other
    formatting characters are part of a text and stay: a file is not a screen. A lone surrogate has no UTF-8 form
    and becomes U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return _RESULT_SURROGATES.sub("\ufffd", _RESULT_CONTROLS.sub("", text))


def fault_text(kind: str, message: str) -> str:
    """`schema: missing 'severity'`: a failure on one line."""
    kind, message = one_line(kind), one_line(message[:600])
    if not message or message.casefold().startswith(kind.casefold()):
        return message or kind
    return f"{kind}: {message}"
