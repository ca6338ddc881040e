"""The command as a process of its own, without the two seconds that importing LiteLLM takes each time.

`warm_service` starts one process that loads everything and then waits. Each run is a fork of it: another process,
with its own folder, environment, standard streams and exit code, that executes `python -m swarmcli`. What depends on
a cold start is tested elsewhere; a hundred faults are affordable only so.

    python -m tests.e2e.warm     # one order a line on stdin, one answer a line on stdout, all JSON
"""

import gc
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tests.e2e.command import Done, Swarm


class Fork:
    """A running command: as much of `subprocess.Popen` as tests use. Its output goes to files, never to a full pipe."""

    def __init__(self, service: "Service", pid: int, out: Path, err: Path) -> None:
        self._service = service
        self._out, self._err = out, err
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._service.ask(wait=self.pid, timeout_s=0)
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        """The exit code, when it has ended.

        Raises:
            TimeoutError: it hung, and was killed.
        """
        if self.returncode is None:
            self.returncode = self._service.ask(wait=self.pid, timeout_s=timeout)
        if self.returncode is None:
            self.kill()
            self._service.ask(wait=self.pid, timeout_s=10)
            raise TimeoutError(f"did not end in {timeout:g} s\n{self._err.read_text()}")
        return self.returncode

    def communicate(self, timeout: float = 60) -> tuple[bytes, bytes]:
        """What it wrote, when it has ended."""
        self.wait(timeout)
        return self._out.read_bytes(), self._err.read_bytes()

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """To the process, unless it has ended and somebody knows that."""
        if self.returncode is None:
            os.kill(self.pid, number)


class WarmSwarm(Swarm):
    """A user's shell, whose commands are forks of a process that has loaded everything."""

    def __init__(self, cold: Swarm, service: "Service") -> None:
        super().__init__(cold.folder, cold.env)
        self._service = service
        self._number = itertools.count()

    def __call__(
        self,
        *args: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Done:
        """Run to the end; with a `stdin` in a process of its own.

        Raises:
            TimeoutError: it hung.
        """
        if stdin is not None:
            return super().__call__(*args, stdin=stdin, env=env, timeout_s=timeout_s)
        process = self.start(*args, env=env)
        out, err = process.communicate(timeout_s)
        return Done(process.wait(), out, err.decode("utf-8", "replace"))

    def start(self, *args: str, env: Mapping[str, str] | None = None, **more: Any) -> Any:
        """Start and return at once; with settings of `subprocess.Popen` in a process of its own."""
        if more:
            return super().start(*args, env=env, **more)
        number = next(self._number)
        out, err = (self.folder.parent / f"{name}-{number}" for name in ("stdout", "stderr"))
        order = {
            "args": args,
            "folder": str(self.folder),
            "env": {**self.env, **(env or {})},
            "out": str(out),
            "err": str(err),
        }
        pid = self._service.ask(start=order)
        assert pid is not None
        return Fork(self._service, pid, out, err)


class Service:
    """The process that forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **order: Any) -> int | None:
        """`start={...}`: a process id. `wait=pid, timeout_s=1`: its exit code; None when it has not ended by then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def warm_service() -> Generator[Service]:
    """A process that is ready when this returns, and gone afterwards."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.warm"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Service(process)


def _become(order: dict[str, Any]) -> NoReturn:
    """The fork turns into the command; never returns."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["env"])
    for fd, (path, flags) in enumerate(
        (
            ("/dev/null", os.O_RDONLY),
            (order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (order["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        )
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    sys.argv = ["swarm", *order["args"]]
    runpy.run_module("swarmcli", run_name="__main__")
    sys.exit(0)


def _await(pid: int, timeout_s: float) -> int | None:
    end = time.monotonic() + timeout_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def main() -> None:
    """Load, say so, and carry out one order a line."""
    from swarmcli.adapters.litellm_library import LIBRARY

    LIBRARY.start().result()
    assert threading.active_count() == 1, "a fork has only the thread that made it"
    gc.freeze()
    os.write(1, b"ready\n")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = _await(order["wait"], order["timeout_s"])
        else:
            answer = os.fork()
            if not answer:
                _become(order["start"])
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
