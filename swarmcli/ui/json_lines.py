"""Every event as one JSON object a line, for programs.

Rule: the lines are plain UTF-8 in which everything that could act on a terminal is escaped.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO, cast

from swarmcli.core.event_json import to_record
from swarmcli.core.events import Stamped
from swarmcli.ui.writer import LineWriter


class JsonLines:
    """Every event as one JSON object a line, for `--format stream-json` and `--events FILE`.

    Args:
        stream: stdout or a file.
        on_error: called once when the reader has gone or the disk is full; later events are dropped.
    """

    def __init__(self, stream: TextIO, on_error: Callable[[OSError], None] | None = None) -> None:
        self._writer = LineWriter(stream, on_error, encoding="utf-8")

    @property
    def error(self) -> OSError | None:
        """Why nothing is written any more."""
        return self._writer.error

    def feed(self, stamped: Stamped) -> None:
        self._writer.write(json_line(to_record(stamped)))

    def close(self) -> None:
        """Write what is left, for as long as somebody reads."""
        self._writer.close()


_UNSAFE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def json_line(record: Mapping[str, object]) -> str:
    """The record as JSON on one line; numbers that JSON has no word for are null."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(_strict(record), ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
