"""Private folders, the installation's key, and files that are there whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmcli.adapters import atomic
from swarmcli.adapters.atomic import storage_error, write_atomic
from swarmcli.adapters.folders import Folders, block_key, private_folder
from swarmcli.errors import StorageError

ROOT = Path(__file__).parents[2]
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def python(code: str, *args: object, env: dict[str, str] | None = None, **options):
    """Run `code` in a process of its own that can import swarmcli."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        **options,
    )


# --- where ---


def test_swarm_home_moves_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SWARM_HOME` decides alone; a relative one and a `~` are made absolute."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    for text, root in [("/srv/sw", "/srv/sw"), ("rel", tmp_path / "rel"), ("~/s", "/home/me/s")]:
        folders = Folders.locate({"SWARM_HOME": text})
        assert folders.config == Path(root, "config")
        assert folders.state == Path(root, "state")
        assert folders.cache == Path(root, "cache")
        assert folders.config_file == Path(root, "config", "config.toml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env", [{}, {"SWARM_HOME": ""}])
def test_the_unix_layout_is_the_default(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `SWARM_HOME` the XDG folders are used, and `XDG_*` moves one of them."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    folders = Folders.locate(env)
    assert str(folders.config) == "/home/me/.config/swarm"
    assert str(folders.state) == "/home/me/.local/state/swarm"
    assert str(folders.cache) == "/fast/swarm"


@as_root
def test_without_a_home_the_error_names_swarm_home() -> None:
    """A user without a passwd entry and without HOME gets no folder named `~`."""
    done = python(
        "import os\n"
        "from swarmcli.adapters.folders import Folders\n"
        "from swarmcli.errors import StorageError\n"
        "os.environ.pop('HOME'); os.setuid(54321)\n"
        "try: print(Folders.locate({}))\n"
        "except StorageError as exc: print(exc.message, '|', exc.hint)"
    )
    assert "there is no home folder" in done.stdout, done.stderr
    assert "SWARM_HOME" in done.stdout


# --- private ---


def test_folders_are_made_private(tmp_path: Path) -> None:
    """Every folder that is new has mode 0700; one that exists is left as it is."""
    made = private_folder(tmp_path / "home" / "state" / "runs")
    assert made == tmp_path / "home" / "state" / "runs"
    assert [mode_of(path) for path in (made, *made.parents[:2])] == [0o700] * 3
    made.chmod(0o755)
    assert mode_of(private_folder(made)) == 0o755


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Group- or world-writable is refused, with the command that repairs it."""
    folder = tmp_path / "my state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StorageError, match="can be written by other users") as caught:
        private_folder(folder)
    assert caught.value.hint == f"chmod 700 '{folder}'"


@as_root
def test_a_folder_of_someone_else_is_refused(tmp_path: Path) -> None:
    """Another user's folder is refused, also for root."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(StorageError, match=f"belongs to user {NOBODY}") as caught:
        private_folder(folder)
    assert "SWARM_HOME" in caught.value.hint


@as_root
def test_a_home_that_cannot_be_written_names_swarm_home() -> None:
    """Where HOME is not ours to write, the error names the way out, in both ways it can fail."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from swarmcli.adapters.folders import private_folder\n"
        "from swarmcli.errors import StorageError\n"
        f"os.setuid({NOBODY})\n"
        "try: private_folder(Path(sys.argv[1]))\n"
        "except StorageError as exc: print(exc.message, '|', exc.hint)"
    )
    assert python(code, "/proc/sys/swarm").stdout.startswith("cannot create /proc/sys/swarm: ")
    assert "SWARM_HOME" in python(code, "/proc/sys/swarm").stdout
    assert python(code, "/usr").stdout.startswith("/usr cannot be written | set SWARM_HOME")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A file where a folder should be is an error that says so."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(StorageError, match="Not a directory") as caught:
            private_folder(path)
        assert "SWARM_HOME" in caught.value.hint


# --- key ---


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """32 random bytes, private, the same ever after, with nothing left lying around."""
    key = block_key(tmp_path / "state")
    assert len(key) == 32
    assert block_key(tmp_path / "state") == key
    assert block_key(tmp_path / "other") != key
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["block.key"]
    assert mode_of(tmp_path / "state" / "block.key") == 0o600


def test_processes_that_start_together_share_the_key(tmp_path: Path) -> None:
    """First starts in the same moment all see one key, whole."""
    code = (
        "import sys; from pathlib import Path\n"
        "from swarmcli.adapters.folders import block_key\n"
        "sys.stdin.readline()\n"
        "print(*[block_key(Path(sys.argv[1], str(n))).hex() for n in range(30)])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 30
    assert len(list(tmp_path.rglob("*.tmp"))) == 0


def test_a_damaged_key_is_an_error(tmp_path: Path) -> None:
    """A key that was cut short is not used silently: tags must stay unpredictable."""
    block_key(tmp_path)
    (tmp_path / "block.key").write_bytes(b"short")
    with pytest.raises(StorageError, match="damaged") as caught:
        block_key(tmp_path)
    assert caught.value.hint.endswith(f"rm {tmp_path / 'block.key'}")


# --- whole files ---


def test_a_new_file_is_written_whole(tmp_path: Path) -> None:
    """Parents are made, the mode obeys the umask, and only the file is there afterwards."""
    target = tmp_path / "new" / "deep" / "report.md"
    old = os.umask(0o022)
    try:
        write_atomic(target, b"text")
        write_atomic(target.with_name("private"), b"text", mode=0o600)
    finally:
        os.umask(old)
    assert target.read_bytes() == b"text"
    assert mode_of(target) == 0o644
    assert mode_of(target.with_name("private")) == 0o600
    assert sorted(path.name for path in target.parent.iterdir()) == ["private", "report.md"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    """A name of 255 bytes leaves no room for a suffix, and needs none."""
    write_atomic(tmp_path / ("x" * 255), b"text")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"text"


def test_a_reader_sees_old_or_new(tmp_path: Path) -> None:
    """While a file is replaced again and again, whoever reads it finds one whole version."""
    target = tmp_path / "result"
    versions = {bytes([65 + n]) * 50_000 for n in range(20)}
    write_atomic(target, min(versions))
    seen: set[bytes] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for version in sorted(versions):
        write_atomic(target, version)
    over.set()
    reader.join()
    assert seen <= versions


def test_permissions_are_kept(tmp_path: Path) -> None:
    """Replacing a file keeps its mode, whatever mode a new one would get."""
    target = tmp_path / "script"
    target.write_bytes(b"old")
    target.chmod(0o750)
    write_atomic(target, b"new", mode=0o600)
    assert (target.read_bytes(), mode_of(target)) == (b"new", 0o750)


@as_root
def test_the_owner_is_kept(tmp_path: Path) -> None:
    """Root in a container does not take a bind-mounted file away from its owner."""
    target = tmp_path / "theirs"
    target.write_bytes(b"old")
    os.chown(target, NOBODY, NOBODY)
    write_atomic(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (NOBODY, NOBODY)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path, dangling: bool) -> None:
    """Writing through a link changes the file that it names, also one that is not there yet."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file"
    if not dangling:
        target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("real/file")
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_symlink_loop_is_an_error(tmp_path: Path) -> None:
    """Links that go round are reported, not followed for ever."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "a", b"x")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Naming a folder is an error that says so, and leaves nothing behind."""
    with pytest.raises(StorageError, match="Is a directory") as caught:
        write_atomic(tmp_path, b"x")
    assert caught.value.hint == "name a file, not a folder"
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """When the disk takes only a part, the old file stays, the temp file goes, the error helps."""
    target = tmp_path / "result"
    target.write_bytes(b"old")
    done = python(
        "import resource, sys; from pathlib import Path\n"
        "from swarmcli.adapters.atomic import write_atomic\n"
        "from swarmcli.errors import StorageError\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except StorageError as exc: print(exc.message, '|', exc.hint)",
        target,
    )
    assert done.stdout.startswith(f"cannot write {target}: File too large | "), done.stderr
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_device_is_an_error() -> None:
    """`/dev/full` is what a full disk says: the message and the hint name the place."""
    with pytest.raises(StorageError, match="cannot write /dev/full: No space left") as caught:
        write_atomic(Path("/dev/full"), b"x")
    assert caught.value.hint == "free some space there: df -h /dev"
    assert caught.value.errno == errno.ENOSPC


def test_devices_and_pipes_are_written_directly(tmp_path: Path) -> None:
    """`/dev/null` stays a device; a FIFO hands the text to its reader."""
    write_atomic(Path("/dev/null"), b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    write_atomic(fifo, b"x" * 200_000)
    reader.join()
    assert got == [b"x" * 200_000]
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_by_name_keeps_what_it_already_holds(tmp_path: Path, name: str) -> None:
    """`-o /dev/stdout >> log` appends to the log; it is neither truncated nor replaced."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    with log.open("ab") as out:
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, sys; from pathlib import Path\n"
                "from swarmcli.adapters.atomic import write_atomic\n"
                "write_atomic(Path(sys.argv[1]), b'result\\n'); os.write(1, b'after\\n')",
                name,
            ],
            stdout=out,
            check=True,
            cwd=ROOT,
        )
    assert log.read_bytes() == b"before\nresult\nafter\n"


def test_a_reader_that_left_is_a_broken_pipe() -> None:
    """`-o /dev/stdout | head` must be able to end like any pipe, so this is no StorageError."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with pytest.raises(BrokenPipeError) as caught:
            write_atomic(Path(f"/dev/fd/{write_end}"), b"x")
        assert not isinstance(caught.value, StorageError)
    finally:
        os.close(write_end)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@as_root
def test_what_may_not_be_written_is_not_replaced(open_folder: Path) -> None:
    """A read-only file stays, and a folder without write permission is named in the hint."""
    protected = open_folder / "protected"
    protected.write_bytes(b"old")
    protected.chmod(0o444)
    closed = open_folder / "closed"
    closed.mkdir(mode=0o555)
    done = python(
        f"import os, sys; from pathlib import Path\n"
        "from swarmcli.adapters.atomic import write_atomic\n"
        "from swarmcli.errors import StorageError\n"
        f"os.setuid({NOBODY})\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    try: write_atomic(path, b'new')\n"
        "    except StorageError as exc: print(exc.message, '|', exc.hint)",
        open_folder / "allowed",
        protected,
        closed / "file",
    )
    assert done.stdout.splitlines() == [
        f"cannot write {protected}: Permission denied | "
        f"check who may write there: ls -ld {open_folder}",
        f"cannot write {closed / 'file'}: Permission denied | "
        f"check who may write there: ls -ld {closed}",
    ], done.stderr
    assert protected.read_bytes() == b"old"
    assert (open_folder / "allowed").read_bytes() == b"new"
    assert sorted(path.name for path in open_folder.rglob("*")) == [
        "allowed",
        "closed",
        "protected",
    ]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENAMETOOLONG])
def test_every_common_fault_has_a_next_step(code: int) -> None:
    """The faults that users meet come with a hint, and an error is not wrapped twice."""
    error = storage_error("write", Path("/d/f"), OSError(code, os.strerror(code)))
    assert error.message == f"cannot write /d/f: {os.strerror(code)}"
    assert error.hint
    assert storage_error("read", Path("/other"), error) is error


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path) -> None:
    """A folder that may be written but not read cannot be synced; the file is there anyway."""
    atomic.sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        atomic.sync_folder(tmp_path / "gone")
