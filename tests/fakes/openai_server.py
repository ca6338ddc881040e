"""A loopback OpenAI-compatible server: it answers as scripted, misbehaves on demand, and remembers every request.

    async with serving(reply="hi") as server: ...          # in a test, on the test's own loop
    with serve(faults=["429", "ok"]) as server:            # in a thread, beside a subprocess
        subprocess.run([...], env={**os.environ, **server.env})
    python tests/fakes/openai_server.py --port 0 --latency 0.5     # as a process: prints its URL first

What a request gets is decided in this order: the first of `routes` whose predicate holds, else `reply`; then
`faults` may spoil it. A reply is a string, a JSON object that is sent as the whole body, a `Reply`, or a
function of the request's JSON that returns one of these.

Faults (see `faults.FAULTS` and `faults.THROTTLED`) come from a list in order of arrival ("ok" when it is used up),
or from a function of the `Seen` request; `chaos` makes one that depends on the seed and the prompt only, never on
the order in which requests arrive. Limits refuse before that; see `traffic`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is started as a script, too

from tests.fakes.faults import FAULTS, HOSTILE, THROTTLED, chaos, http_date, rate_limited
from tests.fakes.traffic import Allowance, Schedule, Weather, busiest, limit_at, schedule
from tests.fakes.wire import Body, Exchange, Reply, Seen, prompt_of, read_body, tokens_of

__all__ = [
    "FAULTS", "HOSTILE", "THROTTLED", "Reply", "Seen", "Server", "chaos", "http_date", "prompt_of", "rate_limited",
    "serve", "serving",
]  # fmt: skip

_ENDS = {**FAULTS, **THROTTLED}

Answer = str | Body | Reply
Script = Answer | Callable[[Body], Answer]
Predicate = Callable[[Body], bool] | str
"""A test of the request's JSON, or a text that must stand in one of its messages."""
Faults = Sequence["str | Reply"] | Callable[[Seen], "str | Reply"]


def echo(request: Body) -> str:
    """The default reply."""
    return f"echo: {prompt_of(request)[:200]}"


