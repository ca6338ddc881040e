"""kill -9 at random moments and at every step on the way to the disk, and on with `swarm resume`.

Held, whatever the moment: what was told as done is never lost, no finished call is paid again, and the
result is byte for byte that of an undisturbed run. `SWARM_KILLS=500` kills more often, `SWARM_SEED=7`
repeats what a run printed.
"""

import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from swarmcli.adapters.failpoints import POINTS
from tests.e2e.command import Swarm
from tests.e2e.torture import SMALL, agent_of, answer, expected_of_small, finished, one_large
from tests.fakes.openai_server import Server

pytestmark = pytest.mark.warm

KILLS = int(os.environ.get("SWARM_KILLS", "25"))
SEED = int(os.environ.get("SWARM_SEED") or random.SystemRandom().randrange(1_000_000))
PAGES = list(range(49))
RECIPE = f"""\
version: 1
name: hundred
params: {{round: {{type: string}}}}
tasks:
  - {{id: scan, prompt: "Scan {{{{ item }}}} in round {{{{ round }}}}", for_each: {{items: {PAGES}, as: item}}}}
  - {{id: check, prompt: "Check {{{{ item }}}} by {{{{ inputs.scan }}}}", for_each: {{from: scan, as: item}}}}
  - {{id: sum, prompt: "Sum of all", depends_on: [check]}}
  - {{id: last, prompt: "Last word", depends_on: [sum]}}
"""


class Session:
    """One process of a run: what it told, what it asked, and how it ended."""

    def __init__(self, swarm: Swarm, server: Server, *args: str, moment: int | None) -> None:
        """Start it, and kill it when the journal has grown by `moment` bytes (None: let it end)."""
        self._events = swarm.folder / "events.jsonl"
        self._events.unlink(missing_ok=True)
        others = set(swarm.run_folders()) - {Path(args[1])}
        self.folder = Path(args[1]) if args[0] == "resume" else None
        before = _size(self.folder)
        asked = len(server.requests)
        args = (args[0], Path(args[1]).name, *args[2:])
        process = swarm.start(*args, "-q", "--events", str(self._events), "-j", "12")
        while moment is not None and process.poll() is None:
            self.folder = self.folder or next(iter(set(swarm.run_folders()) - others), None)
            if _size(self.folder) - before >= moment:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        self.out, self.err = process.communicate(timeout=60)
        self.folder = self.folder or next(iter(set(swarm.run_folders()) - others), None)
        self.code = process.returncode
        self.asked = Counter(agent_of(seen.prompt) for seen in server.requests[asked:])

    @property
    def acknowledged(self) -> dict[str, str]:
        """What somebody was told as done, with its output."""
        if not self._events.exists():
            return {}
        whole = [t for t in self._events.read_text().splitlines(keepends=True) if t.endswith("\n")]
        done = (json.loads(text) for text in whole if '"agent.completed"' in text)
        return {event["agent"]: event["output"] for event in done}


def _size(folder: Path | None) -> int:
    """Bytes in the journal of a run; a run that nobody has described is none yet."""
    journal = folder / "journal.jsonl" if folder else None
    return journal.stat().st_size if journal and journal.exists() else 0


