"""What this machine offers: models, cache, folders, keys, terminal."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from swarmcli import __version__
from swarmcli.adapters import cache_upkeep, providers
from swarmcli.adapters.cache import ANSWERS
from swarmcli.adapters.embedded import CONTEXT
from swarmcli.adapters.model_table import chat_models
from swarmcli.adapters.weights import (
    INSTALL_COMMAND,
    embedded_installed,
    locate,
    pull_smollm2,
)
from swarmcli.app.models import EMBEDDED, TINY_NOTE, choose_default
from swarmcli.app.workspace import Workspace, open_workspace
from swarmcli.core.safe_json import safe_json
from swarmcli.errors import StorageError, SwarmError, UsageError
from swarmcli.ui.clean import one_line
from swarmcli.ui.say import err, out
from swarmcli.ui.terminal import decide

SMOLLM2 = "smollm2"
_LONG_KEY = 16


def list_models(provider: str | None) -> int:
    """`swarm models list`."""
    ws = open_workspace()
    default = choose_default(ws.surroundings())
    rows = chat_models(provider)
    if provider is not None and not rows:
        raise UsageError(
            f"LiteLLM's table has no chat model of {provider!r}", hint="swarm models list"
        )
    if provider is None:
        out(f"{EMBEDDED:<44} {'free':>18} {CONTEXT:>10}  {TINY_NOTE}")
    for row in rows:
        price = (
            "?"
            if row.price is None
            else f"${row.price.input_per_mtok:g}/${row.price.output_per_mtok:g}"
        )
        out(f"{row.id:<44} {price:>18} {row.context_window or '?':>10}")
    if default is not None:
        err(f"default here: {default[0].id} ({default[1]})")
    return 0


def pull(name: str) -> int:
    """`swarm models pull NAME`."""
    if name != SMOLLM2:
        raise UsageError(
            f"swarm can pull {SMOLLM2!r} only",
            hint=f"for another GGUF file: swarm run ... -m embedded/{name if '/' in name else 'path/to/file'}.gguf",
        )
    ws = open_workspace()
    path = pull_smollm2(ws.folders.cache, report=err)
    if not embedded_installed():
        err(f"the weights are at {path}; to run them: {INSTALL_COMMAND}")
        return 0
    err(f"{EMBEDDED} is ready at {path} ({TINY_NOTE})")
    return 0


def cache_info(*, as_json: bool) -> int:
    """`swarm cache info`."""
    info = cache_upkeep.info(_answers(open_workspace()))
    if as_json:
        facts = {
            "folder": str(info.folder),
            "entries": info.entries,
            "bytes": info.bytes,
            "problem": info.problem,
        }
        out(json.dumps(facts, indent=2))
    else:
        problem = f"  ({info.problem})" if info.problem else ""
        out(f"{info.folder}: {info.entries:,} answers, {info.bytes / 1e6:.1f} MB{problem}")
    return 0


def cache_clear() -> int:
    """`swarm cache clear`."""
    folder = _answers(open_workspace())
    try:
        removed = cache_upkeep.clear(folder)
    except OSError as error:
        raise StorageError(f"cannot clear {folder}: {error.strerror}") from error
    err(f"removed {removed:,} answers")
    return 0


def cache_prune(older_than_s: float | None) -> int:
    """`swarm cache prune`."""
    pruned = cache_upkeep.prune(_answers(open_workspace()), older_than_s)
    err(f"removed {pruned.entries:,} answers, {pruned.bytes / 1e6:.1f} MB")
    return 0


def _answers(ws: Workspace) -> Path:
    return ws.folders.cache / ANSWERS


def doctor(*, as_json: bool) -> int:
    """`swarm doctor`: 0 when a model can be used, else 77."""
    ws = open_workspace()
    facts = _facts(ws)
    if as_json:
        out(safe_json(facts, indent=2))
    else:
        for key, value in facts.items():
            many = isinstance(value, list)
            shown = ", ".join(map(str, cast("list[object]", value))) if many else value
            out(f"{key:<10} {'-' if shown in (None, '') else one_line(str(shown))}")
    if facts["model"] is None:
        raise providers.no_model_error(os.environ)
    return 0


def _facts(ws: Workspace) -> dict[str, Any]:
    default = choose_default(ws.surroundings())
    display = decide("auto", "auto", sys.stderr, os.environ)
    keys = [name for p in providers.PROVIDERS.values() for name in p.keys if os.environ.get(name)]
    return {
        "swarm": __version__,
        "python": platform.python_version(),
        "litellm": metadata.version("litellm"),
        "model": f"{default[0].id} ({default[1]})" if default else None,
        "keys": [f"{name} ({_ending(os.environ[name])})" for name in keys],
        "ollama": providers.ollama_models(os.environ),
        "embedded": _embedded(ws),
        "config": [str(path) for path in ws.settings.sources]
        or str(ws.folders.config_file) + " (absent)",
        "state": str(ws.folders.state),
        "cache": str(ws.folders.cache),
        ".env": str(ws.settings.dotenv.path) if ws.settings.dotenv.path else None,
        "ignored": list(ws.settings.dotenv.notes),
        "display": f"{display.kind} ({display.reason})",
    }


def _ending(key: str) -> str:
    """Enough to tell two keys apart; nothing of one that is so short that its end is most of it."""
    return f"...{key[-4:]}" if len(key) >= _LONG_KEY else "set"


def _embedded(ws: Workspace) -> str:
    if not embedded_installed():
        return f"not installed ({INSTALL_COMMAND})"
    try:
        return str(locate(SMOLLM2, ws.folders.cache))
    except SwarmError as error:
        return f"{error.message}; {error.hint}"
