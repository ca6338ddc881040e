"""Fuzzing in the test command: every saved input, and then new ones for a fixed time.

With Atheris libFuzzer looks for inputs that reach new code. Where there is no Atheris, Hypothesis changes the saved
inputs: blind, but never nothing. What a run finds is printed; save it below `corpus/` when it is mended.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import journal, recipe, text
from tests.fuzz.target import CORPUS, HAS_ATHERIS, Target

TARGETS: dict[str, Target] = {"recipe": recipe.read, "journal": journal.read, "text": text.read}
SECONDS = {"recipe": 13, "journal": 13, "text": 4}
HERE = Path(__file__).parent


def saved(name: str) -> list[Path]:
    """The saved inputs of a target."""
    return sorted((CORPUS / name).iterdir())


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(n, path, id=f"{n}-{path.name}") for n in TARGETS for path in saved(n)],
)
def test_saved_input(name: str, path: Path):
    """What was once found, and what shows the way, holds."""
    TARGETS[name](path.read_bytes())


@pytest.mark.skipif(
    not HAS_ATHERIS, reason="no Atheris for this Python; test_changed_inputs runs instead"
)
@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs(name: str, tmp_path: Path):
    """libFuzzer finds no input that breaks the target in its time, or prints it with the seed and the way back."""
    seed = int(os.environ.get("SWARM_SEED", "1"))  # new ground is for the nightly run
    dictionary = HERE / f"{name}.dict"
    found = tmp_path / "found"
    found.mkdir()
    command = [
        sys.executable,
        str(HERE / f"{name}.py"),
        f"-max_total_time={SECONDS[name]}",
        f"-seed={seed}",
        "-max_len=4096",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={tmp_path}/",
        *([f"-dict={dictionary}"] if dictionary.exists() else []),
        str(found),
        str(CORPUS / name),
    ]

    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100)

    log = done.stderr[-4000:]
    assert done.returncode == 0, f"seed {seed}\n{log}"
    assert "Done " in log, f"seed {seed}: it did not say how many inputs it ran\n{log}"


def changed(inputs: list[bytes]) -> st.SearchStrategy[bytes]:
    """A saved input with some pieces cut out, doubled, swapped, or replaced by noise or pieces of another."""
    noise = st.one_of(st.binary(max_size=8), st.sampled_from(inputs).map(lambda data: data[:200]))
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), noise), max_size=6)

    def apply(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
        for where, size, piece in changes:
            at = int(where * len(data))
            data = data[:at] + piece + data[at + size :]
        return data[:4096]

    return st.builds(apply, st.sampled_from(inputs), edits)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs(name: str):
    """Saved inputs with changes at random: many where this is all there is, a few beside libFuzzer."""
    target: Callable[[bytes], None] = TARGETS[name]

    @settings(
        max_examples=30 if HAS_ATHERIS else 1000,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed([path.read_bytes() for path in saved(name)]))
    def holds(data: bytes) -> None:
        target(data)

    holds()
