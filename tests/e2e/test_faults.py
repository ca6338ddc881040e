"""Every fault of a provider, through the real command: nothing hangs, nothing is lost, the exit code says why.

Each fault strikes 20 % of the calls of a run of 30 agents, drawn by seed, and then every call of a small one. What must
come out is worked out from what the server did, not from what the program says.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from swarmcli.errors import NO_ACCESS_KINDS, RETRYABLE_KINDS
from tests.e2e.command import Done, Swarm
from tests.fakes.openai_server import FAULTS, THROTTLED, Seen, Server, chaos

pytestmark = pytest.mark.warm

AGENTS = 30
ATTEMPTS = 3
SHARE = 0.2
TERMINAL = {"agent.completed", "agent.failed", "agent.skipped", "agent.cancelled"}

HARMLESS = {"ok", "slow", "no usage", "odd usage", "hostile", "leaky text"}
"""An answer to a whole (not streamed) call comes, and it is one."""

KINDS: Mapping[str, str] = {
    **dict.fromkeys(THROTTLED, "rate_limit"),
    "429": "rate_limit", "429 quota": "quota", "500": "server", "502": "server", "503": "server",
    "400": "bad_request", "401": "auth", "402": "quota", "403": "auth", "404": "unknown_model",
    "context": "context_overflow", "filter 400": "content_filter", "hang": "timeout", "drip": "timeout",
    "reset": "network", "half": "network", "bad json": "protocol", "html": "protocol", "array": "protocol",
    "no choices": "protocol", "null content": "empty", "refusal": "empty", "empty": "empty", "blank": "empty",
    "length": "truncated", "content filter": "content_filter", "huge": "protocol", "eof": "network",
    "half head": "network", "long head": "protocol", "redirect": "protocol", "bad gzip": "protocol",
    "bad utf8": "protocol", "deep json": "protocol", "no body": "protocol", "odd types": "protocol",
    "huge error": "server", "leaky 400": "bad_request", "leaky 500": "server", "leaky page": "server",
    "stream garbage": "protocol", "stream reset": "network", "stream eof": "network", "stream error": "server",
    "stream silent": "timeout", "stream done only": "protocol", "stream no finish": "protocol",
}  # fmt: skip
"""What an agent fails of when all its calls, which are not streamed, end in that fault."""

SILENT = {"hang", "drip", "stream silent"}
"""Only a deadline ends these; an agent that meets one has no time left to try again."""

RECIPE = f"""\
version: 1
name: faults
tasks:
  - {{id: t, prompt: "Say {{{{ item }}}}.", for_each: {{items: "{{{{ range(COUNT) | list }}}}", as: item}}}}
