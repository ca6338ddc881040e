"""Where a command works: folders, settings, environment, and the notes that it prints on stderr."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarmcli.adapters.folders import Folders
from swarmcli.adapters.settings import Settings, load_settings
from swarmcli.errors import UsageError
from swarmcli.ui.clean import clean
from swarmcli.ui.say import err

if TYPE_CHECKING:
    from swarmcli.adapters.runs import RunStore

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the choice of a model depends on outside the recipe and the flags."""

    env: Mapping[str, str]
    default_model: str | None
    """`SWARM_MODEL`, or a config file's `model`."""
    default_reason: str
    cache_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The surroundings of one command."""

    cwd: Path
    folders: Folders
    settings: Settings
    note: Note

    @property
    def runs(self) -> "RunStore":
        """All runs of this user."""
        from swarmcli.adapters.runs import RunStore  # the commands about recipes start without

        return RunStore(self.folders.state)

    @property
    def recipe_path(self) -> tuple[Path, ...]:
        """Folders in which recipes are found by name, before the shipped ones."""
        setting = self.settings.merged.recipe_path
        return setting.value if setting else ()

    def surroundings(self) -> Surroundings:
        """What the choice of a model depends on."""
        model = self.settings.merged.model
        return Surroundings(
            env=os.environ,
            default_model=model.value if model else None,
            default_reason=model.origin if model else "",
            cache_dir=self.folders.cache,
        )


def open_workspace(*, quiet: bool = False) -> Workspace:
    """Read settings and the `.env` file, whose keys fill unset variables of this process.

    Raises:
        UsageError: a wrong setting; StorageError: no usable folder.
    """
    try:
        cwd = Path.cwd()
    except OSError as error:
        raise UsageError(
            "the current folder does not exist any more", hint="cd to another one"
        ) from error
    folders = Folders.locate(os.environ)
    settings = load_settings(os.environ, cwd, folders.config)
    os.environ.update(settings.dotenv.values)
    return Workspace(cwd=cwd, folders=folders, settings=settings, note=_silent if quiet else _say)


def _say(text: str) -> None:
    err(f"note: {clean(text)}")


def _silent(_text: str) -> None:
    pass
