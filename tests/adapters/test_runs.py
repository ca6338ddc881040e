"""Run folders: ids, refs, what was asked, and who works on them."""

import fcntl
import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from swarmcli.adapters import run_lock
from swarmcli.adapters.run_summary import summary
from swarmcli.adapters.runs import RunDir, RunMeta, RunStore
from swarmcli.errors import StorageError, UsageError
from tests.adapters.run_stories import META, ROOT, Calendar, make


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def store(tmp_path: Path, calendar: Calendar) -> RunStore:
    return RunStore(tmp_path / "state", now=calendar)


def test_an_id_says_when(store: RunStore) -> None:
    """Ids are the UTC minute and four letters or digits; the folder is private and complete."""
    run = store.create(META)
    assert re.fullmatch(r"20261121-0915-[a-z2-7]{4}", run.id)
    assert run.folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in run.folder.iterdir()) == ["out", "run.json"]
    assert run.meta_path.stat().st_mode & 0o777 == 0o600


def test_the_minute_is_utc(store: RunStore, calendar: Calendar) -> None:
    """A clock in another time zone makes the same id."""
    calendar.at = datetime.fromisoformat("2026-11-22T00:30:00+05:00")
    assert store.create(META).id.startswith("20261121-1930-")


def test_what_was_asked_is_read_back(store: RunStore) -> None:
    """Everything that resume needs survives, lone surrogates and nested values included."""
    meta = RunMeta(
        command="map",
        recipe_source="-",
        recipe_text="task: grüße \udcff\n",
        params={"topic": "half \ud83d", "list": [1, {"deep": None}]},
        stdin="one\ntwo\r\n",
        options={"mode": "swarm", "jobs": 4, "models": ["small=openai/x"]},
        version="0.1.0",
        cwd="/work",
    )
    run = store.create(meta)
    read = run.read_meta()
    assert read.id == run.id
    assert read.created == "2026-11-21T09:15:00.000000Z"
    assert len(read.recipe_sha256) == 64
    for name in ("command", "recipe_text", "params", "stdin", "options", "version", "cwd"):
        assert getattr(read, name) == getattr(meta, name)


def test_long_input_stands_beside(store: RunStore) -> None:
    """Piped input above 64 KiB is a file of its own, and a changed one is noticed."""
    text = "line \udcff\r\n" * 20_000
    run = store.create(RunMeta(command="map", recipe_source="-", recipe_text="", stdin=text))
    assert run.meta_path.stat().st_size < 10_000
    assert run.read_meta().stdin == text
    with (run.folder / "stdin.txt").open("ab") as file:
        file.write(b"!")
    with pytest.raises(StorageError, match=r"stdin\.txt was changed"):
        run.read_meta()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"schema_version": 1}', b'{"schema_version": "x"}', b"[" * 9999],
)
def test_damaged_metadata_is_one_clear_error(store: RunStore, content: bytes) -> None:
    """Whatever stands in `run.json`, the error names the file."""
    run = store.create(META)
    run.meta_path.write_bytes(content)
    with pytest.raises(StorageError, match=r"run\.json is damaged"):
        run.read_meta()


@pytest.mark.parametrize(("name", "value"), [("command", "rm"), ("params", []), ("stdin", 5)])
def test_metadata_of_a_wrong_type_is_refused(store: RunStore, name: str, value: object) -> None:
    """A field that a hand changed into something else is named."""
    run = store.create(META)
    run.meta_path.write_text(json.dumps(json.loads(run.meta_path.read_text()) | {name: value}))
    with pytest.raises(StorageError, match=f"'{name}'"):
        run.read_meta()


def test_metadata_of_a_newer_swarm_is_refused(store: RunStore) -> None:
    """A higher schema version is not guessed at; unknown fields of ours are ignored."""
    run = store.create(META)
    record = json.loads(run.meta_path.read_text())
    run.meta_path.write_text(json.dumps(record | {"shiny": 1}))
    assert run.read_meta().command == "run"
    run.meta_path.write_text(json.dumps(record | {"schema_version": 2}))
    with pytest.raises(StorageError, match="newer swarm"):
        run.read_meta()


def test_refs(store: RunStore, calendar: Calendar) -> None:
    """A run is found by id, by the end of its id, by `last` and by counting back."""
    made = []
    for _ in range(3):
        made.append(store.create(META))
        calendar.pass_by(minutes=1)
    for run in made:
        assert store.open(run.id) == run
        assert store.open(run.id[-4:]) == run
        assert store.open(run.id[-4:].upper()) == run
    assert store.open("last") == store.open("-1") == made[2]
    assert store.open("-2") == made[1]
    assert store.open("-3") == made[0]


def test_runs_of_one_minute_have_an_order(store: RunStore, calendar: Calendar) -> None:
    """`last` is the last one created, also when several share the minute."""
    made = []
    for _ in range(12):
        made.append(store.create(META))
        calendar.pass_by(milliseconds=3)
    assert [store.open(f"-{back}") for back in range(1, 13)] == made[::-1]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"created": null}'])
