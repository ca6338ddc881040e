"""Draw one moment of a recorded run as an SVG, for the README.

python tests/bench/picture.py RUN_FOLDER SECONDS OUT.svg
"""

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from swarmcli.adapters.journal import read_journal
from swarmcli.ui.cells import STYLES
from swarmcli.ui.view import RunView

WIDTH, HEIGHT = 110, 26
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: monospace; white-space: pre; font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>{lines}</defs>
<rect width="{width}" height="{height}" rx="8" fill="#1b1b1b"/>
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">{matrix}</g>
</g>
</svg>
"""


def draw(folder: Path, seconds: float, target: Path) -> None:
    """Fold the journal up to `seconds` and save what the tree shows then."""
    view = RunView()
    for stamped in read_journal(folder / "journal.jsonl").events:
        if stamped.t <= seconds:
            view.feed(stamped)
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=StringIO(), force_terminal=True)
    for row in view.rows(WIDTH, HEIGHT, seconds):
        console.print(
            Text.assemble(*((span.text, STYLES[span.style]) for span in row)), no_wrap=True
        )
    console.save_svg(str(target), title="", theme=MONOKAI, code_format=FORMAT, unique_id="swarm")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
