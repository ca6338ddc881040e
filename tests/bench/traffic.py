"""What limits, hedging and waiting cost: the real command against a loopback server, and exact figures on virtual time.

    python -m tests.bench.traffic [SCENARIO ...]

Nothing is asserted here: the tests assert the figures on virtual time, and what the real command does is measured on
whatever machine this is. The server runs on core 1 and swarm on core 0, where there are two.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests import hedging, traffic
from tests.bench.bench import SERVER, SWARM, pin

RECIPE = """\
version: 1
name: traffic
{head}
merge: {{strategy: jsonl}}
tasks:
  - {{id: scan, prompt: "Look at item {{{{ item }}}}.", for_each: {{items: "{{{{ range({n}) | list }}}}", as: item}}}}
"""


class Ran(NamedTuple):
    """One run of the real command."""

    code: int
    events: list[dict[str, Any]]
    waiting_cpu: float | None
    """Share of one core that swarm used between two looks at its processor time."""
    server: dict[str, Any]

    def count(self, kind: str) -> int:
        """Events of a type."""
        return sum(event["type"] == kind for event in self.events)

    @property
    def makespan_s(self) -> float:
        """First request sent to last answer."""
        left = [e["t"] for e in self.events if e["type"] == "call.started"]
        came = [e["t"] for e in self.events if e["type"] == "call.completed"]
        return max(came) - min(left)


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The server in a process of its own: its URL, and a function that ends it and returns its counts."""
    command = [*pin(1), sys.executable, str(SERVER), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout

    def counts() -> dict[str, Any]:
        process.terminate()
        found = json.loads(out.read())
        process.wait()
        return found

    try:
        yield out.readline().strip(), counts
    finally:
        process.kill()
        process.wait()


def run(
    server: tuple[str, ...],
    *,
    n: int,
    parallel: int,
    head: str = "",
    idle: tuple[float, float] | None = None,
) -> Ran:
    """`n` agents against a server with these flags; `idle`: seconds after the first request between which to look."""
    with serving(*server) as (url, counts), tempfile.TemporaryDirectory() as folder:
        recipe, events = Path(folder, "traffic.yaml"), Path(folder, "events.jsonl")
        recipe.write_text(RECIPE.format(n=n, head=head))
        env = {
            **os.environ,
            "OPENAI_API_BASE": url,
            "OPENAI_API_KEY": "sk-bench",
            "SWARM_HOME": folder,
        }
        command = [*pin(0), SWARM, "run", str(recipe), "-m", "openai/fake", "-j", str(parallel)]
        command += ["--cache", "off", "--progress", "none", "--events", str(events)]
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        waiting = None if idle is None else _cpu_share(process.pid, events, idle)
        _, errors = process.communicate()
        if process.returncode not in {0, 3}:
            sys.exit(f"swarm ended with {process.returncode}:\n{errors.decode()[-2000:]}")
        records = [json.loads(line) for line in events.read_text().splitlines()]
        return Ran(process.returncode, records, waiting, counts())


def _cpu_share(pid: int, events: Path, between: tuple[float, float]) -> float:
    """Processor time over wall time in a stretch in which nothing but waiting happens."""
    while not (events.exists() and "call.started" in events.read_text()):
        time.sleep(0.05)
    time.sleep(between[0])
    before, began = _cpu_s(pid), time.monotonic()
    time.sleep(between[1] - between[0])
    return (_cpu_s(pid) - before) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hidden_limit() -> None:
    """A limit of 40 at once that nobody told: 600 calls of 1 s, ideal 15 s."""
    ran = run(("--latency", "1", "--max-parallel", "40"), n=600, parallel=600)
    refused = ran.server["limited"]
    print(
        f"hidden limit of 40, 600 calls of 1 s: {ran.count('agent.completed')} answered, "
        f"makespan {ran.makespan_s:.1f} s = {ran.makespan_s / 15:.2f}x ideal, {refused} 429s = {refused / 600:.1%}"
    )
    provider = traffic.Provider(parallel=traffic.steps((0, 100), (30, 20), (60, 100)))
    far = traffic.simulate(provider, calls=15_000, agents=300)
    back = next(at for at, at_work in provider.log if at >= 60 and at_work >= 90)
    print(
        f"  limit 100 -> 20 -> 100, virtual time: 90 at work again {back - 60:.1f} s after the limit rose, "
        f"{far.answered} of {far.calls} answered, {far.refused_share:.1%} 429s"
    )


def declared_rpm() -> None:
    """600 requests a minute for 300 agents: two minutes in real time."""
    ran = run(
        ("--latency", "0.5", "--rpm", "600"),
        n=1800,
        parallel=300,
        head='rate: {"openai/*": {rpm: 600, parallel: 300}}',
        idle=(20.0, 50.0),
    )
    left = sorted(e["t"] for e in ran.events if e["type"] == "call.started")
    used = (len(left) - 600) / (600 * (left[-1] - left[599]) / 60)
    print(
        f"600 rpm declared, 300 agents, {len(left)} calls: at most {ran.server['busiest_minute']} arrived in any 60 s, "
        f"{ran.server['limited']} 429s, {used:.1%} of the allowance used once the first 600 were gone, "
        f"{ran.waiting_cpu or 0:.1%} of a core while waiting"
    )


def stragglers() -> None:
    """2 % of the answers take ten times as long; 300 tasks, 100 at once."""
    ratios: list[float] = []
    extra: list[float] = []
    for seed in range(10):
        without, hedged = hedging.compare(seed)
        ratios.append(hedged.makespan_s / without.makespan_s)
        extra.append(hedged.extra)
    print(
        f"2 % stragglers, virtual time, 10 seeds: makespan hedged/unhedged mean {statistics.mean(ratios):.2f}, "
        f"median {statistics.median(ratios):.2f}, {max(extra):.1%} extra calls at most"
    )
    flags = ("--latency", "1", "--jitter", "0.3", "--straggler-share", "0.02", "--seed", "1")
    rate = 'rate: {"openai/*": {parallel: 200}}\nhedge: '
    without, hedged = (run(flags, n=300, parallel=100, head=rate + how) for how in ("off", "on"))
    print(
        f"  the real command: {without.makespan_s:.1f} s -> {hedged.makespan_s:.1f} s = "
        f"{hedged.makespan_s / without.makespan_s:.2f}x, {hedged.count('call.hedged')} extra calls"
    )


SCENARIOS: Mapping[str, Callable[[], None]] = {
    "hidden": hidden_limit,
    "rpm": declared_rpm,
    "stragglers": stragglers,
}


def main() -> None:
    """Run the scenarios that are named, or all of them."""
    for name in sys.argv[1:] or SCENARIOS:
        SCENARIOS[name]()


if __name__ == "__main__":
    main()
