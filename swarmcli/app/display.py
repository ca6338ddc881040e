"""Which display stderr gets: a tree, plain lines, or none that only folds the events for the summary."""

import os
import sys
from collections.abc import Sequence
from typing import Protocol

from swarmcli.app.models import EMBEDDED, TINY_NOTE
from swarmcli.app.options import RunOptions
from swarmcli.app.workspace import Workspace
from swarmcli.core.events import RunEnd, Sink
from swarmcli.ui.github import in_github_actions
from swarmcli.ui.lines import PlainLines
from swarmcli.ui.summary import print_summary, summary_rows
from swarmcli.ui.terminal import Display, columns, decide
from swarmcli.ui.view import RunView


class LiveDisplay(Sink, Protocol):
    """What stderr shows while the run goes on."""

    view: RunView

    def start(self) -> None:
        """Begin to draw, on the running event loop."""
        ...

    def log(self, text: str) -> None:
        """Show a line of the program itself."""
        ...


class _Unseen:
    """No display: only folds the events, for the summary."""

    def __init__(self) -> None:
        self.view = RunView()
        self.feed = self.view.feed

    def start(self) -> None:
        pass

    def log(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def conclude(
    end: RunEnd,
    display: Display,
    view: RunView,
    *,
    tiny: bool,
    artifacts: Sequence[str] = (),
) -> None:
    """The summary on stderr; nothing where the last plain line has told it all.

    Args:
        end: the run's last event.
        display: how stderr was used.
        view: everything before the end.
        tiny: the embedded model made answers, which must be said.
        artifacts: files that were written where the user asked for them.
    """
    if sys.stderr is None or (display.kind == "plain" and end.status == "ok" and not artifacts):
        return
    rows = summary_rows(
        end,
        view,
        width=columns(sys.stderr, os.environ),
        ascii=display.ascii,
        artifacts=artifacts,
        notes=[f"{EMBEDDED} has {TINY_NOTE}"] if tiny else [],
    )
    print_summary(rows, sys.stderr, color=display.color)


def display_for(options: RunOptions, ws: Workspace) -> tuple[Display, LiveDisplay]:
    """Choose and make the display that the flags, the settings and the stream allow.

    Raises:
        UsageError: a tree was asked for where none can be drawn.
    """
    setting = ws.settings.merged.progress
    wish = options.progress or (setting.value if setting else "auto")
    wish = "none" if options.quiet and options.progress is None else wish
    display = decide(wish, options.color, sys.stderr, os.environ)  # pyright: ignore[reportArgumentType]
    if display.kind == "tree":
        from swarmcli.ui.tree import TreeDisplay

        return display, TreeDisplay.on_terminal(sys.stderr, display, os.environ)
    if display.kind == "none":
        return display, _Unseen()
    github = in_github_actions(os.environ)
    return display, PlainLines(
        sys.stderr, verbose=options.verbose > 0, color=display.color, github=github
    )
