"""Files that a recipe offers to its agents: found by glob, `.gitignore` honoured, read as text."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from swarmcli.errors import UsageError

MAX_FILES = 10_000
MAX_FILE_BYTES = 10_000_000
_NEVER = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".env"}
"""Never found by a pattern: bulk that nobody means, and the file that holds keys."""


def find_files(patterns: Sequence[str], root: Path) -> tuple[str, ...]:
    """Paths below `root` that match one of the gitignore-style `patterns`, sorted, with forward slashes.

    `.gitignore` files from `root` downwards are honoured; links that lead outside are left out. A path that is named
    without a wildcard is taken even where it is ignored.

    Raises:
        UsageError: a pattern leads outside, matches nothing, or matches more than 10,000 files.
    """
    if not patterns:
        return ()
    from pathspec import GitIgnoreSpec

    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise UsageError(
                f"the file pattern {pattern!r} leads out of {root}",
                hint="use a path below this folder",
            )
    globs = [p for p in patterns if any(c in p for c in "*?[!")]
    for plain in (p for p in patterns if p not in globs):
        found.update(_plain(plain, root))
    if globs:
        spec = GitIgnoreSpec.from_lines(_anchored(globs))
        found.update((path, None) for path in _walk(root, root, []) if spec.match_file(path))
    if not found:
        raise UsageError(f"no file matches {', '.join(map(repr, patterns))} in {root}")
    if len(found) > MAX_FILES:
        raise UsageError(
            f"{', '.join(map(repr, patterns))} match {len(found):,} files; {MAX_FILES:,} are allowed"
        )
    return tuple(sorted(found))


def _anchored(globs: Sequence[str]) -> list[str]:
    """`*.py` means this folder, as in a shell; gitignore alone would read it as any folder."""
    return [g if g.startswith("!") else f"/{g.removeprefix('./')}" for g in globs]


def _plain(name: str, root: Path) -> dict[str, None]:
    path = root / name
    if path.is_dir():
        below = "" if path.samefile(root) else f"{path.relative_to(root).as_posix()}/"
        return dict.fromkeys(found for found in _walk(root, root, []) if found.startswith(below))
    if not path.is_file():
        raise UsageError(f"there is no file {name!r} in {root}")
    return {path.relative_to(root).as_posix(): None}


def _walk(folder: Path, root: Path, ignores: list[tuple[Path, object]]) -> Iterator[str]:
    from pathspec import GitIgnoreSpec

    ignore = folder / ".gitignore"
    with contextlib.suppress(OSError):
        lines = ignore.read_text("utf-8", errors="replace").splitlines()
        ignores = [*ignores, (folder, GitIgnoreSpec.from_lines(lines))]
    for entry in _entries(folder):
        path = Path(entry.path)
        is_dir = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or _ignored(path, is_dir, ignores):
            continue
        if is_dir:
            yield from _walk(path, root, ignores)
        elif _is_inside(path, root):
            yield path.relative_to(root).as_posix()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted; one that may not be looked into holds nothing for us."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_inside(path: Path, root: Path) -> bool:
    """A file, or a link to one below `root`; links that lead nowhere, in circles or outside are none."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def _ignored(path: Path, is_dir: bool, ignores: list[tuple[Path, object]]) -> bool:
    from pathspec import GitIgnoreSpec

    slash = "/" if is_dir else ""
    return any(
        isinstance(spec, GitIgnoreSpec)
        and spec.match_file(path.relative_to(folder).as_posix() + slash)
        for folder, spec in ignores
    )


def read_text(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> str:
    """A file as text; bytes that are no UTF-8 are replaced.

    Raises:
        UsageError: missing, unreadable, too large, or a binary file.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise UsageError(f"{path} is larger than {max_bytes // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if b"\0" in data[:8192]:
        raise UsageError(f"{path} is a binary file")
    return data.decode("utf-8", errors="replace").removeprefix("\ufeff")
