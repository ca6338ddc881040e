"""kill -9 with money in flight: what was sent is counted, and the cap holds over all sessions."""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.command import Swarm
from tests.e2e.test_resume import wait_for
from tests.fakes.openai_server import Reply, Server

pytestmark = pytest.mark.warm

RECIPE = """\
version: 1
name: paid
models:
  small: {model: openai/fake, max_output_tokens: 100, price: {input_per_mtok: 1000, output_per_mtok: 1000}}
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [a, b, c, d, e, f, g, h], as: item}}
"""
TOKENS = (100, 100)
"""Of each answer: 20 cents."""


def killed_in_flight(swarm: Swarm, server: Server, *flags: str, sent: int) -> None:
    """Start a run, and kill it while some of its calls are in flight, all of them in the journal."""
    swarm.write("paid.yaml", RECIPE)
    server.reply = lambda _body: Reply(text="done", tokens=TOKENS)
    server.latency_s = 0.4
    process = swarm.start("run", "paid.yaml", "--cache", "off", "-j", "2", *flags)
    wait_for(lambda: len(swarm.run_folders()) == 1, "the run's folder")
    journal = swarm.run_folders()[0] / "journal.jsonl"
    wait_for(lambda: started(journal) == len(server.requests) >= sent, f"{sent} calls")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.latency_s = 0.0


def started(journal: Path) -> int:
    """How many calls the journal says have left."""
    return journal.read_bytes().count(b'"type":"call.started"') if journal.exists() else 0


def test_calls_of_a_killed_session_are_counted(swarm: Swarm, server: Server):
    """Each request that the server has seen is a call; what the cut-off ones cost is unknown, and booked."""
    killed_in_flight(swarm, server, sent=3)
    cut_off = len(server.requests)

    done = swarm("resume", "last", "--json")

    document = done.json
    answered = sum(seen.ended_at is not None and not seen.disconnected for seen in server.requests)
    assert (done.code, document["status"]) == (0, "ok")
    assert document["usage"]["calls"] == len(server.requests) > cut_off
    assert document["cost_usd"] is None
    assert document["usage"]["output_tokens"] == 8 * TOKENS[1]
    assert answered >= 8
    assert document["booked"]["cost_usd"] > 8 * 0.2


def test_a_cap_holds_over_killed_sessions(swarm: Swarm, server: Server):
    """With the same cap the resumed run has less left: what may have been charged is not spent again."""
    killed_in_flight(swarm, server, "--max-cost", "1.3", sent=3)

    done = swarm("resume", "last", "--json")

    document = done.json
    assert (done.code, document["status"]) == (4, "budget")
    assert document["booked"]["cost_usd"] <= 1.3
    assert len(server.requests) * sum(TOKENS) / 1000 <= 1.3

    more = swarm("resume", "last", "--max-cost", "10", "--json")

    assert (more.code, json.loads(more.text)["agents"]["done"]) == (0, 8)
