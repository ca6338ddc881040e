"""A model that cannot be reached ends the run early, with one message and an exit code that says what to do."""

import socket

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

HUNDRED = """
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: "{{ range(100) | list }}", as: item}}
merge: {strategy: concat}
retry: {attempts: 2}
hedge: off
"""


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("fault", "code", "kind", "most"),
    [
        ("500", 75, "server", 20),
        ("reset", 75, "network", 20),
        ("html", 1, "protocol", 20),
        ("400", 1, "bad_request", 20),
        ("404", 1, "unknown_model", 10),
    ],
)
def test_a_server_that_answers_nobody_is_not_asked_by_everybody(
    shell: Shell, server: Server, fault: str, code: int, kind: str, most: int
):
    """100 agents, five at a time: a few requests, one message, nothing on stdout, and the exit code of the cause."""
    server.faults = lambda _seen: fault

    done = shell("run", shell.recipe(HUNDRED), "-j", "5")

    assert (done.code, done.out) == (code, "")
    assert len(server.requests) <= most
    assert done.err.count("the run stops early") == 1
    message = next(line for line in done.err.splitlines() if "the run stops early" in line)
    for text in (kind, "openai/fake", "swarm resume"):
        assert text in message


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "nowhere.invalid"])
def test_nobody_there(shell: Shell, host: str):
    """A closed port and a name that does not exist: exit 75, and 95 agents have not even tried."""
    base = f"http://{host.format(port=closed_port())}/v1"

    done = shell("run", shell.recipe(HUNDRED), "-j", "5", "--json", env={"OPENAI_API_BASE": base})

    agents = done.json["agents"]
    assert (done.code, done.json["result"], agents["done"]) == (75, None, 0)
    assert {failure["kind"] for failure in done.json["failures"]} == {"network"}
    assert 5 <= agents["failed"] <= 10
    assert agents["failed"] + agents["skipped"] + agents["cancelled"] == 100
    assert done.json["usage"]["calls"] <= 20


def test_what_was_finished_before_is_kept_and_resume_does_the_rest(shell: Shell, server: Server):
    """30 of 100 were answered when the server went down: a partial result, exit 3; later the 70 others."""
    server.faults = lambda seen: "ok" if seen.index < 30 else "500"

    done = shell("run", shell.recipe(HUNDRED), "-j", "5")
    down = len(server.requests)
    server.faults = ()
    again = shell("resume", "last")

    assert done.code == 3
    assert done.out.count("echo: Do") == 30
    assert down <= 30 + 20
    assert (again.code, again.out.count("echo: Do")) == (0, 100)
    assert len(server.requests) == down + 70


def test_one_in_five_calls_that_fail_stops_nothing(shell: Shell, server: Server):
    """Failures at random cost their own agents, and every agent gets its turn."""
    server.faults = lambda seen: "500" if seen.index % 5 == 0 else "ok"
    recipe = shell.recipe(HUNDRED.replace("attempts: 2", "attempts: 1"))

    done = shell("run", recipe, "-j", "5", "--json")

    assert (done.code, done.json["agents"]["done"], done.json["agents"]["failed"]) == (3, 80, 20)
    assert "stops early" not in done.err
