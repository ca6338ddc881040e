"""The command as a process of its own, without the two seconds that importing LiteLLM takes each time.

`warm_command` starts one process that loads everything and then waits. Each run is a fork of it: another process,
with its own folder, environment, standard streams and exit code, that executes `python -m swarmcli`. What depends on
a cold start is tested elsewhere; a hundred faults are affordable only so.

    python tests/e2e/warm.py     # one JSON object a line on stdin, one exit code a line on stdout
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tests.e2e.command import Done, Swarm

HUNG = 124 + 256
"""In place of an exit code: it did not end in time and was killed."""


class Warm:
    """Runs commands in forks of a process that has loaded everything."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, swarm: Swarm, *args: str, timeout_s: float = 30, **env: str) -> Done:
        """Run to the end, in the user's folder and environment.

        Raises:
            TimeoutError: it hung.
        """
        out, err = swarm.folder.parent / "stdout", swarm.folder.parent / "stderr"
        order: dict[str, Any] = {
            "args": args,
            "folder": str(swarm.folder),
            "env": {**swarm.env, **env},
            "out": str(out),
            "err": str(err),
            "timeout_s": timeout_s,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        said = err.read_bytes().decode("utf-8", "replace")
        if code == HUNG:
            raise TimeoutError(f"did not end in {timeout_s:g} s: {args}\n{said}")
        return Done(code, out.read_bytes(), said)


@contextmanager
def warm_command() -> Iterator[Warm]:
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
        yield Warm(process)


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


def _await(pid: int, timeout_s: float) -> int:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return HUNG


def main() -> None:
    """Load, say so, and fork for each line."""
    from swarmcli.adapters import litellm_client

    litellm_client._LIBRARY.start().result()
    assert threading.active_count() == 1, "a fork has only the thread that made it"
    gc.freeze()
    os.write(1, b"ready\n")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order)
        os.write(1, b"%d\n" % _await(pid, order["timeout_s"]))


if __name__ == "__main__":
    main()
