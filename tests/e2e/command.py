"""The real command as a user starts it: a subprocess with its own HOME and a server of ours behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "swarmcli"]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """stdout as text."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """stdout as one JSON object a line."""
        return [json.loads(line) for line in self.out.decode().splitlines()]


class Swarm:
    """A user's shell: a folder, an environment, and the command."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)

    def __call__(
        self,
        *args: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Done:
        """Run to the end."""
        done = subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, **more: Any
    ) -> "subprocess.Popen[bytes]":
        """Start and return at once; for signals."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        }
        return subprocess.Popen(
            [*COMMAND, *args], cwd=self.folder, env={**self.env, **(env or {})}, **settings
        )

    def write(self, name: str, text: str) -> Path:
        """A file in the user's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def home(self) -> Path:
        """What SWARM_HOME names."""
        return Path(self.env["SWARM_HOME"])

    def run_folders(self) -> Sequence[Path]:
        """The run folders, oldest first."""
        runs = self.home / "state" / "runs"
        return sorted(runs.iterdir()) if runs.is_dir() else []


def environment(home: Path, **more: str) -> dict[str, str]:
    """A new machine's environment: no key, no terminal, an empty HOME."""
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "VIRTUAL_ENV", "TMPDIR"}}
    return {**kept, "HOME": str(home), "SWARM_HOME": str(home / "swarm"), **more}