class Tormentor:
    """Runs the recipe again and again, kills it, resumes it, and counts what must be zero."""

    def __init__(self, swarm: Swarm, server: Server, rng: random.Random, cache: str) -> None:
        self.swarm, self.server, self.rng = swarm, server, rng
        self.kills = self.sessions = self.saved = self.lost = self.paid_again = 0
        self._rounds = itertools.count()
        self._cache = cache
        undisturbed = self._session(*self._first("off"), moment=None)
        assert undisturbed.code == 0, undisturbed.err
        self.expected = undisturbed.out
        self.journal_bytes = _size(undisturbed.folder)

    def _first(self, cache: str) -> list[str]:
        what = ["run", "hundred.yaml", "-m", "openai/fake", "-p", f"round={next(self._rounds)}"]
        return [*what, "--cache", cache]

    def _session(self, *args: str, moment: int | None) -> Session:
        self.sessions += 1
        return Session(self.swarm, self.server, *args, moment=moment)

    def torment(self, most: int) -> None:
        """One run, killed at most so often, until it is done."""
        acknowledged: dict[str, str] = {}
        durable: dict[str, str] = {}
        args = self._first(self._cache)
        while True:
            moment = 1 + self.rng.randrange(int(0.7 * self.journal_bytes)) if most > 0 else None
            session = self._session(*args, moment=moment)
            most -= 1
            self.paid_again += sum(session.asked[agent] for agent in durable)
            acknowledged |= session.acknowledged
            assert session.folder is not None
            durable = finished(session.folder)
            self.lost += sum(durable.get(agent) != text for agent, text in acknowledged.items())
            if session.code != -signal.SIGKILL:
                assert (session.code, session.out) == (0, self.expected), session.err
                return
            self.kills += 1
            self.saved += len(durable)
            args = ["resume", str(session.folder)]


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest.mark.parametrize("cache", ["use", "off"])
def test_random_kills_lose_nothing_and_pay_nothing_twice(swarm: Swarm, server: Server, cache: str):
    """Several kills hit one run; each time it is resumed until it is done, or killed again."""
    print(f"SWARM_SEED={SEED}")  # noqa: T201  how to repeat it
    swarm.write("hundred.yaml", RECIPE)
    server.reply = answer
    server.latency_s = 0.01
    wanted = KILLS // 2 if cache == "off" else KILLS - KILLS // 2
    tormentor = Tormentor(swarm, server, random.Random(f"{SEED} {cache}"), cache)
    while tormentor.kills < wanted:
        tormentor.torment(min(wanted - tormentor.kills, tormentor.rng.randint(4, 9)))

    print(  # noqa: T201
        f"{tormentor.kills} kills, {tormentor.sessions} sessions, {tormentor.saved} finished agents"
        f" saved, {tormentor.lost} lost, {tormentor.paid_again} paid again, cache {cache}"
    )
    assert (tormentor.lost, tormentor.paid_again) == (0, 0), f"SWARM_SEED={SEED}"
    assert tormentor.saved > 0, "no kill came after an agent had finished"


HITS = {
    "run.claimed": [1],
    "run.described": [1],
    "file.created": [2],
    "file.written": [1, 4],
    "file.synced": [3],
    "file.renamed": [2],
    "file.durable": [1, 2, 3],
    "journal.opened": [1],
    "journal.write": [1, 5],
    "journal.written": [6],
    "journal.synced": [2, 7],
    "output.stored": [1],
}
"""Of the atomic files the first is `run.json`, then come one large output, the kept result and `-o`."""


def test_every_fail_point_is_tried():
    """A new step on the way to the disk needs its line in the table above."""
    assert set(HITS) == set(POINTS)


@pytest.mark.parametrize(
    ("point", "nth"), [(point, nth) for point, hits in HITS.items() for nth in hits]
)
def test_a_kill_at_a_step_on_the_way_to_the_disk(
    swarm: Swarm, server: Server, point: str, nth: int
):
    """The run goes on as if nothing had happened; one that nobody had described begins anew."""
    swarm.write("small.yaml", SMALL)
    server.reply = one_large
    first = ["run", "small.yaml", "-m", "openai/fake", "--cache", "off", "-j", "1", "-o", "out.txt"]

    killed = swarm(*first, env={"SWARM_FAILPOINT": f"{point}:kill:{nth}"})
    folders = swarm.run_folders()
    durable = finished(folders[0])
    before = len(server.requests)
    described = (folders[0] / "run.json").exists()
    done = swarm("resume", folders[0].name) if described else swarm(*first)

    again = Counter(agent_of(seen.prompt) for seen in server.requests[before:])
    output = (swarm.folder / "out.txt").read_bytes()
    assert (killed.code, killed.out) == (-signal.SIGKILL, b"")
    assert (done.code, done.out) == (0, b""), done.err
    assert output == expected_of_small(server)
    assert {agent: again[agent] for agent in durable} == dict.fromkeys(durable, 0)
    (whole,) = (row for row in swarm("runs", "--json").json if row["status"] == "ok")
    assert whole["agents"]["done"] == 7
