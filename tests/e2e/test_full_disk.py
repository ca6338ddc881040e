"""No room left, or a disk that fails: the run stops cleanly, says how to go on, and goes on when there is room."""

import resource
from collections import Counter

import pytest

from tests.e2e.command import Swarm
from tests.e2e.torture import SMALL, agent_of, expected_of_small, finished, one_large, short
from tests.fakes.openai_server import Server

pytestmark = pytest.mark.warm

RUN = ["run", "small.yaml", "-m", "openai/fake", "--cache", "off", "-j", "2"]


@pytest.fixture
def small(swarm: Swarm, server: Server) -> Swarm:
    """The small recipe, whose last agent's answer shows whether all inputs were whole."""
    swarm.write("small.yaml", SMALL)
    server.reply = short
    return swarm


def room_for(size: int) -> None:
    """In the child: no file may grow beyond this, as when the disk is full. Works for root too."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_under_the_journal(small: Swarm, server: Server):
    """Exit 1, the reason and the next command; what was durable is not asked again."""
    assert small(*RUN, "-q").code == 0
    (undisturbed,) = small.run_folders()
    enough = (undisturbed / "journal.jsonl").stat().st_size
    server.requests.clear()
    process = small.start(*RUN, "-q", preexec_fn=lambda: room_for(enough * 2 // 3))
    _, err = process.communicate(timeout=60)
    (folder,) = set(small.run_folders()) - {undisturbed}
    durable = finished(folder)
    before = len(server.requests)

    done = small("resume", folder.name)

    assert process.returncode == 1
    assert f"error: cannot write {folder}/journal.jsonl: File too large" in err.decode()
    assert f"then: swarm resume {folder.name}" in err.decode()
    assert "Traceback" not in err.decode()
    assert 0 < len(durable) < 7
    assert (done.code, done.out) == (0, expected_of_small(server)), done.err
    again = Counter(agent_of(seen.prompt) for seen in server.requests[before:])
    assert again.keys().isdisjoint(durable)


@pytest.mark.parametrize(
    ("failpoint", "reason"),
    [
        ("journal.write:enospc:6", "No space left on device"),
        ("journal.synced:eio:2", "Input/output error"),
        ("output.stored:enospc:1", "No space left on device"),
        ("file.written:enospc:2", "No space left on device"),
    ],
)
def test_a_disk_that_fails_once(small: Swarm, server: Server, failpoint: str, reason: str):
    """Under the journal or under a large output: never a success, and the next session is whole."""
    server.reply = one_large

    failed = small(*RUN, "-q", env={"SWARM_FAILPOINT": failpoint})
    (folder,) = small.run_folders()
    done = small("resume")

    assert failed.code == 1
    assert f"journal.jsonl: {reason}" in failed.err
    assert f"then: swarm resume {folder.name}" in failed.err
    assert (done.code, done.out) == (0, expected_of_small(server)), done.err


def test_no_room_to_resume_says_once_how_to_go_on(small: Swarm, server: Server):
    """Where not even the session's first line is kept, there is nothing to sum up: the error has the last word."""
    assert small(*RUN, env={"SWARM_FAILPOINT": "journal.write:enospc:6"}).code == 1
    (folder,) = small.run_folders()

    failed = small("resume", env={"SWARM_FAILPOINT": "journal.write:enospc:1"})

    assert (failed.code, failed.out) == (1, b"")
    assert failed.err.endswith(f"then: swarm resume {folder.name}\n"), failed.err


def test_no_room_to_begin_leaves_nothing_behind(small: Swarm, server: Server):
    """Not even what was asked can be stored: no call, no run, and the reason."""
    failed = small(*RUN, env={"SWARM_FAILPOINT": "file.written:enospc:1"})

    assert (failed.code, failed.out, server.requests) == (1, b"", [])
    assert "run.json: No space left on device" in failed.err
    assert not small.run_folders()


@pytest.mark.parametrize("output", ["/dev/full", "out.txt"])
def test_no_room_for_the_output_file(small: Swarm, server: Server, output: str):
    """The result is paid for and kept: the error says how to get it without another call."""
    fault = {} if output == "/dev/full" else {"SWARM_FAILPOINT": "file.synced:enospc:3"}
    failed = small(*RUN, "-q", "-o", output, env=fault)
    (folder,) = small.run_folders()
    calls = len(server.requests)
    done = small("resume", folder.name, "-o", "second.txt")

    assert (failed.code, failed.out) == (1, b"")
    assert f"cannot write {output}: No space left on device" in failed.err
    assert f"then: swarm resume {folder.name} delivers the result again" in failed.err
    assert (done.code, len(server.requests)) == (0, calls)
    assert (small.folder / "second.txt").read_bytes() == expected_of_small(server)
    assert sorted(path.name for path in small.folder.iterdir()) == ["second.txt", "small.yaml"]


def test_no_room_on_standard_output(small: Swarm, server: Server):
    """`swarm run ... > file` on a full disk is no success."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
        process = small.start(*RUN, "-q", stdout=full)
        _, err = process.communicate(timeout=60)
    (folder,) = small.run_folders()

    assert process.returncode == 1
    assert "cannot write standard output: No space left on device" in err.decode()
    assert f"swarm resume {folder.name} delivers the result again" in err.decode()
    assert small("resume", folder.name).out == expected_of_small(server)


def test_no_room_for_the_kept_result_or_the_events(small: Swarm, server: Server):
    """Both are copies: the result is delivered, and the stream says that it is incomplete."""
    kept = small(*RUN, "-q", env={"SWARM_FAILPOINT": "file.written:enospc:2"})
    events = small(*RUN, "-q", "--events", "/dev/full")

    assert (kept.code, kept.out) == (0, expected_of_small(server)), kept.err
    assert (events.code, events.out) == (0, kept.out), events.err
    assert "/dev/full is incomplete: No space left on device" in events.err


def test_no_room_for_the_cache(small: Swarm, server: Server):
    """The cache is a convenience: the run is whole without it, and says so once."""
    process = small.start(*RUN[:4], preexec_fn=lambda: room_for(30_000))
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (0, expected_of_small(server)), err
    told = [line for line in err.decode().splitlines() if "cache" in line]
    assert len(told) == 1, err


def test_a_run_that_is_taken_from_its_process_stops(small: Swarm, server: Server):
    """Somebody writes to its journal (a disk without locks): no success, and not a byte over the other's."""
    server.latency_s = 0.3
    process = small.start(*RUN, "-q")
    while not small.run_folders() or not finished(small.run_folders()[0]):
        assert process.poll() is None
    (folder,) = small.run_folders()
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(b"somebody else\n")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "this one has lost the run" in err.decode()
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\nsomebody else\n")
