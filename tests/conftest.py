"""What every test gets: no network but loopback, no real HOME, no keys, a fixed terminal."""

import os
import signal
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PIP_",
    "UV_",
    "XDG_RUNTIME",
)
"""Variables that a test may see of the machine that it runs on."""


def pytest_configure() -> None:
    """A runner in the background of a shell script ignores Ctrl-C, and so would all processes that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No keys, no settings, an empty HOME: as on a new machine."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if not name.startswith((*KEPT, "PYTEST", "HYPOTHESIS", "SWARM_TEST_", "COV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SWARM_HOME", str(home / "swarm"))
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would reach out of this machine fails at once, and says where to."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
            host = str(address[0])
            if host != "localhost" and not ip_address(host).is_loopback:
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The embedded model's real weights; pulled once into the cache that `make demo` uses too."""
    from swarmcli.adapters import weights
    from swarmcli.adapters.folders import Folders

    named = os.environ.get("SWARM_TEST_MODEL_CACHE")
    cache = Path(named) if named else Folders.locate(os.environ).cache
    return weights.pull_smollm2(cache, report=lambda _: None)


@pytest.fixture
def checkout() -> Path:
    """The top of this repository."""
    return Path(__file__).resolve().parent.parent