merge: {{strategy: MERGE}}
limits: {{parallel: {AGENTS}, task_timeout: TASK_TIMEOUT, timeout: RUN_TIMEOUT}}
rate: {{"openai/*": {{parallel: {AGENTS}}}}}
retry: {{attempts: {ATTEMPTS}}}
hedge: off
cache: {{mode: off}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run, seen from outside."""

    done: Done
    events: list[dict[str, Any]]

    def ends(self) -> dict[str, list[dict[str, Any]]]:
        """The terminal events of each agent."""
        found: dict[str, list[dict[str, Any]]] = {}
        for event in self.events:
            if event["type"] in TERMINAL:
                found.setdefault(event["agent"], []).append(event)
        return found

    def agents(self, *types: str) -> set[str]:
        """The agents that ended so."""
        return {agent for agent, ends in self.ends().items() if ends[0]["type"] in types}

    def kinds(self) -> set[str]:
        """Of what agents failed."""
        return {e["error"]["kind"] for e in self.events if e["type"] == "agent.failed"}


@pytest.fixture
def run(swarm: Swarm, server: Server) -> Callable[..., Run]:
    """Run the recipe and check what holds for every run, whatever happened in it."""

    def run(*, agents: int, merge: str, task_timeout: str = "60s", timeout: str = "80s") -> Run:
        text = RECIPE.replace("COUNT", str(agents)).replace("MERGE", merge)
        text = text.replace("TASK_TIMEOUT", task_timeout).replace("RUN_TIMEOUT", timeout)
        swarm.write("faults.yaml", text)
        server.huge_chars = 10_000_001
        done = swarm(
            "run",
            "faults.yaml",
            "-m",
            "openai/fake",
            "--events",
            "events.jsonl",
            timeout_s=100,
        )
        events = (swarm.folder / "events.jsonl").read_text().splitlines()
        found = Run(done, [json.loads(line) for line in events])
        check_streams(done)
        check_ends(found, agents)
        check_requests(server, agents)
        return found

    return run


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NOISE = re.compile(
    r"Traceback|Give Feedback|LiteLLM\.Info|Provider List|Warning:|never awaited|Unclosed|Exception ignored"
)


def check_streams(done: Done) -> None:
    """Neither stream holds a control character, a traceback, or a word of a library to the user."""
    assert CONTROLS.search(done.text) is None
    assert CONTROLS.search(done.err) is None
    assert NOISE.search(done.err) is None
    assert NOISE.search(done.text) is None


def check_ends(run: Run, agents: int) -> None:
    """Each agent has exactly one end, the run has one, and it is the last word and the exit code."""
    expected = {f"t[{i}]": 1 for i in range(agents)}
    assert {agent: len(ends) for agent, ends in run.ends().items()} == expected
    finals = [e for e in run.events if e["type"] in {"run.completed", "run.failed"}]
    assert finals == run.events[-1:]
    assert finals[0]["exit_code"] == run.done.code
    assert finals[0]["status"] in {"ok", "partial", "failed", "timeout"}


def check_requests(server: Server, agents: int) -> None:
    """No question fails more often than `retry.attempts` allows; it is refused for the rate at most four times that."""
    refused = Counter(seen.prompt for seen in server.requests if seen.fault.startswith("429"))
    sent = Counter(seen.prompt for seen in server.requests if not seen.fault.startswith("429"))
    assert len({*refused, *sent}) <= agents
    assert max(sent.values(), default=0) <= ATTEMPTS
    assert max(refused.values(), default=0) <= 4 * ATTEMPTS


def number(seen: Seen) -> int:
    """Which agent asks."""
    return int(re.sub(r"[^0-9]", "", seen.prompt))


def answered(server: Server) -> set[str]:
    """The agents whose last request was answered in full and without a fault."""
    last = {number(seen): seen for seen in server.requests}
    return {
        f"t[{agent}]"
        for agent, seen in last.items()
        if seen.fault in HARMLESS and not seen.disconnected
    }


def code_of(run: Run) -> int:
    """The exit code that the contract has for these ends."""
    kinds, done = run.kinds(), run.agents("agent.completed")
    if kinds & NO_ACCESS_KINDS:
        return 77
    if not run.agents("agent.failed", "agent.skipped", "agent.cancelled"):
        return 0
    if done:
        return 3
    return 75 if kinds <= RETRYABLE_KINDS else 1


WHOLE = sorted(name for name in FAULTS if not name.startswith("stream "))
"""Faults of an answer in one piece. In such an answer the others are the same as some of these."""
YEARS = "429 after 1e9"
HARD = {
    "429 after 1e9",
    "429 after nan",
    "429 after -5",
    "429 odd reset",
    "429 after a broken date",
}


@pytest.mark.parametrize("fault", WHOLE)
def test_a_fifth_of_all_calls(run: Callable[..., Run], server: Server, fault: str):
    """An agent is done exactly when its last call was answered; the others failed of that fault."""
    server.faults = chaos(7, {fault: SHARE})
    server.latency_s = 0.02

    got = run(agents=AGENTS, merge="jsonl", task_timeout="3s" if fault in SILENT else "60s")

    struck = sum(seen.fault != "ok" for seen in server.requests) if fault != "ok" else 1
    assert struck > 0, "the seed never drew this fault"
    assert got.done.code == code_of(got)
    assert got.kinds() <= {KINDS.get(fault)}
    if KINDS.get(fault) in NO_ACCESS_KINDS:
        assert got.done.code == 77
        return
    assert got.agents("agent.completed") == answered(server)
    check_records(got, server)


def test_a_fifth_of_all_agents_gets_a_429_of_some_kind(run: Callable[..., Run], server: Server):
    """Every header that can come with a 429, in one run, but one that asks for years: nobody fails."""
    kinds = sorted(set(THROTTLED) - {YEARS})
    server.faults = lambda seen: "ok" if seen.nth or number(seen) % 5 else kinds[number(seen) // 5]

    got = run(agents=5 * len(kinds), merge="jsonl")

    assert {seen.fault for seen in server.requests} == {"ok", *kinds}
    assert (got.done.code, len(answered(server))) == (0, 5 * len(kinds))


def test_a_wait_of_years_costs_one_agent_at_most(run: Callable[..., Run], server: Server):
    """One 429 that asks to wait for 1e9 s: its call fails, or waits as long as a wait may be; no other call fails."""
    server.faults = lambda seen: (
        "ok" if seen.nth or number(seen) % 5 else YEARS if number(seen) == 30 else "429 after 0"
    )
    server.latency_s = 0.02

    got = run(agents=3 * AGENTS, merge="jsonl", timeout="8s")  # most of them wait for a slot

    assert got.agents("agent.failed") <= {"t[30]"}
    assert got.done.code in {0, 3, 124}


def check_records(run: Run, server: Server) -> None:
    """stdout is one record for each agent, in order, with the answer of those that are done."""
    records = [json.loads(line) for line in run.done.out.decode().splitlines()]
    assert [r["agent"] for r in records] == [f"t[{i}]" for i in range(AGENTS)]
    assert {r["agent"] for r in records if r["output"] is not None} == answered(server)
    assert {r["status"] for r in records if r["output"] is not None} <= {"ok"}


@pytest.mark.parametrize("fault", ["429", "503", "reset", "half"])
def test_what_passes_costs_nobody_an_answer(run: Callable[..., Run], server: Server, fault: str):
    """One failure for every agent, at its first call: all 30 answers come, with one extra request each."""
    server.faults = lambda seen: "ok" if seen.nth else fault

    got = run(agents=AGENTS, merge="jsonl")

    assert (got.done.code, len(server.requests)) == (0, 2 * AGENTS)
    assert len(answered(server)) == AGENTS


@pytest.mark.parametrize("fault", [*WHOLE, *sorted(HARD)])
def test_all_calls(run: Callable[..., Run], server: Server, fault: str):
    """When nothing else ever comes, the exit code says why, and stdout is empty unless there was an answer."""
    server.faults = lambda _seen: fault

    got = run(agents=2, merge="concat", task_timeout="1s" if fault in SILENT else "60s")

    if fault in HARMLESS:
        assert (got.done.code, len(got.agents("agent.completed"))) == (0, 2)
        assert len(got.done.out) > 2
        return
    kind = KINDS[fault]
    code = 77 if kind in NO_ACCESS_KINDS else 75 if kind in RETRYABLE_KINDS else 1
    assert (got.done.code, got.kinds(), got.done.out) == (code, {kind}, b"")


STREAM_FAULTS = {
    "stream reset": 75, "stream eof": 75, "stream error": 75, "stream garbage": None, "stream silent": 75,
    "429": 75, "401": 77, "half head": 75, "html": 1, "empty": 1, "length": 1,
}  # fmt: skip
"""Fault of a streamed call -> the exit code of a run that met nothing else; None: 1 or 75, by where it is noticed."""

PLAN = json.dumps({"tasks": [{"id": f"p{i}", "prompt": f"Part {i}."} for i in range(4)]})
PLANNED = """\
version: 1
name: planned
task: Compare four things, each in its own part.
mode: swarm
merge: {strategy: jsonl}
limits: {parallel: 4, task_timeout: TASK_TIMEOUT, timeout: 80s}
retry: {attempts: 2}
hedge: off
cache: {mode: off}
"""


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_planner_that_breaks_off(swarm: Swarm, server: Server, fault: str):
    """Half a plan is never taken for one: the planner is asked again, or the run fails without a result."""
    deadline = "2s" if fault in SILENT else "60s"
    swarm.write("planned.yaml", PLANNED.replace("TASK_TIMEOUT", deadline))
    server.routes[:] = [("You plan work", PLAN)]
    command = ("run", "planned.yaml", "-m", "openai/fake")

    server.faults = lambda seen: fault if plans(seen) else "ok"
    failed = swarm(*command)
    always = [seen for seen in server.requests if plans(seen)]

    check_streams(failed)
    assert failed.code in ({1, 75} if STREAM_FAULTS[fault] is None else {STREAM_FAULTS[fault]})
    assert failed.out == b""
    assert 1 <= len(always) <= 4
    if fault not in {"401", "stream silent"}:
        check_second_try(swarm, server, command, fault)


def check_second_try(swarm: Swarm, server: Server, command: tuple[str, ...], fault: str) -> None:
    """The same fault once: the plan comes whole at the second request, and each part is done once."""
    server.requests.clear()
    server.faults = lambda seen: fault if plans(seen) and seen.index == 0 else "ok"
    done = swarm(*command)
    check_streams(done)
    assert done.code == 0
    assert [json.loads(line)["agent"] for line in done.text.splitlines()] == [
        "p0",
        "p1",
        "p2",
        "p3",
    ]


def plans(seen: Seen) -> bool:
    """Whether this is the planner's call."""
    return "You plan work" in seen.text


@pytest.mark.parametrize("fault", ["ok", "401", "leaky 500"])
def test_a_cold_start(cold: Swarm, server: Server, fault: str):
    """The same from a shell, without anything loaded before: exit code, stdout and a quiet stderr."""
    text = RECIPE.replace("COUNT", "3").replace("MERGE", "concat")
    text = text.replace("TASK_TIMEOUT", "60s").replace("RUN_TIMEOUT", "80s")
    cold.write("faults.yaml", text)
    server.faults = lambda _seen: fault

    done = cold("run", "faults.yaml", "-m", "openai/fake")

    code = {"ok": 0, "401": 77, "leaky 500": 75}[fault]
    assert (done.code, done.out != b"") == (code, fault == "ok")
    check_streams(done)


def test_every_fault_of_the_server_is_expected():
    """A new fault in the fake server needs a word here about what it does."""
    assert {*FAULTS, *THROTTLED} == {*HARMLESS, *KINDS}
    assert not HARMLESS & set(KINDS)
