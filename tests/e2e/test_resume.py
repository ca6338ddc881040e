"""kill -9 and go on: nothing finished is called again, and the result is the same."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmcli.core.events import ToolStarted
from tests.adapters.journals import open_log
from tests.e2e.command import Swarm
from tests.fakes.openai_server import Reply, Server, prompt_of

pytestmark = pytest.mark.warm

RECIPE = """\
version: 1
name: chain
tasks:
  - {id: scan, prompt: "Scan {{ item }}", for_each: {items: [a, b, c, d, e, f, g, h], as: item}}
  - {id: sum, prompt: "Sum up.", depends_on: [scan]}
"""


def answer(body: dict) -> str:
    """Depends on the question only, so that two runs can be compared."""
    return f"answer to {prompt_of(body)}"


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Return when `condition` holds; it is looked at often, never guessed."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.01)


def finished(journal: Path) -> set[str]:
    """Agents whose completion is in the journal."""
    if not journal.exists():
        return set()
    records = [
        json.loads(line[9:])
        for line in journal.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return {r["agent"] for r in records if r["type"] == "agent.completed"}


def undisturbed(swarm: Swarm, server: Server, *flags: str) -> bytes:
    """The result of the same run when nothing happens to it."""
    result = swarm("run", "chain.yaml", "-m", "openai/fake", "--cache", "off", *flags)
    assert result.code == 0
    server.requests.clear()
    return result.out


@pytest.mark.parametrize("enough", [3])
def test_resume_after_kill_calls_nothing_twice(swarm: Swarm, server: Server, enough: int):
    """With --cache off, killed after some agents: the journal alone saves what was done."""
    swarm.write("chain.yaml", RECIPE)
    server.reply = answer
    expected = undisturbed(swarm, server)
    server.latency_s = 0.15

    earlier = set(swarm.run_folders())
    process = swarm.start("run", "chain.yaml", "-m", "openai/fake", "--cache", "off", "-j", "2")
    wait_for(lambda: len(set(swarm.run_folders()) - earlier) == 1, "the run's folder")
    journal = (set(swarm.run_folders()) - earlier).pop() / "journal.jsonl"
    wait_for(lambda: len(finished(journal)) >= enough, f"{enough} finished agents")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    saved = finished(journal)
    server.requests.clear()

    done = swarm("resume")

    asked = [seen.prompt.partition("\n")[0] for seen in server.requests]
    items = "abcdefgh"
    again = {f"scan[{i}]" for i in range(8) if f"Scan {items[i]}" in asked}
    assert (done.code, done.out) == (0, expected)
    assert again.isdisjoint(saved)
    assert len(saved) >= enough


def test_resume_of_a_finished_run_prints_it_again_without_calls(swarm: Swarm, server: Server):
    """Nothing is left to do, so nothing is called, and stdout is the same."""
    swarm.write("chain.yaml", RECIPE)
    server.reply = answer
    first = swarm("run", "chain.yaml", "-m", "openai/fake")
    calls = len(server.requests)

    again = swarm("resume", "last")

    assert (again.code, again.out, len(server.requests)) == (0, first.out, calls)


def test_resume_retries_what_failed(swarm: Swarm, server: Server):
    """A partial run is completed: only the failed agent and what follows from it are called."""
    swarm.write("chain.yaml", RECIPE)
    server.reply = answer
    server.faults = lambda seen: (
        "400" if "Scan d" in seen.prompt and "Sum" not in seen.prompt else "ok"
    )
    first = swarm("run", "chain.yaml", "-m", "openai/fake", "--cache", "off")
    server.faults = ()
    server.requests.clear()

    again = swarm("resume")

    assert (first.code, again.code) == (3, 0)
    assert sorted(seen.prompt.partition("\n")[0] for seen in server.requests) == [
        "Scan d",
        "Sum up.",
    ]


def test_resume_restores_format_and_parameters(swarm: Swarm, server: Server):
    """The flags of the first session count again."""
    swarm.write(
        "p.yaml",
        "version: 1\nname: p\nparams: {topic: {type: string}}\ntasks:\n"
        '  - {id: a, prompt: "One {{ topic }}"}\n  - {id: b, prompt: "Two", depends_on: [a]}\n',
    )
    server.faults = lambda seen: "400" if "Two" in seen.prompt else "ok"
    swarm("run", "p.yaml", "-m", "openai/fake", "-p", "topic=bees", "--json", "-o", "out.json")
    server.faults = ()

    done = swarm("resume")

    document = json.loads((swarm.folder / "out.json").read_text())
    assert (done.code, done.out, document["status"]) == (0, b"", "ok")
    assert "One bees" in server.requests[0].prompt


def test_a_killed_planner_run_keeps_its_plan(swarm: Swarm, server: Server):
    """After the plan is made, a resumed run uses it and does not ask the planner again."""
    plan = {"tasks": [{"id": f"t{i}", "prompt": f"Part {i}."} for i in range(4)]}
    server.routes[:] = [("You plan work", json.dumps(plan)), ("You write the final", "MERGED")]
    server.latency_s = 0.2
    task = "Compare four things, each in its own part, in a list."
    process = swarm.start("solve", task, "-m", "openai/fake", "-j", "1", "--cache", "off")
    wait_for(
        lambda: any(len(finished(f / "journal.jsonl")) >= 2 for f in swarm.run_folders()),
        "two agents",
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.requests.clear()

    done = swarm("resume")

    assert (done.code, done.out) == (0, b"MERGED\n")
    assert server.asked("You plan work") == []
    assert len(server.requests) <= 3


def test_two_sessions_of_one_run_are_refused(swarm: Swarm, server: Server):
    """The second process says who has the run and touches nothing."""
    swarm.write("chain.yaml", RECIPE)
    server.latency_s = 5.0
    process = swarm.start("run", "chain.yaml", "-m", "openai/fake")
    wait_for(lambda: len(server.requests) > 0, "a request")

    second = swarm("resume", "last")
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert (second.code, second.out) == (1, b"")
    assert "in use" in second.err


def test_an_answer_before_the_kill_is_not_asked_for_again(swarm: Swarm, server: Server):
    """Killed between two calls of one agent: over both sessions the first question is asked once."""
    swarm.write(
        "typed.yaml",
        "version: 1\nname: typed\ntasks:\n  - id: count\n    prompt: Count them.\n"
        "    output_schema: {type: object, properties: {n: {type: integer}}, required: [n]}\n",
    )
    second_takes_s = 60.0

    def reply(body: dict) -> Reply:
        first = not any(message["role"] == "assistant" for message in body["messages"])
        return Reply(text="{}") if first else Reply(text='{"n": 4}', latency_s=second_takes_s)

    server.reply = reply
    process = swarm.start("run", "typed.yaml", "-m", "openai/fake", "--cache", "off", "--json")
    wait_for(lambda: len(server.requests) == 2, "the second question")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    second_takes_s = 0.0

    done = swarm("resume")
    whole = swarm("run", "typed.yaml", "-m", "openai/fake", "--cache", "off", "--json")

    questions = [len(seen.body["messages"]) for seen in server.requests]
    assert questions == [2, 4, 4, 2, 4]
    assert (done.code, json.loads(done.json["result"])) == (0, {"n": 4})
    # The call that the kill cut off was sent too, and nobody knows what it took.
    assert done.json["usage"] == {**whole.json["usage"], "calls": 3}


def tool_began(journal: Path, agent: str) -> None:
    """What a session leaves that was killed while a tool of this agent ran."""

    async def write() -> None:
        log = open_log(journal)
        await log.commit(ToolStarted(agent=agent, tool="mail/send", call="r/scan[3]/1"))
        await log.close()

    asyncio.run(write())


def test_an_agent_whose_tool_may_have_run_waits_for_a_word(swarm: Swarm, server: Server):
    """Sessions pass it over and say why, until one is told to run it again."""
    swarm.write("chain.yaml", RECIPE)
    server.reply = answer
    server.faults = lambda seen: "400" if seen.prompt == "Scan d" else "ok"
    swarm("run", "chain.yaml", "-m", "openai/fake", "--cache", "off")
    (folder,) = swarm.run_folders()
    tool_began(folder / "journal.jsonl", "scan[3]")
    server.faults = ()
    server.requests.clear()

    refused = [swarm("resume", "last", "--json") for _ in range(2)]
    asked = server.prompts.count("Scan d")
    allowed = swarm("resume", "last", "--json", "--retry-uncertain")

    for done in refused:
        (failure,) = done.json["failures"]
        assert (done.code, failure["agent"], failure["kind"]) == (3, "scan[3]", "uncertain")
        assert "mail/send; swarm resume --retry-uncertain" in failure["message"]
    assert asked == 0
    assert (allowed.code, allowed.json["failures"]) == (0, [])
    assert server.prompts.count("Scan d") == 1


def test_a_run_goes_on_with_the_recipe_that_it_began_with(swarm: Swarm, server: Server):
    """The file was edited since: what was asked is in the run's folder."""
    swarm.write("chain.yaml", RECIPE)
    server.reply = answer
    expected = undisturbed(swarm, server)
    server.faults = lambda seen: "400" if seen.prompt.startswith("Sum") else "ok"
    swarm("run", "chain.yaml", "-m", "openai/fake", "--cache", "off")
    server.faults = ()
    swarm.write("chain.yaml", "no recipe any more")
    server.requests.clear()

    done = swarm("resume")

    assert (done.code, done.out, len(server.requests)) == (0, expected, 1)


def test_a_result_file_that_the_recipe_names_is_written_after_all(swarm: Swarm, server: Server):
    """Killed when all was done but the file: a resumed run writes it, and makes no call."""
    swarm.write("chain.yaml", RECIPE + "output: {file: result.txt}\n")
    killed = swarm(
        "run", "chain.yaml", "-m", "openai/fake", env={"SWARM_FAILPOINT": "file.created:kill:3"}
    )
    calls = len(server.requests)
    there = (swarm.folder / "result.txt").exists()

    done = swarm("resume", "last")

    assert (killed.code, there) == (-signal.SIGKILL, False)
    assert (done.code, done.out, len(server.requests)) == (0, b"", calls)
    assert (swarm.folder / "result.txt").read_text().startswith("echo: Sum up.")