def test_a_run_that_says_not_when_it_was_made_is_placed_by_its_folder(
    store: RunStore, calendar: Calendar, content: str | None
) -> None:
    """Between two runs of its minute stands one whose `run.json` is damaged, or not there yet."""
    made: list[RunDir] = []
    for _ in range(9):
        made.append(store.create(META))
        calendar.pass_by(milliseconds=100)
    odd = made[4]
    if content is None:
        odd.meta_path.unlink()
    else:
        odd.meta_path.write_text(content)
    at = calendar.at.timestamp() - 0.5
    os.utime(odd.folder, (at, at))
    assert [store.open(f"-{back}") for back in range(1, 10)] == made[::-1]


def test_an_ambiguous_ref_lists_its_candidates(tmp_path: Path) -> None:
    """Several runs that end alike are all named."""
    make(tmp_path, "20261121-0915-aa3f", "20261121-0916-bb3f", "20261121-0917-cccc")
    with pytest.raises(UsageError, match="20261121-0916-bb3f, 20261121-0915-aa3f") as caught:
        RunStore(tmp_path).open("3f")
    assert caught.value.hint == "swarm runs"


@pytest.mark.parametrize("ref", ["zzzz", "", "-0", "-4", "..", "/", "../runs", "-1x", "first"])
def test_an_unknown_ref_is_a_usage_error(tmp_path: Path, ref: str) -> None:
    """What means no run is refused with a way to look; nothing outside the folder is reached."""
    make(tmp_path, "20261121-0915-aa3f", "20261121-0916-bb3f", "20261121-0917-cccc")
    with pytest.raises(UsageError, match="there is no run") as caught:
        RunStore(tmp_path).open(ref)
    assert caught.value.hint == "swarm runs"


def test_without_runs(store: RunStore, tmp_path: Path) -> None:
    """Looking creates nothing, and says how a first run is started."""
    with pytest.raises(UsageError, match="no runs yet"):
        store.open("last")
    assert store.list() == ()
    assert store.last_unfinished() is None
    assert not (tmp_path / "state").exists()


def test_processes_that_start_together_get_runs_of_their_own(tmp_path: Path) -> None:
    """Runs that start in the same minute in several processes never share a folder."""
    code = (
        "import sys; from pathlib import Path\n"
        "from swarmcli.adapters.runs import RunMeta, RunStore\n"
        "meta = RunMeta(command='run', recipe_source='x', recipe_text='')\n"
        "sys.stdin.readline()\n"
        "store = RunStore(Path(sys.argv[1]))\n"
        "print(*[store.create(meta).id for _ in range(40)])"
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
    ids = [name for process in processes for name in process.communicate()[0].split()]
    assert len(ids) == len(set(ids)) == 120


HOLD = (
    "import sys; from pathlib import Path\n"
    "from swarmcli.adapters.runs import RunDir\n"
    "with RunDir(Path(sys.argv[1])).lock():\n"
    "    print('mine', flush=True)\n"
    "    sys.stdin.read()\n"
)


def test_two_processes_cannot_work_on_one_run(store: RunStore) -> None:
    """The second is told who has it; when the first is killed, the run is free at once."""
    run = store.create(META)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"mine\n"
    assert run.locked()
    assert summary(run).status == "running"
    with (
        pytest.raises(StorageError, match=f"in use by process {holder.pid} on ") as caught,
        run.lock(),
    ):
        pytest.fail("two have it")
    assert run.id in caught.value.hint
    holder.kill()
    holder.communicate()
    assert not run.locked()
    assert summary(run).status == "crashed"
    with run.lock():
        assert run.locked()
    assert not run.locked()


def test_looking_does_not_disturb_the_one_who_starts(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `swarm runs` that tests the lock in the very instant of a start does not make it fail."""
    run = store.create(META)
    with run.lock():
        pass
    looking = (run.folder / "lock").open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(run_lock.time, "sleep", lambda _seconds: looking.close())
    with run.lock():
        assert looking.closed


def test_mkdir_decides_who_has_an_id(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that draw the same letters get two folders, and none is called `last`."""
    draws = iter([b"\0\0\0\0", b"\0\0\0\0", b"\x0b\x00\x12\x13", b"\1\1\1\1"])
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: next(draws) if size == 4 else real(size))
    first, second = store.create(META), store.create(META)
    assert (first.id[-4:], second.id[-4:]) == ("aaaa", "bbbb")


def test_a_folder_that_others_can_write_is_not_worked_in(store: RunStore) -> None:
    """Stored outputs are trusted on resume, so the run's folder must be private."""
    run = store.create(META)
    run.folder.chmod(0o777)
    with pytest.raises(StorageError, match="other users") as caught, run.lock():
        pytest.fail("not refused")
    assert "chmod 700" in caught.value.hint


def test_a_state_folder_that_cannot_be_made_names_swarm_home(tmp_path: Path) -> None:
    """Where nothing can be written, the error names the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create") as caught:
        RunStore(tmp_path / "file" / "state").create(META)
    assert "SWARM_HOME" in caught.value.hint


def test_paths(tmp_path: Path) -> None:
    """The names that DESIGN.md fixes for scripts."""
    run = RunDir(tmp_path / "20261121-0915-7k3f")
    paths = [run.meta_path, run.journal, run.out, run.result_path(".md"), run.report]
    assert [path.name for path in paths] == [
        "run.json",
        "journal.jsonl",
        "out",
        "result.md",
        "report.html",
    ]
