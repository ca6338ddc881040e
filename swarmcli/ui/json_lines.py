"""Every event as one JSON object a line, for programs.

Rule: the lines are plain UTF-8 in which everything that could act on a terminal is escaped.
"""

from collections.abc import Callable
from typing import TextIO

from swarmcli.core.event_json import to_record
from swarmcli.core.events import Stamped
from swarmcli.core.safe_json import safe_json
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
        self._writer.write(safe_json(to_record(stamped)))

    def close(self) -> None:
        """Write what is left, for as long as somebody reads."""
        self._writer.close()
