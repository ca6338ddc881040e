"""The first run of a new user: a real plan, real agents and a merged result from the embedded model."""

from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from tests.e2e.command import Swarm


@pytest.fixture
def machine(keyless: Swarm, gguf: Path) -> Swarm:
    """No key, no Ollama, and the weights where `swarm models pull smollm2` puts them."""
    models = keyless.home / "cache" / "models"
    models.mkdir(parents=True, mode=0o700)
    for folder in (keyless.home, keyless.home / "cache"):
        folder.chmod(0o700)
    (models / gguf.name).symlink_to(gguf)
    return keyless


def test_quickstart_runs_on_the_embedded_model(machine: Swarm):
    """Without any key: the embedded model plans, at least three agents work at once, and their answers are merged."""
    done = machine("run", "quickstart", "--format", "stream-json", timeout_s=110)

    events = done.events
    ended = [e for e in events if e["type"] == "agent.completed"]
    assert done.code == 0
    assert {e["model"] for e in ended} == {"embedded/smollm2"}
    assert len(ended) >= 3
    assert all(len(e["output"]) > 20 for e in ended)
    assert all(e["output"] in events[-1]["result"] for e in ended)
    assert "135M parameters" in done.err


def test_agents_overlap_in_time(machine: Swarm):
    """Two agents at least are at work at the same moment."""
    events = machine("run", "quickstart", "--format", "stream-json", timeout_s=110).events

    spans: dict[str, list[datetime]] = {}
    for event in events:
        if event["type"] in {"agent.started", "agent.completed"}:
            spans.setdefault(event["agent"], []).append(datetime.fromisoformat(event["ts"]))
    assert any(a[0] < b[1] and b[0] < a[1] for a, b in combinations(spans.values(), 2))


def test_the_second_quickstart_calls_nothing(machine: Swarm):
    """The same command again: the same result from the cache, without loading the model."""
    first = machine("run", "quickstart", timeout_s=110)
    second = machine("run", "quickstart", "--json", timeout_s=110)

    assert second.json["result"] + "\n" == first.text
    assert second.json["usage"]["calls"] == 0
