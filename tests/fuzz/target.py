"""How a fuzz target is run: by libFuzzer with coverage of our code (Atheris), or on inputs that are handed to it.

python tests/fuzz/recipe.py -max_total_time=300 /tmp/new tests/fuzz/corpus/recipe     # new finds go to /tmp/new
python tests/fuzz/recipe.py /tmp/crash-0123                                           # run one input again
"""

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None


def instrumented(name: str) -> contextlib.AbstractContextManager[object]:
    """Around a target's imports of our code; does nothing unless the target is the program (`name` is "__main__")."""
    if name != "__main__":
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["swarmcli", "yaml"], enable_loader_override=False)


def fuzz(target: Target) -> None:
    """Run a target under libFuzzer, with the command line's options. Never returns."""
    import atheris

    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