class Server:
    """What `serving` and `serve` hand out. All lists may be read while requests are being answered.

    Args:
        reply: the answer where no route fits.
        routes: (predicate, reply) pairs; the first that fits wins.
        faults: see the module's first lines.
        latency_s: time to the first byte of every answer.
        chunk_chars: size of the pieces of a streamed answer.
        chunk_delay_s: pause between two pieces.
        usage: False: neither bodies nor streams hold token counts.
        together: answers wait until so many requests have been in flight at once.
        weather: what makes some answers slower than `latency_s`.
        max_parallel: more requests than this at once get 429; it may change with time.
        rpm: more requests than this per window get 429.
        tpm: more tokens than this per window get 429 (prompt, and `max_tokens` where the request has it).
        window_s: the length of that window, which slides.
        retry_after: the header of these 429s; "auto": the whole seconds after which it would fit; None: none.
        rate_headers: send `x-ratelimit-*` with every answer.
        require_key: any other bearer token gets 401.
        ollama_models: what `GET /api/tags` lists; None: 404, this is no Ollama.
        any_path: take every POST for a chat completion (another provider's API, with a raw body as reply).
        huge_chars: the size of the answer of the fault "huge".
    """

    def __init__(
        self,
        *,
        reply: Script = echo,
        routes: Sequence[tuple[Predicate, Script]] = (),
        faults: Faults = (),
        latency_s: float = 0.0,
        together: int = 0,
        chunk_chars: int = 16,
        chunk_delay_s: float = 0.0,
        usage: bool = True,
        weather: Weather | None = None,
        max_parallel: int | Schedule | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        window_s: float = 60.0,
        retry_after: str | None = None,
        rate_headers: bool = False,
        require_key: str | None = None,
        ollama_models: Sequence[str] | None = None,
        any_path: bool = False,
        huge_chars: int = 20_000_000,
    ) -> None:
        self.reply = reply
        self.routes = list(routes)
        self.faults = faults
        self.latency_s = latency_s
        self.together = together
        self.chunk_chars = chunk_chars
        self.chunk_delay_s = chunk_delay_s
        self.usage = usage
        self.weather = weather or Weather()
        self.max_parallel = max_parallel
        self.allowance = Allowance(rpm, tpm, window_s)
        self.retry_after = retry_after
        self.with_rate_headers = rate_headers
        self.require_key = require_key
        self.ollama_models = ollama_models
        self.any_path = any_path
        self.huge_chars = huge_chars
        self.port = 0
        self.requests: list[Seen] = []
        self.in_flight = 0
        self.peak = 0
        self.admitted = 0
        """Requests being answered that no limit has refused."""
        self.connections = 0
        self.statuses: Counter[int] = Counter()
        """How often each status was sent for a completion."""
        self._bodies: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        """What `OPENAI_API_BASE` takes."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def root(self) -> str:
        """What `OLLAMA_HOST` takes."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The variables that make a `swarm` subprocess use this server."""
        return {
            "OPENAI_API_BASE": self.url,
            "OPENAI_API_KEY": self.require_key or "sk-test-key-of-the-fake",
        }

    @property
    def disconnects(self) -> int:
        return sum(seen.disconnected for seen in self.requests)

    @property
    def prompts(self) -> list[str]:
        """The last user message of every request, in order of arrival."""
        return [seen.prompt for seen in self.requests]

    def asked(self, text: str) -> list[Seen]:
        """The requests with `text` in one of their messages."""
        return [seen for seen in self.requests if text in seen.text]

    def stats(self) -> dict[str, int]:
        """Counts for a benchmark: all are of requests, but `connections`."""
        return {
            "requests": len(self.requests),
            "peak": self.peak,
            "connections": self.connections,
            "disconnects": self.disconnects,
            "limited": self.statuses[429],
            "stragglers": sum(seen.is_straggler for seen in self.requests),
            "busiest_minute": busiest([seen.at for seen in self.requests]),
        }

    def rate_headers(self) -> Mapping[str, str]:
        """What every answer says about the limits."""
        return self.allowance.headers(time.monotonic()) if self.with_rate_headers else {}

    async def until(self, test: Callable[[], object], patience_s: float = 10.0) -> None:
        """Return when `test()` holds; raises `TimeoutError` when it does not come to that."""
        for _ in range(int(patience_s / 0.005)):
            if test():
                return
            await asyncio.sleep(0.005)
        raise TimeoutError(f"still not so after {patience_s:g} s: {self.stats()}")

    def connection_tasks(self) -> set[asyncio.Task[Any]]:
        """The server's own tasks on the loop that it shares with a test."""
        return set(self._tasks)

    # --- the event loop's side

    async def listen(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(
            self._on_connection, "127.0.0.1", port, backlog=4096, limit=1 << 20
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone (`Seen.disconnected` tells), or `stop` was called
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)
        }
        raw = await read_body(reader, headers)
        exchange = Exchange(self, reader, writer)
        if method == "GET":
            return await self._get(exchange, path)
        if not self.any_path and not path.endswith("/chat/completions"):
            return await exchange.json(404, {"error": {"message": f"no such path: {path}"}})
        return await self._completion(exchange, path, headers, raw)

    async def _get(self, exchange: Exchange, path: str) -> bool:
        if path.endswith("/models"):
            return await exchange.json(
                200, {"object": "list", "data": [{"id": "fake", "object": "model"}]}
            )
        if path == "/api/tags" and self.ollama_models is not None:
            names = [{"name": name, "model": name} for name in self.ollama_models]
            return await exchange.json(200, {"models": names})
        return await exchange.json(404, {"error": {"message": f"no such path: {path}"}})

    async def _completion(
        self, exchange: Exchange, path: str, headers: dict[str, str], raw: bytes
    ) -> bool:
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        seen = Seen(
            index=len(self.requests),
            nth=self._bodies[digest],
            path=path,
            headers=headers,
            body=json.loads(raw),
            at=time.monotonic(),
            in_flight=self.in_flight,
        )
        self._bodies[digest] += 1
        self.requests.append(seen)
        exchange.seen = seen
        complete = admitted = False
        try:
            reply = self._refusal_of(seen)
            if reply is None:
                admitted = True
                self.admitted += 1
                reply = self._reply_to(seen)
            seen.fault = reply.fault
            seen.latency_s = self._latency_s(seen) if reply.latency_s is None else reply.latency_s
            await self.until(lambda: self.peak >= self.together, 60)
            if await exchange.pause(seen.latency_s):
                return False
            keep_alive = await _ENDS[reply.fault](exchange, reply)
            complete = True
            return keep_alive
        finally:
            seen.disconnected = seen.disconnected or not complete
            seen.ended_at = time.monotonic()
            self.in_flight -= 1
            self.admitted -= admitted

    def _latency_s(self, seen: Seen) -> float:
        request = f"{seen.model}:{seen.nth}:{seen.text}"
        seen.is_straggler = self.weather.is_straggler(request)
        return self.latency_s * self.weather.factor(request)

    def _refusal_of(self, seen: Seen) -> Reply | None:
        """What a request gets that is not admitted, at once; None: it is."""
        if self.require_key is not None and seen.key != self.require_key:
            return Reply(fault="401")
        most = limit_at(self.max_parallel, seen.at - self.requests[0].at)
        if most is not None and self.admitted >= most:
            return self._too_many(1.0)
        tokens = tokens_of(seen.text) + int(seen.body.get("max_tokens") or 0)
        early_s = self.allowance.admit(tokens, seen.at)
        return self._too_many(early_s) if early_s > 0 else None

    def _too_many(self, early_s: float) -> Reply:
        wait = str(math.ceil(early_s)) if self.retry_after == "auto" else self.retry_after
        return Reply(fault="429", retry_after=wait, latency_s=0.0)

    def _reply_to(self, seen: Seen) -> Reply:
        script = next((reply for test, reply in self.routes if _holds(test, seen)), self.reply)
        answer = script(seen.body) if callable(script) else script
        if isinstance(answer, str):
            reply = Reply(text=answer)
        elif isinstance(answer, dict):
            reply = Reply(body=answer)
        else:
            reply = answer
        if callable(self.faults):
            fault = self.faults(seen)
        else:
            fault = self.faults[seen.index] if seen.index < len(self.faults) else "ok"
        if isinstance(fault, Reply):
            return fault
        return reply if fault == "ok" else replace(reply, fault=fault)


