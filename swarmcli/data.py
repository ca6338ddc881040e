"""Where the shipped data files are: in the wheel below `swarmcli/_data`, in a checkout beside the package."""

from pathlib import Path
from typing import Literal


def data_dir(kind: Literal["prompts", "recipes"]) -> Path:
    """The folder of the shipped prompts or recipes."""
    package = Path(__file__).resolve().parent
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind
