"""Ctrl-C once, twice; SIGTERM; a reader that goes away."""

import signal
import subprocess

import pytest

from tests.e2e.command import COMMAND, Swarm
from tests.e2e.test_resume import finished, wait_for
from tests.fakes.openai_server import Server

RECIPE = """\
version: 1
name: slow
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [quick, slow, queued], as: item}}
"""


def start(swarm: Swarm, server: Server, *flags: str) -> "subprocess.Popen[bytes]":
    """A run of which one agent is done and one hangs."""
    swarm.write("slow.yaml", RECIPE)
    server.faults = lambda seen: "hang" if "slow" in seen.prompt else "ok"
    with (swarm.folder / "stderr").open("wb") as log:
        process = swarm.start(
            "run", "slow.yaml", "-m", "openai/fake", "-j", "1", *flags, stderr=log
        )
    wait_for(lambda: len(server.asked("Do slow")) == 1, "the slow agent")
    wait_for(
        lambda: len(finished(swarm.run_folders()[-1] / "journal.jsonl")) == 1, "the quick agent"
    )
    return process


def stderr(swarm: Swarm) -> str:
    """What the process has said so far."""
    return (swarm.folder / "stderr").read_text()


def test_second_interrupt_stops_now_and_keeps_what_is_done(swarm: Swarm, server: Server):
    """Twice Ctrl-C: exit 130 at once, the finished agent's output is the result, and resume is named."""
    process = start(swarm, server)

    process.send_signal(signal.SIGINT)
    wait_for(lambda: "Stopping" in stderr(swarm), "the word Stopping")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)

    assert process.returncode == 130
    assert b"echo: Do quick" in out
    assert "Ctrl-C again to stop now" in stderr(swarm)
    assert "swarm resume" in stderr(swarm)


def test_the_last_event_of_an_interrupted_run(swarm: Swarm, server: Server):
    """`run.interrupted` ends the stream, with status and exit code."""
    import json

    process = start(swarm, server, "--format", "stream-json")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "Stopping" in stderr(swarm), "the word Stopping")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)

    last = json.loads(out.splitlines()[-1])
    assert (last["type"], last["status"], last["exit_code"]) == (
        "run.interrupted",
        "interrupted",
        130,
    )


def test_sigterm_exits_143(swarm: Swarm, server: Server):
    """SIGTERM gives running agents five seconds, then the run ends with 143 and can be resumed."""
    process = start(swarm, server)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 143
    assert "swarm resume" in stderr(swarm)


def test_interrupt_while_planning(swarm: Swarm, server: Server):
    """Ctrl-C during the planner's call ends the run at once with 130 and an empty stdout."""
    server.faults = lambda seen: "hang" if "You plan work" in seen.text else "ok"
    process = swarm.start("solve", "Compare each of ten databases, in a list.", "-m", "openai/fake")
    wait_for(lambda: len(server.requests) == 1, "the planner's request")

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)

    assert (process.returncode, out) == (130, b"")


def test_a_reader_that_goes_away_is_no_traceback(swarm: Swarm):
    """`swarm schema | head -1` ends by SIGPIPE without a word."""
    done = subprocess.run(  # noqa: S602
        f"{' '.join(COMMAND)} schema | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=swarm.folder,
        env=swarm.env,
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stderr) in {(141, b""), (0, b"")}
    assert done.stdout == b"{"


def test_a_reader_of_events_that_goes_away_stops_the_run(swarm: Swarm, server: Server):
    """`swarm run ... --format stream-json | head -1`: SIGPIPE, no traceback, and the run can be resumed."""
    swarm.write("slow.yaml", RECIPE)
    server.latency_s = 0.3
    done = subprocess.run(  # noqa: S602
        f"{' '.join(COMMAND)} run slow.yaml -m openai/fake -j 1 -q --format stream-json | head -n 1;"
        " exit ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        cwd=swarm.folder,
        env=swarm.env,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (141, b"")
    assert done.stdout.count(b"\n") == 1
    assert swarm("resume").code == 0


@pytest.mark.parametrize(
    ("ignored", "sent", "code"), [("HUP", signal.SIGHUP, 0), ("INT", signal.SIGINT, 130)]
)
def test_signals_that_were_ignored_at_the_start(swarm: Swarm, server: Server, ignored, sent, code):
    """`nohup` is respected; a background job of a shell script, whose SIGINT is ignored, can be ended all the same."""
    swarm.write("slow.yaml", RECIPE)
    server.latency_s = 0.5
    command = " ".join(COMMAND)
    process = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f"trap '' {ignored}; exec {command} run slow.yaml -m openai/fake -j 1 -q",
        ],
        cwd=swarm.folder,
        env=swarm.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: len(server.requests) > 0, "a request")

    process.send_signal(sent)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == code
    assert (b"echo: Do queued" in out) is (code == 0)


def test_closed_streams(swarm: Swarm):
    """Without stderr all is well; without stdout the error says so; neither is a traceback."""
    swarm.write("one.yaml", 'version: 1\nname: one\ntasks: [{id: t, prompt: "Hi."}]\n')
    run = f"{' '.join(COMMAND)} run one.yaml -m openai/fake"

    def shell(line: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=swarm.folder,
            env=swarm.env,
            capture_output=True,
            check=False,
        )

    no_err, no_out = shell(f"{run} 2>&-"), shell(f"{run} -q >&-")

    assert (no_err.returncode, no_err.stdout) == (0, b"echo: Hi.\n")
    assert (no_out.returncode, b"Traceback" in no_out.stderr) == (1, False)
    assert b"standard output is closed" in no_out.stderr
