"""Shell completion: names only, from file names, in milliseconds."""

import os
from collections.abc import Iterator
from pathlib import Path


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, recipes on `SWARM_RECIPE_PATH`, and YAML files of the folder that is typed."""
    from swarmcli.data import data_dir

    folders = [Path(p) for p in os.environ.get("SWARM_RECIPE_PATH", "").split(os.pathsep) if p]
    names = {
        path.stem for folder in [*folders, data_dir("recipes")] for path in _yaml_files(folder)
    }
    head, slash, _ = incomplete.rpartition("/")
    here = {f"{head}{slash}{path.name}" for path in _yaml_files(Path(head or "."))}
    return sorted(name for name in names | here if name.startswith(incomplete))


def complete_run(incomplete: str) -> list[str]:
    """Run ids, newest first."""
    from swarmcli.adapters.folders import Folders

    try:
        runs = sorted(
            (p.name for p in (Folders.locate(os.environ).state / "runs").iterdir()), reverse=True
        )
    except Exception:  # noqa: BLE001  completion must never print an error into a command line
        return []
    return [run for run in runs if run.startswith(incomplete) or run.endswith(incomplete)][:50]


def _yaml_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError:
        return
