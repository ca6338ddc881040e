"""Which display stderr gets: a tree, plain lines, or none that only folds the events for the summary."""

import os
import sys
from typing import Protocol

from swarmcli.app.options import RunOptions
from swarmcli.app.workspace import Workspace
from swarmcli.core.events import Sink
from swarmcli.ui.github import in_github_actions
from swarmcli.ui.lines import PlainLines
from swarmcli.ui.terminal import Display, decide
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
