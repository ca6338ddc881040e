"""JSON as it is printed: valid for every reader, and harmless where the reader is a terminal. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import cast

_ACTING = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What JSON leaves as it is: C1 controls, bidi and zero-width characters, line ends, lone surrogates."""


def safe_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON in which everything that could act on a terminal is escaped.

    Numbers that JSON has no word for are null, and values of other types are written as what they are like.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError):
        text = json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return _ACTING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _strict(value: object) -> object:
    """The value in JSON's own types."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(k): _strict(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Iterable):
        return [_strict(item) for item in cast("Iterable[object]", value)]
    return str(value)
