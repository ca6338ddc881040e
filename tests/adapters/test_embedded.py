"""The embedded model: a real one generates here, in a child process behind a loopback port."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarmcli.adapters.embedded import EmbeddedServer, Endpoint, usable_cores
from swarmcli.core.planform import tiny_plan_schema
from swarmcli.errors import SwarmError
from swarmcli.prompts import load_prompt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def endpoint(gguf: Path) -> Iterator[Endpoint]:
    """One server for the tests that only ask."""
    server = EmbeddedServer(gguf)
    yield asyncio.run(server.start())
    server.close()


def ask(where: Endpoint, user: str, *, system: str = "", key: str | None = None, **body):
    """Status and decoded answer of one chat completion."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": user})
    return post(where, {"messages": messages, "model": where.model, **body}, key)


def post(where: Endpoint, body: dict[str, object], key: str | None = None):
    host, _, path = where.base_url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=90)
    with contextlib.closing(connection):
        connection.request(
            "POST",
            f"/{path}/chat/completions",
            json.dumps(body),
            {"Authorization": f"Bearer {key or where.api_key}", "Content-Type": "application/json"},
        )
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def busy_slots(where: Endpoint) -> int:
    host = where.base_url.removeprefix("http://").partition("/")[0]
    connection = http.client.HTTPConnection(host, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/slots", headers={"Authorization": f"Bearer {where.api_key}"})
        return sum(slot["is_processing"] for slot in json.loads(connection.getresponse().read()))


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def gone(pid: int) -> bool:
    """True when there is no such process, or only its exit status is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def text_of(answer) -> str:
    return answer["choices"][0]["message"]["content"]


def test_the_model_answers_in_openais_form(endpoint: Endpoint):
    """A chat completion has text, a reason for its end, and a count of tokens."""
    status, answer = ask(endpoint, "Name the capital of Italy.", max_tokens=40)
    assert status == 200
    assert "Rome" in text_of(answer)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] > 10
    assert answer["usage"]["completion_tokens"] > 1
    assert endpoint.slots == 4
    assert endpoint.context_window == 4096


def test_only_the_holder_of_the_key_is_answered(endpoint: Endpoint):
    """Another user of this machine who finds the port gets nothing, and no log shows the key."""
    status, answer = ask(endpoint, "Hello", key="guessed")
    assert status == 401
    assert "choices" not in answer
    assert endpoint.api_key not in repr(endpoint)
    assert endpoint.base_url.startswith("http://127.0.0.1:")


def test_a_cut_answer_says_so(endpoint: Endpoint):
    """An answer that reaches its limit ends with `length`, so that nobody takes it for whole."""
    status, answer = ask(endpoint, "Tell a long story.", max_tokens=12)
    assert status == 200
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


def test_a_prompt_beyond_the_window_is_refused(endpoint: Endpoint):
    """Too much text is a 400 that names the window, not a silently shortened prompt."""
    status, answer = ask(endpoint, "word " * 5000, max_tokens=5)
    assert status == 400
    assert "exceeds the available context size" in answer["error"]["message"]


def test_answers_end_by_themselves(endpoint: Endpoint):
    """Without limits in the request the model stops: by the worker's prompt, else at the server's bound."""
    prompt = load_prompt("worker_small").render(prompt="How do volcanoes form?", data_note="")
    _, answer = ask(endpoint, prompt.user)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 150
    _, endless = ask(endpoint, "Tell a story.", ignore_eos=True)
    assert endless["usage"]["completion_tokens"] == 512


@pytest.mark.parametrize("topic", ["solar power", "sleep", "honey bees"])
def test_the_planner_prompt_makes_a_plan(endpoint: Endpoint, topic: str):
    """Under a grammar, the small model plans at least three different questions."""
    job = f"Write a short introduction to {topic}."
    prompt = load_prompt("planner_small").render(job=job, max_tasks="4")
    shape = {"type": "json_schema", "json_schema": {"name": "plan", "schema": tiny_plan_schema(4)}}
    status, answer = ask(endpoint, prompt.user, response_format=shape)
    assert status == 200
    tasks = json.loads(text_of(answer))["tasks"]
    assert [task["id"] for task in tasks] == ["t1", "t2", "t3", "t4"][: len(tasks)]
    assert len({task["prompt"] for task in tasks}) >= 3
    assert all(task["prompt"].endswith("?") for task in tasks)
    assert any(topic.split()[0] in task["prompt"].lower() for task in tasks)


def test_four_requests_are_answered_at_once_and_more_wait(endpoint: Endpoint):
    """Ten requests on four slots all get their answer; at most four are worked on at a time."""
    with ThreadPoolExecutor(10) as pool:
        calls = [
            pool.submit(ask, endpoint, f"Tell a story about {n}.", max_tokens=40, ignore_eos=True)
            for n in range(10)
        ]
        assert until(lambda: busy_slots(endpoint) == 4)
        answers = [call.result() for call in calls]
    assert [status for status, _ in answers] == [200] * 10
    assert all(answer["usage"]["completion_tokens"] == 40 for _, answer in answers)


async def test_starting_freezes_nothing_and_says_nothing(
    gguf: Path, capfd: pytest.CaptureFixture[str]
):
    """While the weights load, the event loop goes on, nothing is printed, and Ctrl-C stays ours."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = EmbeddedServer(gguf)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    try:
        async with asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(tick())
            where = await server.start()
            clock.cancel()
        assert ticks > 5
        assert server.running
        assert (await asyncio.to_thread(ask, where, "Hello", max_tokens=3))[0] == 200
        with pytest.raises(SwarmError, match="started twice"):
            await server.start()
        assert server.running
    finally:
        server.close()
    assert not server.running
    assert capfd.readouterr() == ("", "")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


async def test_closing_does_not_wait_for_answers(gguf: Path):
    """The server ends at once in the middle of an answer, and closing it again does nothing."""
    server = EmbeddedServer(gguf, slots=1, context=2048)
    where = await server.start()
    failed: list[BaseException] = []

    def endless() -> None:
        try:
            ask(where, "Tell a story.", max_tokens=1500, ignore_eos=True)
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    asker = threading.Thread(target=endless)
    asker.start()
    assert await asyncio.to_thread(until, lambda: busy_slots(where) == 1)
    started = time.monotonic()
    server.close()
    server.close()
    assert time.monotonic() - started < 5
    asker.join(10)
    assert len(failed) == 1


async def test_a_start_that_is_cancelled_leaves_no_process(gguf: Path):
    """Ctrl-C while the weights load ends the child."""
    server = EmbeddedServer(gguf)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await server.start()
    assert not server.running
    assert server.pid is not None
    assert gone(server.pid)


async def test_weights_that_take_too_long_to_load_are_given_up(gguf: Path):
    """The limit for loading is said, and the child is gone."""
    server = EmbeddedServer(gguf, load_timeout_s=0.05)
    with pytest.raises(SwarmError, match=r"took longer than 0\.05 s") as caught:
        await server.start()
    assert caught.value.hint
    assert not server.running


@pytest.mark.parametrize("size", [0, 100, 5_000_000])
async def test_a_damaged_file_is_an_error_with_its_reason(gguf: Path, tmp_path: Path, size: int):
    """A file that llama.cpp cannot load: what, why, and what to do; no child stays."""
    damaged = tmp_path / "damaged.gguf"
    with gguf.open("rb") as file:
        damaged.write_bytes(b"GGUF" + bytes(96) if size == 100 else file.read(size))
    server = EmbeddedServer(damaged)
    with pytest.raises(SwarmError) as caught:
        await server.start()
    assert caught.value.message.startswith(f"cannot load {damaged}: ")
    assert ("corrupted or incomplete" in caught.value.message) == (size == 5_000_000)
    assert caught.value.hint
    assert not server.running


async def test_warnings_of_the_engine_go_to_the_log(gguf: Path, tmp_path: Path):
    """What llama.cpp has to say stands in a private file."""
    log = tmp_path / "embedded.log"
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(96))
    with pytest.raises(SwarmError):
        await EmbeddedServer(broken, log=log).start()
    assert "error loading model" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_planted_module_is_not_loaded(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file xllamacpp.py in the working directory, as a hostile repository may have it, is never run."""
    for name in ("xllamacpp.py", "json.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nraise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path)
    server = EmbeddedServer(gguf)
    try:
        await server.start()
    finally:
        server.close()
    assert not (tmp_path / "run").exists()


def test_the_server_ends_with_its_parent(gguf: Path):
    """After kill -9 of swarm no model stays in memory."""
    code = (
        "import asyncio, sys, time\nfrom pathlib import Path\n"
        "from swarmcli.adapters.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1]))\n"
        "asyncio.run(server.start())\nprint(server.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(gguf)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert until(lambda: gone(pid), 10)


def test_threads_stay_within_what_may_be_used():
    """There is at least one thread, and never more than this process has cores or a small model can use."""
    assert 1 <= usable_cores() <= min(8, os.cpu_count() or 1)
