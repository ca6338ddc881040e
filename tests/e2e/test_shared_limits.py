"""Several swarm commands of one user at the same time: the provider sees one limit, not one for each."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Swarm
from tests.e2e.test_resume import wait_for
from tests.fakes.openai_server import Server
from tests.fakes.traffic import busiest

pytestmark = pytest.mark.warm

RECIPE = """\
version: 1
name: {name}
models: {{small: openai/fake, large: small}}
rate: {{"openai/*": {rate}}}
tasks:
  - {{id: each, prompt: "{name} {{{{ item }}}}", for_each: {{items: [{items}], as: item}}}}
merge: {{strategy: concat}}
"""


class Commands:
    """Runs recipes beside each other and reads what they report while they run."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.started: list[subprocess.Popen[bytes]] = []

    def recipe(self, name: str, rate: str, items: int) -> Sequence[str]:
        """The arguments that run so many requests under a declared limit."""
        listed = ", ".join(str(number) for number in range(items))
        self.swarm.write(f"{name}.yaml", RECIPE.format(name=name, rate=rate, items=listed))
        return ["run", f"{name}.yaml", "-j", "50", "--events", f"{name}.jsonl"]

    def start(self, name: str, rate: str, items: int) -> "subprocess.Popen[bytes]":
        process = self.swarm.start(*self.recipe(name, rate, items))
        self.started.append(process)
        return process

    def events(self, name: str) -> list[dict[str, Any]]:
        """What a command has reported so far; a line that is being written is left out."""
        path = self.swarm.folder / f"{name}.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def is_held_up(self, name: str) -> bool:
        """Whether a command has said that a limit holds it up."""
        return any(event["type"] == "limit.waiting" for event in self.events(name))

    def wait_until_held_up(self, *names: str) -> None:
        """Return when each of these commands has said so."""
        wait_for(lambda: all(map(self.is_held_up, names)), "a limit to hold them up", 90)

    def wait_for_requests(self, server: Server, number: int) -> None:
        """Return when at least so many have arrived."""
        wait_for(lambda: len(server.requests) >= number, f"{number} requests", 90)

    @property
    def limits(self) -> Path:
        return self.swarm.home / "state" / "limits"


@pytest.fixture
def commands(swarm: Swarm) -> Iterator[Commands]:
    running = Commands(swarm)
    yield running
    for process in running.started:
        process.kill()
        process.wait()


def test_no_more_at_once_than_declared_over_all_commands(commands: Commands, server: Server):
    """While one command has all four slots, even stopped by Ctrl-Z, the others send nothing; then all finish."""
    server.latency_s = 3.0  # time to stop the command in
    first = commands.start("first", "{parallel: 4}", 4)
    commands.wait_for_requests(server, 4)
    first.send_signal(signal.SIGSTOP)
    others = [commands.start(name, "{parallel: 4}", 5) for name in ("second", "third")]
    commands.wait_until_held_up("second", "third")
    assert len(server.requests) == 4
    server.latency_s = 0.05
    first.send_signal(signal.SIGCONT)
    assert [process.wait() for process in (first, *others)] == [0, 0, 0]
    assert len(server.requests) == 14
    assert server.peak == 4
    assert sorted(path.name for path in commands.limits.iterdir()) == ["books-1.db", "lock"]


def test_a_killed_command_leaves_its_slots_to_the_others(commands: Commands, server: Server):
    """kill -9 of the command that held all slots, and the one that waited goes on."""
    server.latency_s = 3.0  # time to stop the command in
    first = commands.start("first", "{parallel: 2}", 2)
    commands.wait_for_requests(server, 2)
    first.send_signal(signal.SIGSTOP)
    second = commands.start("second", "{parallel: 2}", 3)
    commands.wait_until_held_up("second")
    assert len(server.requests) == 2
    server.latency_s = 0.0
    first.kill()
    assert second.wait() == 0
    assert len(server.requests) == 5


def test_one_minute_for_all_commands(commands: Commands, server: Server):
    """Six a minute are six, whoever sends them; another key has a minute of its own."""
    names = ("first", "second", "third")
    started = [commands.start(name, "{rpm: 6}", 7) for name in names]
    commands.wait_until_held_up(*names)
    commands.wait_for_requests(server, 6)
    for process in started:
        process.kill()
        process.wait()
    assert busiest([seen.at for seen in server.requests]) == 6
    asked = len(server.requests)
    other_key = {"OPENAI_API_KEY": "sk-another-key"}
    done = commands.swarm(*commands.recipe("fourth", "{rpm: 6}", 6), env=other_key)
    assert done.code == 0, done.err
    assert len(server.requests) == asked + 6
    assert not commands.is_held_up("fourth")


def test_nothing_is_kept_where_nothing_is_declared(commands: Commands, server: Server):
    """Without declared limits, and when all answers come from the cache, no file is made for them."""
    assert commands.swarm("solve", "Say hello.", "-m", "openai/fake", "--mode", "instant").code == 0
    assert not commands.limits.exists()
    declared = commands.recipe("declared", "{rpm: 6, parallel: 2}", 2)
    assert commands.swarm(*declared).code == 0
    for path in commands.limits.iterdir():
        path.unlink()
    commands.limits.rmdir()
    asked = len(server.requests)
    assert commands.swarm(*declared).code == 0
    assert len(server.requests) == asked
    assert not commands.limits.exists()


def test_a_folder_that_cannot_be_used_is_one_warning(commands: Commands, server: Server):
    """The run keeps to its limit by itself, and says once that others are not counted."""
    commands.limits.parent.mkdir(parents=True, mode=0o700)
    commands.limits.write_text("in the way")
    server.latency_s = 0.05
    done = commands.swarm(*commands.recipe("alone", "{parallel: 2}", 6))
    assert done.code == 0, done.err
    assert server.peak == 2
    assert done.err.count("limits are not shared with other swarm runs") == 1
