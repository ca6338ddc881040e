"""The command line inside this process: LiteLLM is loaded once, so many cases stay quick."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarmcli.cli.main import run_command
from tests.fakes.openai_server import Server, serve


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands in a folder of its own, as `swarm ...` would."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(
        self, *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        for name, value in (env or {}).items():
            self._monkeypatch.setenv(name, value)
        with self._stdin(stdin) as stream:
            self._monkeypatch.setattr(sys, "stdin", stream)
            self._capfd.readouterr()
            code = run_command(list(args))
        out, err = self._capfd.readouterr()
        return Done(code, out, err)

    def _stdin(self, text: str | None) -> io.TextIOWrapper:
        """A real file: commands look at its kind. Without text it is the null device."""
        path = Path("/dev/null")
        if text is not None:
            path = self.folder.parent / "stdin"
            path.write_text(text)
        return path.open("r", encoding="utf-8")

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def recipe(self, body: str, name: str = "demo") -> str:
        """A recipe file with the two lines that all have; its path."""
        return str(self.write(f"{name}.yaml", f"version: 1\nname: {name}\n{body}"))


@pytest.fixture
def server() -> Iterator[Server]:
    """A loopback model server that echoes; a test changes its script."""
    with serve() as running:
        yield running


@pytest.fixture
def shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    server: Server,
) -> Shell:
    """A folder and an environment in which `openai/` models are the server."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SWARM_MODEL", "openai/fake")
    return Shell(folder, monkeypatch, capfd)


Planner = Callable[..., str]


@pytest.fixture
def plan_of() -> Planner:
    """Plan v1 as a planner's answer: ids and prompts, optional dependencies."""

    def make(**prompts: Any) -> str:
        tasks = []
        for task_id, value in prompts.items():
            prompt, needs = (value, []) if isinstance(value, str) else value
            tasks.append({"id": task_id, "prompt": prompt, "depends_on": needs})
        return json.dumps({"tasks": tasks})

    return make
