"""No key leaves the process: every stream and every byte on disk is searched for canaries after runs that go wrong.

Two keys are in use: one in the provider's own variable, one in a variable that the recipe names and whose name does not
look like a secret's. A hit is any twelve characters in a row of a key's secret part.
"""

import os
from collections.abc import Iterable, Mapping

import pytest

from tests.e2e.command import Swarm
from tests.e2e.test_terminal import terminal
from tests.fakes.openai_server import FAULTS, THROTTLED, Seen, Server

pytestmark = pytest.mark.warm

FIRST = "9Qx7ZkV3mWb8Lp2TyRf6JhNc4GdSa5Ue"
SECOND = "Hw2/Yt7+Kd4Fz9=Xn6Vm3Bq8Rc5Pj"
KEYS = {"OPENAI_API_KEY": f"sk-proj-{FIRST}", "TEAM_ACCESS": SECOND}
SLICE = 12
NEEDLES = [
    secret[i : i + SLICE].encode()
    for secret in (FIRST, SECOND)
    for i in range(len(secret) - SLICE + 1)
]

STOPPING = {"401", "402", "403", "429 quota"}
"""These end a run at first sight, so each gets one of its own."""
RECIPE = """\
version: 1
name: canary
models:
  small: openai/fake
  team: {model: openai/other, api_key_env: TEAM_ACCESS}
agents:
  member: {model: team}
tasks:
  - {id: a, prompt: "Fault {{ item }}.", for_each: {items: FAULTS, as: item}}
  - {id: b, prompt: "Fault {{ item }}.", for_each: {items: FAULTS, as: item}, agent: member}
merge: {strategy: concat}
limits: {parallel: 200, task_timeout: DEADLINE, timeout: 80s}
rate: {"openai/*": {parallel: 200}}
retry: {attempts: 2}
"""


@pytest.fixture
def keyed(swarm: Swarm, server: Server) -> Swarm:
    """A user with both keys; the server does to each prompt what it names."""
    swarm.env.update(KEYS)
    server.faults = named
    server.huge_chars = 100_000
    return swarm


def named(seen: Seen) -> str:
    """The fault that the prompt names."""
    return seen.prompt.partition("Fault ")[2].partition(".\n")[0].removesuffix(".")


def write(swarm: Swarm, faults: Iterable[str], deadline: str = "60s") -> None:
    """The recipe, with one agent per fault and key."""
    text = RECIPE.replace("FAULTS", repr(sorted(faults))).replace("DEADLINE", deadline)
    swarm.write("canary.yaml", text)


def leaks(swarm: Swarm, **streams: bytes | str) -> dict[str, bytes]:
    """Where a part of a key is: a stream, or a file below the user's folder, HOME and SWARM_HOME."""
    places = {name: v.encode() if isinstance(v, str) else v for name, v in streams.items()}
    top = swarm.folder.parent
    for path in sorted(top.rglob("*")):
        places[f"name of {path}"] = os.fsencode(path)
        if path.is_file():
            places[str(path.relative_to(top))] = path.read_bytes()
    return {
        place: data[max(0, at - 40) : at + 60]
        for place, data in places.items()
        if (at := min((i for n in NEEDLES if (i := data.find(n)) >= 0), default=-1)) >= 0
    }


def journals(swarm: Swarm) -> int:
    """How many runs have left something to search."""
    return len(list(swarm.home.rglob("journal.jsonl")))


def sent(server: Server) -> set[str]:
    """The keys that the server was shown: without them a search proves nothing."""
    return {seen.key for seen in server.requests}


DEBUG = "plain, verbose, debug"
MODES: Mapping[str, tuple[str, ...]] = {
    DEBUG: ("--progress", "plain", "-v", "--debug", "--events", "events.jsonl"),
    "stream-json": ("--format", "stream-json", "-q", "-o", "result.jsonl"),
    "json": ("--json", "--progress", "none", "--debug", "--cache", "refresh"),
}


SILENT = {"hang", "drip", "stream silent"}
LIMITS = {"429", *THROTTLED}
ERRORS = set(FAULTS) - STOPPING - SILENT - LIMITS


@pytest.mark.parametrize(
    ("faults", "deadline", "mode"),
    [*((ERRORS, "60s", mode) for mode in MODES), (LIMITS, "60s", DEBUG), (SILENT, "1s", DEBUG)],
    ids=[*MODES, "limits", "silence"],
)
def test_every_fault(keyed: Swarm, server: Server, faults: set[str], deadline: str, mode: str):
    """One agent per fault and key, the model that repeats its key among them: no part of a key is anywhere."""
    write(keyed, faults, deadline)
    if faults is LIMITS:  # once each: a storm of them would end the run before all have come
        server.faults = lambda seen: "ok" if seen.nth else named(seen)

    done = keyed("run", "canary.yaml", *MODES[mode], timeout_s=100)

    assert sent(server) == set(KEYS.values())
    assert {named(seen) for seen in server.requests} == faults
    assert done.code in {1, 3, 75}
    assert journals(keyed) == 1
    assert leaks(keyed, out=done.out, err=done.err) == {}


