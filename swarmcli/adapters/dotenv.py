"""The `.env` file of a project. Rule: it may bring keys, and nothing that says where they are sent."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_KEY_NAME = re.compile(r"\w+(?:_API_KEY|_TOKEN)", re.ASCII)
_QUOTED = re.compile(r"""'([^']*)'\s*(?:\#.*)?|"((?:[^"\\]|\\.)*)"\s*(?:\#.*)?""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DotEnv:
    """What a `.env` file adds to the environment. Its values never appear in `notes`."""

    path: Path | None = None
    values: Mapping[str, str]
    """Only names that were unset; put these into the process's environment."""
    notes: tuple[str, ...] = ()
    """What was not taken, for `swarm doctor` and `-v`."""


def load_dotenv(env: Mapping[str, str], cwd: Path, *, also: Collection[str]) -> DotEnv:
    """What the nearest `.env` between `cwd` and the root of its git repository adds to `env`.

    Taken are unset names that end in `_API_KEY` or `_TOKEN`, and those in `also`. A `.env` with
    `OPENAI_API_BASE` would post the user's own key to whoever wrote the file.
    """
    path = _nearest_dotenv(cwd)
    if path is None:
        return DotEnv(values={})
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        return DotEnv(path=path, values={}, notes=(f"{path} was not read: {reason}",))
    found, notes = parse_dotenv(text)
    wanted = {n for n in found if n in also or _KEY_NAME.fullmatch(n) is not None}
    ignored = sorted(found.keys() - wanted)
    values = {name: text for name, text in found.items() if name in wanted and name not in env}
    problems = [f"{path}: {note}" for note in notes]
    if ignored:
        problems.append(
            f"{path}: ignored {', '.join(ignored)} (a .env may set *_API_KEY, *_TOKEN and "
            "swarm's own settings)"
        )
    return DotEnv(path=path, values=values, notes=tuple(problems))


def _nearest_dotenv(cwd: Path) -> Path | None:
    searched: list[Path] = []
    for folder in (cwd, *cwd.parents):
        searched.append(folder)
        if exists(folder / ".git"):
            break
    else:
        searched = [cwd]  # in no repository: nobody vouches for the folders above
    for folder in searched:
        path = folder / ".env"
        if exists(path) and path.is_file():  # `.env` is also a usual name of a virtualenv
            return path
    return None


def exists(path: Path) -> bool:
    """Whether it is there and may be looked at."""
    try:
        return path.exists()
    except OSError:  # a folder that we may not look into
        return False


def parse_dotenv(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """`KEY=VALUE` lines: comments, `export`, quotes; no expansion, no values over several lines.

    Returns:
        The values (the last one of a name wins), and a note for each line that is none.
    """
    values: dict[str, str] = {}
    notes: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _NAME.fullmatch(line)
        value = _dotenv_value(match[2]) if match else None
        if match is None or value is None:
            notes.append(f"line {number} is not KEY=VALUE and was ignored")
        else:
            values[match[1]] = value
    return values, tuple(notes)


def _dotenv_value(raw: str) -> str | None:
    """The value of a line; None when it cannot be one."""
    if "\0" in raw:
        return None
    if raw[:1] not in {"'", '"'}:
        return re.split(r"(?:^|\s+)#", raw, maxsplit=1)[0].strip()
    match = _QUOTED.fullmatch(raw)
    if match is None:
        return None
    if match[1] is not None:
        return match[1]
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match[2])
