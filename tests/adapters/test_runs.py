"""Run folders: ids, refs, what was asked, how it went, and who works on it."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swarmcli.adapters import runs
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.journal import EventLog
from swarmcli.adapters.runs import AgentCounts, RunDir, RunMeta, RunStore, summary
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    CallCompleted,
    Event,
    Failure,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from swarmcli.errors import StorageError, UsageError

ROOT = Path(__file__).parents[2]
META = RunMeta(command="run", recipe_source="recipes/audit.yaml", recipe_text="name: audit\n")


class Calendar:
    """A wall clock that moves when told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, 9, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, **time: float) -> None:
        self.at += timedelta(**time)


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def store(tmp_path: Path, calendar: Calendar) -> RunStore:
    return RunStore(tmp_path / "state", now=calendar)


def tell(run: RunDir, *story: Event) -> None:
    """Journal `story` as one session of `run`."""

    async def session() -> None:
        log = EventLog(run.journal, run=run.id, clock=SystemClock())
        for event in story:
            log.emit(event)
        await log.close()

    asyncio.run(session())


def end(status: str, exit_code: int, **totals: object) -> RunCompleted:
    return RunCompleted(status=status, exit_code=exit_code, result="text", totals=totals)


STARTED = RunStarted(recipe="audit", models={"small": "openai/gpt-5-mini"})


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


def make(store_path: Path, *ids: str) -> None:
    for name in ids:
        (store_path / "runs" / name).mkdir(parents=True)


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
    monkeypatch.setattr(runs.time, "sleep", lambda _seconds: looking.close())
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


def test_a_finished_run_is_told_by_its_last_event(store: RunStore) -> None:
    """Status, counts, cost and time come from the totals; a huge result does not matter."""
    run = store.create(META)
    totals = {
        "agents": {"total": 9, "done": 7, "failed": 2, "skipped": 0, "cached": 3, "hedged": 1},
        "cost_usd": 0.25,
        "duration_s": 12.5,
    }
    last = RunCompleted(status="partial", exit_code=3, result="x" * 900_000, totals=totals)
    tell(run, STARTED, last)
    told = summary(run)
    assert (told.id, told.recipe, told.status) == (run.id, "audit", "partial")
    assert told.agents == AgentCounts(total=9, done=7, failed=2, skipped=0, cached=3)
    assert (told.cost_usd, told.duration_s) == (0.25, 12.5)
    assert told.started == "2026-11-21T09:15:00.000000Z"


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (end("ok", 0), "ok"),
        (end("budget", 4), "budget"),
        (end("timeout", 124), "timeout"),
        (end("novelty", 0), "failed"),
        (RunFailed(status="failed", exit_code=1), "failed"),
        (RunInterrupted(status="interrupted", exit_code=130), "interrupted"),
    ],
)
def test_every_end_has_a_status(store: RunStore, last: Event, status: str) -> None:
    """Each way to end is a status; an unknown price stays unknown."""
    run = store.create(META)
    tell(run, STARTED, last)
    assert summary(run).status == status
    assert summary(run).cost_usd is None


def test_a_crashed_run_is_counted(store: RunStore) -> None:
    """Without an end, the events are counted; an agent that failed and then succeeded is done."""
    run = store.create(META)
    tell(
        run,
        STARTED,
        *(PlanTask(agent=name, group=name, prompt="p") for name in "abcde"),
        AgentStarted(agent="a", model="m", prompt='"type":"agent.failed","agent":"x"'),
        CallCompleted(model="m", purpose="agent", seconds=1, cost_usd=0.5, agent="a"),
        CallCompleted(model="m", purpose="agent", seconds=1, cost_usd=0.25, agent="b"),
        AgentFailed(agent="a", error=Failure(kind="server", message="502")),
        AgentFailed(agent="b", error=Failure(kind="server", message="502")),
        AgentSkipped(agent="c", because="b failed"),
        AgentCompleted(agent="a", output="x", cached=True),
    )
    with run.journal.open("ab") as file:
        file.write(b"0badc0de {torn")
    told = summary(run)
    assert told.status == "crashed"
    assert told.agents == AgentCounts(total=5, done=1, failed=1, skipped=1, cached=1)
    assert told.cost_usd == 0.75
    assert told.duration_s is not None


def test_a_resumed_run_is_unfinished_until_its_new_end(store: RunStore) -> None:
    """The end of an earlier session does not count once the run goes on."""
    run = store.create(META)
    tell(run, STARTED, RunInterrupted(status="interrupted", exit_code=130))
    tell(run, RunStarted(recipe="audit", models={}, resumed=True))
    with run.lock():
        assert summary(run).status == "running"
    assert summary(run).status == "crashed"


def test_the_list_is_newest_first_and_survives_anything(
    store: RunStore, tmp_path: Path, calendar: Calendar
) -> None:
    """Broken folders are rows of their own, strangers are ignored, and nothing raises."""
    fine = store.create(META)
    tell(fine, STARTED, end("ok", 0))
    calendar.pass_by(minutes=1)
    broken = store.create(META)
    broken.meta_path.write_text("{")
    calendar.pass_by(minutes=1)
    odd = store.create(META)
    odd.journal.mkdir()
    make(tmp_path / "state", "20270101-0000-aaaa", "20261399-9999-aaaa", "not-a-run")
    (tmp_path / "state" / "runs" / "README").write_text("hello")
    listed = [(row.id, row.status) for row in store.list()]
    assert listed == [
        ("20270101-0000-aaaa", "unreadable"),
        ("20261399-9999-aaaa", "unreadable"),
        (odd.id, "unreadable"),
        (broken.id, "unreadable"),
        (fine.id, "ok"),
    ]
    assert all(row.problem for row in store.list()[:4])


def test_the_last_unfinished_run(store: RunStore, calendar: Calendar) -> None:
    """`swarm resume` takes the newest run that fell short: not a whole one, not one at work."""
    unfinished, at_work, whole, broken = (
        [store.create(META), calendar.pass_by(minutes=1)][0] for _ in range(4)
    )
    tell(unfinished, STARTED, end("budget", 4))
    tell(whole, STARTED, end("ok", 0))
    broken.meta_path.unlink()
    with at_work.lock():
        assert store.last_unfinished() == unfinished
    assert store.last_unfinished() == at_work


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
