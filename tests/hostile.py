"""Plans that no planner should answer with, and what each of them costs the real command.

    .venv/bin/python -m tests.hostile       # seconds over those of a good plan, behind a server without latency

A planner is told its fault and asked once more. `repaired`: its second plan is a good one. `refused`: it is as bad.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fakes.openai_server import Server, serve

ROUNDS = 3
_TASK = "Compare apples, pears and plums for a bakery, each by price, taste and shelf life."


def _tasks(*entries: object) -> str:
    return json.dumps({"tasks": list(entries)})


def _long_cycle(size: int) -> str:
    return _tasks(
        *(
            {"id": f"t{i}", "prompt": f"p{i}", "depends_on": [f"t{(i + 1) % size}"]}
            for i in range(size)
        )
    )


def _everything_needs_everything(size: int) -> str:
    ids = [f"t{i}" for i in range(size)]
    return _tasks(*({"id": i, "prompt": f"do {i}", "depends_on": ids} for i in ids))


PLANS = {
    "a cycle of 5,000": _long_cycle(5000),
    "a cycle within bounds": _long_cycle(60),
    "500 that all need each other": _everything_needs_everything(500),
    "20,000 tasks": _tasks(*({"id": f"t{i}", "prompt": "p"} for i in range(20_000))),
    "the same id 5,000 times": _tasks(*({"id": "t", "prompt": f"p{i}"} for i in range(5000))),
    "3 MB of blanks": '{"tasks": [' + " " * 3_000_000,
    "100,000 open braces": "{" * 100_000,
    "100,000 open brackets": '{"tasks": ' + "[" * 100_000,
    "a number of a million digits": '{"tasks": [{"id": ' + "9" * 1_000_000 + "}]}",
    "half a string": '{"tasks": [{"id": "a", "prompt": "' + "x" * 200_000,
    "unknown needs": _tasks(
        *({"id": f"t{i}", "prompt": "p", "depends_on": [f"x{i}"]} for i in range(60))
    ),
    "ids of another world": _tasks({"id": "../../etc/passwd\x00", "prompt": "p"}),
    "a mode of its own": '{"mode": "nuclear", "tasks": []}',
    "a mode that is a list": '{"mode": ["instant"]}',
    "tasks that are left out": '{"tasks": [{"id": "t1", "prompt": "p"}, ..., {"id": "t30", "prompt": "p"}]}',
    "null": '{"tasks": null}',
}
"""What a planner answers with."""


def _seconds(server: Server, folder: Path, answers: Sequence[str]) -> tuple[float, int]:
    """Median wall time of the whole process, and its exit code; the planner gives these answers one by one."""
    command = [sys.executable, "-m", "swarmcli", "solve", _TASK, "-q", "--cache", "off"]
    env = {**server.env, "HOME": str(folder), "SWARM_MODEL": "openai/fake", "PATH": "/usr/bin:/bin"}
    walls: list[float] = []
    code = 0
    for _ in range(ROUNDS):
        left = list(answers)
        server.routes[:] = [
            ("You plan work", lambda _body, left=left: left.pop(0) if len(left) > 1 else left[0])
        ]
        started = time.perf_counter()
        done = subprocess.run(command, env=env, capture_output=True, timeout=120, check=False)
        walls.append(time.perf_counter() - started)
        code = done.returncode
    return statistics.median(walls), code


def main() -> None:
    """Each plan, repaired and refused, over a good plan."""
    good = _tasks({"id": "t1", "prompt": "Only this."})
    with serve(chunk_chars=100_000) as server, tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        usual, _ = _seconds(server, folder, [good])
        sys.stdout.write(f"{'a good plan':32} {usual:.2f} s\n")
        for name, plan in PLANS.items():
            repaired, code = _seconds(server, folder, [plan, good])
            refused, refusal = _seconds(server, folder, [plan])
            sys.stdout.write(
                f"{name:32} repaired {repaired - usual:+.2f} s (exit {code})"
                f"   refused {refused - usual:+.2f} s (exit {refusal})\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