def _holds(test: Predicate, seen: Seen) -> bool:
    return test in seen.text if isinstance(test, str) else test(seen.body)


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    """A server on the running event loop; the settings are those of `Server`."""
    fake = Server(**settings)
    server = await fake.listen()
    try:
        yield fake
    finally:
        await fake.stop(server)


@contextlib.contextmanager
def serve(**settings: Any) -> Iterator[Server]:
    """A server in a thread of its own, for tests that start a subprocess or block."""
    fake = Server(**settings)
    started = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        server = await fake.listen()
        started.set()
        await stop.wait()
        await fake.stop(server)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="fake-openai")
    thread.start()
    try:
        if not started.wait(10):
            raise RuntimeError("the fake server did not start")
        yield fake
    finally:
        stopping[0]()
        thread.join(10)


def _server_of(args: argparse.Namespace) -> Server:
    if args.chaos:
        shares = {name: float(share) for name, _, share in (c.partition("=") for c in args.chaos)}
        faults = chaos(args.seed, shares)
    else:
        faults = args.fault
    return Server(
        latency_s=args.latency,
        weather=Weather(
            seed=args.seed,
            jitter=args.jitter,
            straggler_share=args.straggler_share,
            straggler_factor=args.straggler_factor,
        ),
        chunk_chars=args.chunk_chars,
        chunk_delay_s=args.chunk_delay,
        usage=not args.no_usage,
        max_parallel=args.max_parallel,
        rpm=args.rpm,
        tpm=args.tpm,
        window_s=args.window,
        retry_after=args.retry_after,
        rate_headers=args.rate_headers,
        huge_chars=args.huge_chars,
        faults=faults,
        **({} if args.text is None else {"reply": args.text}),
    )


async def _main(args: argparse.Namespace) -> None:
    fake = _server_of(args)
    server = await fake.listen(args.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    print(fake.url, flush=True)  # noqa: T201 - the first line of output is the interface
    await stop.wait()
    await fake.stop(server)
    print(json.dumps(fake.stats()), flush=True)  # noqa: T201


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--port", type=int, default=0)
    add("--text", help="answer with this text (default: echo the prompt)")
    add("--chunk-chars", type=int, default=16)
    add("--chunk-delay", type=float, default=0.0, help="seconds between two pieces of a stream")
    add("--no-usage", action="store_true", help="never count tokens")
    add("--seed", type=int, default=0, help="of jitter, stragglers and chaos")
    add("--latency", type=float, default=0.0, help="seconds before every answer")
    add("--jitter", type=float, default=0.0, help="0.2: 80 to 120 %% of the latency")
    add("--straggler-share", type=float, default=0.0, help="0.02: 2 %% of the requests are slow")
    add("--straggler-factor", type=float, default=10.0, help="how much slower")
    add("--max-parallel", type=schedule, help="40, or 0:100,30:20,60:none by elapsed seconds")
    add("--rpm", type=int, help="requests in any --window seconds")
    add("--tpm", type=int, help="tokens in any --window seconds")
    add("--window", type=float, default=60.0, help="seconds")
    add("--retry-after", help="with each 429 of a limit: a text, or auto")
    add("--rate-headers", action="store_true", help="x-ratelimit-* with every answer")
    add("--huge-chars", type=int, default=20_000_000, help="size of the faults named huge")
    names = sorted({*FAULTS, *THROTTLED})
    add("--fault", action="append", default=[], choices=names, help="for the n-th request")
    add("--chaos", action="append", default=[], metavar="NAME=SHARE", help="e.g. 500=0.2")
    return parser


def main() -> None:
    """Serve until SIGTERM; the first line printed is the URL, the last the counts as JSON."""
    asyncio.run(_main(_arguments().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