@pytest.mark.parametrize("fault", sorted(STOPPING))
def test_a_refused_key(keyed: Swarm, server: Server, fault: str):
    """The provider repeats the key that it refuses; neither the run nor what shows it afterwards does."""
    write(keyed, [fault])

    done = keyed("run", "canary.yaml", "-v", "--debug")
    shown = [
        keyed(*look)
        for look in (("show", "last", "--json"), ("logs", "last", "--failed"), ("doctor",))
    ]

    assert (done.code, done.out) == (77, b"")
    assert set(KEYS.values()) & sent(server)
    said = {f"{i}": look.out + look.err.encode() for i, look in enumerate(shown)}
    assert leaks(keyed, out=done.out, err=done.err, **said) == {}


def test_a_model_that_repeats_its_key(keyed: Swarm, server: Server):
    """The answer keeps its words; the key in it is masked in the result, the cache, and all that follows from it."""
    write(keyed, ["leaky text"])

    first = keyed("run", "canary.yaml", "--events", "events.jsonl")
    again = keyed("run", "canary.yaml", "--json")
    logs = keyed("logs", "last", "a[0]")

    assert (first.code, again.code, len(server.requests), journals(keyed)) == (0, 0, 2, 2)
    assert first.text.count("Your key is") == 2
    assert leaks(keyed, out=first.out, again=again.out, logs=logs.out, err=first.err) == {}


def test_a_planner_that_repeats_its_key(keyed: Swarm, server: Server):
    """A key in a plan, streamed in pieces, does not reach prompts, events or the screen."""
    server.faults = ()
    server.chunk_chars = 7
    server.routes[:] = [("You plan work", plan_with_key)]

    command = ("solve", "Compare three things, each in its own part.", "-m", "openai/fake")
    done = keyed(*command, "--mode", "swarm", "-v", "--events", "events.jsonl")

    assert sent(server) == {KEYS["OPENAI_API_KEY"]}
    assert len(server.requests) > 1
    assert leaks(keyed, out=done.out, err=done.err) == {}


def plan_with_key(_body: object) -> str:
    """A plan in which the key stands in the prose, an id's neighbour and a prompt."""
    key = KEYS["OPENAI_API_KEY"]
    tasks = ", ".join(f'{{"id": "t{i}", "prompt": "Use {key} for {i}."}}' for i in range(3))
    return f'With {key}:\n{{"tasks": [{tasks}]}}'


@pytest.mark.parametrize(
    "key", [f"sk-proj-{FIRST}\n", f"sk-{FIRST[:16]}\nX-Evil: {FIRST[16:]}", f"sk-é{FIRST}", f"sk {FIRST}"],
    ids=["newline", "header", "not ASCII", "blank"],
)  # fmt: skip
def test_a_key_that_is_none(keyed: Swarm, key: str):
    """A key that cannot stand in a header is refused, or sent as it is; what went wrong is said without it."""
    write(keyed, ["ok"])

    done = keyed("run", "canary.yaml", "--debug", env={"OPENAI_API_KEY": key})

    assert done.code in {0, 1, 3, 77}
    assert leaks(keyed, out=done.out, err=done.err) == {}


def test_the_tree(keyed: Swarm, server: Server):
    """On a terminal: what was drawn, raw and as it stood on the screen, holds no part of a key."""
    write(keyed, ["401", "leaky 400", "leaky 500", "leaky page", "leaky text", "hostile"])
    server.faults = lambda seen: (
        "leaky 500" if "401" in seen.prompt and not seen.nth else named(seen)
    )

    with terminal(keyed, "run", "canary.yaml", "-v") as screen:
        code = screen.to_the_end()

    assert code == 77
    assert leaks(keyed, raw=screen.raw, screen=screen.text) == {}


def test_the_search_finds_what_it_looks_for(keyed: Swarm):
    """A planted part of each key is found, in a stream and in a file deep below."""
    folder = keyed.home / "state" / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(b"\0\xff" + SECOND[3:16].encode())

    assert len(leaks(keyed, out=FIRST[-12:])) == 2
    assert leaks(keyed, out=FIRST[-11:]).keys() == {
        str((folder / "journal.jsonl").relative_to(keyed.folder.parent))
    }
