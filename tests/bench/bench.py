"""What swarm costs, as ratios measured in one go: whole processes against a loopback server with a fixed latency.

    python tests/bench/bench.py [--n 300] [--repeat 3] [--latency 0.5] [--json]

The client is pinned to core 0 and the server to core 1, where there are two. Nothing is asserted: times depend on
the machine and on who else uses it; the ratios travel.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SERVER = HERE.parent / "fakes" / "openai_server.py"
SWARM = shutil.which("swarm", path=str(Path(sys.executable).parent)) or "swarm"

RECIPE = """\
version: 1
name: bench
tasks:
  - {{id: scan, prompt: "Look at item {{{{ item }}}}.", for_each: {{items: "{{{{ range({n}) | list }}}}", as: item}}}}
  - {{id: report, prompt: "Sum up.", depends_on: [scan]}}
"""


class Cost(NamedTuple):
    """What one process took."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def pin(core: int) -> list[str]:
    """The words before a command that keep it on one core."""
    two_cores = len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else False
    return ["taskset", "-c", str(core)] if two_cores and shutil.which("taskset") else []


def run(command: Sequence[str], env: Mapping[str, str]) -> Cost:
    """Run a command to its end on core 0; its own output is only shown when it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen([*pin(0), *command], env=env, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()[-2000:]}")
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """The middle of each figure."""
    return Cost(*(statistics.median(figure) for figure in zip(*costs, strict=True)))


def dependant_delay_ms(events: Path) -> float:
    """From the last input's `agent.completed` to the dependant's `agent.started`."""
    records = [json.loads(line) for line in events.read_text().splitlines()]
    inputs = [
        r["t"]
        for r in records
        if r["type"] == "agent.completed" and str(r["agent"]).startswith("scan")
    ]
    started = next(
        r["t"] for r in records if r["type"] == "agent.started" and r["agent"] == "report"
    )
    return 1000 * (started - max(inputs))


def measure(n: int, repeat: int, latency_s: float) -> dict[str, object]:
    """All figures of one machine; runs of different kinds take turns, so that a busy minute hits all of them."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["LITELLM_LOCAL_MODEL_COST_MAP"] = (
        "True"  # for the bare script: this is no test of a download
    )
    server = subprocess.Popen(
        [*pin(1), sys.executable, str(SERVER), "--latency", str(latency_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    env |= {"OPENAI_API_BASE": server.stdout.readline().strip(), "OPENAI_API_KEY": "sk-bench"}
    with tempfile.TemporaryDirectory() as folder:
        recipe, events = Path(folder, "bench.yaml"), Path(folder, "events.jsonl")
        recipe.write_text(RECIPE.format(n=n))
        env["SWARM_HOME"] = folder
        swarm = [SWARM, "run", str(recipe), "-m", "openai/fake", "-j", str(n)]
        swarm += ["--cache", "off", "--progress", "none", "--events", str(events)]
        python = sys.executable
        commands = {
            "bare": [python, str(HERE / "bare.py"), str(n)],
            "swarm": swarm,
            "import litellm": [python, "-c", "import litellm"],
            "import typer, rich": [python, "-c", "import typer, rich.console"],
            "swarm --help": [SWARM, "--help"],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        delays: list[float] = []
        for turn in range(repeat + 1):
            for name, command in commands.items():
                events.unlink(missing_ok=True)
                cost = run(command, env)
                if turn:  # the first turn writes byte-code and warms the file cache
                    costs[name].append(cost)
                    if name == "swarm":
                        delays.append(dependant_delay_ms(events))
    server.terminate()
    counts = json.loads(server.stdout.read())
    server.wait()
    asked = 2 * (repeat + 1) * (n + 1)
    if counts["requests"] != asked:
        print(f"note: {counts['requests']} requests instead of {asked}", file=sys.stderr)
    return {
        "n": n,
        "latency_s": latency_s,
        "peak": counts["peak"],
        "costs": {name: median(list_)._asdict() for name, list_ in costs.items()},
        "dependant_delay_ms": statistics.median(delays),
    }


def show(figures: dict) -> None:
    """The table."""
    n, latency_s = figures["n"], figures["latency_s"]
    costs = {name: Cost(**cost) for name, cost in figures["costs"].items()}
    bare, swarm = costs["bare"], costs["swarm"]
    ideal = 2 * latency_s
    print(f"{n} agents in parallel, then one that depends on all; {latency_s:g} s an answer\n")
    print(f"{'':22}{'wall s':>8}{'CPU s':>8}{'MB':>7}{'CPU ms / agent':>16}")
    for name, cost in costs.items():
        share = f"{1000 * cost.cpu_s / (n + 1):16.2f}" if name in {"bare", "swarm"} else ""
        print(f"{name:22}{cost.wall_s:8.2f}{cost.cpu_s:8.2f}{cost.rss_mb:7.0f}{share}")
    print()
    start = costs["import typer, rich"]
    print(
        f"swarm / bare: wall {swarm.wall_s / bare.wall_s:.2f}, CPU {swarm.cpu_s / bare.cpu_s:.2f}"
    )
    over = (swarm.wall_s - ideal) / (bare.wall_s - ideal)
    print(f"swarm / bare, without the {ideal:g} s that nobody can save: wall {over:.2f}")
    print(
        f"swarm --help / import typer, rich: wall {costs['swarm --help'].wall_s / start.wall_s:.2f}"
    )
    print(f"last input done -> dependant started: {figures['dependant_delay_ms']:.1f} ms")
    print(f"most requests in flight at once: {figures['peak']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document instead of the table"
    )
    args = parser.parse_args()
    figures = measure(args.n, args.repeat, args.latency)
    if args.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures)


if __name__ == "__main__":
    main()
