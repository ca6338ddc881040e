"""Screens kept as text files: `SWARM_TEST_GOLDEN=write pytest tests/ui` rewrites them, for a person to review."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check(name: str, actual: str) -> None:
    """Compare with the kept text."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("SWARM_TEST_GOLDEN") == "write":
        path.write_text(actual, encoding="utf-8")
    assert path.exists(), f"no {path.name}; see tests/ui/golden.py"
    assert path.read_text(encoding="utf-8") == actual
