"""What the displays cost before anything is drawn."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module", ["answer", "clean", "github", "lines", "summary", "terminal", "view"]
)
def test_rich_is_loaded_only_for_a_tree_or_a_rendered_answer(module: str, checkout: Path) -> None:
    """A run in CI, and every command that draws nothing, starts without it."""
    code = f"import sys, swarmcli.ui.{module}; sys.exit('rich' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=checkout).returncode == 0
