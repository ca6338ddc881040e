"""The command and a server for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import Swarm, environment
from tests.e2e.warm import Service, WarmSwarm, warm_service
from tests.fakes.openai_server import Server, serve


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that echoes; a test may change its script."""
    with serve() as running:
        yield running


@pytest.fixture
def cold(tmp_path: Path, server: Server) -> Swarm:
    """The command on a machine whose `openai/` models are the server."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Swarm(folder, environment(tmp_path, **server.env))


@pytest.fixture
def swarm(request: pytest.FixtureRequest, cold: Swarm) -> Swarm:
    """The same; where a test is marked `warm`, without the seconds that each process takes to load."""
    if request.node.get_closest_marker("warm") is None:
        return cold
    return WarmSwarm(cold, request.getfixturevalue("warm_processes"))


@pytest.fixture(scope="session")
def warm_processes() -> Iterator[Service]:
    """Makes the processes of all tests that are marked `warm`."""
    with warm_service() as service:
        yield service


@pytest.fixture
def keyless(tmp_path: Path) -> Swarm:
    """The command on a machine without any key or model."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Swarm(folder, environment(tmp_path, OLLAMA_HOST="127.0.0.1:9"))
