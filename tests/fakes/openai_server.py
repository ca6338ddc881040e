"""A loopback OpenAI-compatible server: it answers as scripted, misbehaves on demand, and remembers every request.

    async with serving(reply="hi") as server: ...          # in a test, on the test's own loop
    with serve(faults=["429", "ok"]) as server:            # in a thread, beside a subprocess
        subprocess.run([...], env={**os.environ, **server.env})
    python tests/fakes/openai_server.py --port 0 --latency 0.5     # as a process: prints its URL first

What a request gets is decided in this order: the first of `routes` whose predicate holds, else `reply`; then
`faults` may spoil it. A reply is a string, a JSON object that is sent as the whole body, a `Reply`, or a
function of the request's JSON that returns one of these.

Faults (see `FAULTS` for the list) come from a list in order of arrival ("ok" when it is used up), or from a
function of the `Seen` request; `chaos` makes one that depends on the seed and the prompt only, never on the
order in which requests arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email.utils
import hashlib
import json
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Body = dict[str, Any]

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x9b2J\u202eevil\u2066\x00 [/red] ::error::x ##[group]"
"""A body that tries to drive the terminal, Rich markup and the CI runner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How one request is answered."""

    text: str | None = ""
    fault: str = "ok"
    latency_s: float | None = None
    """Time to the first byte; None: the server's."""
    finish_reason: str | None = "stop"
    usage: bool = True
    tokens: tuple[int, int] | None = None
    """(prompt, completion) tokens; None: a quarter of the characters."""
    chunks: tuple[str, ...] | None = None
    """The exact pieces of a streamed answer; None: `text` cut into pieces of `chunk_chars`."""
    chunk_chars: int | None = None
    chunk_delay_s: float | None = None
    retry_after: str | None = None
    """The `Retry-After` header of an error."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int = 200
    body: Body | str | bytes | None = None
    """The whole response body; wins over `text`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Seen:
    """One request as it arrived, and what became of it."""

    index: int
    """Order of arrival, from 0."""
    nth: int
    """How often this same body had arrived before."""
    path: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: Body
    at: float
    """`time.monotonic()` when it was complete."""
    in_flight: int
    """Requests being answered, this one included."""
    fault: str = "ok"
    ended_at: float | None = None
    disconnected: bool = False
    """True when the client hung up before the answer was complete."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def prompt(self) -> str:
        return prompt_of(self.body)

    @property
    def text(self) -> str:
        """All messages, joined."""
        return "\n".join(_content(m) for m in self.body.get("messages", []))

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


Answer = str | Body | Reply
Script = Answer | Callable[[Body], Answer]
Predicate = Callable[[Body], bool] | str
"""A test of the request's JSON, or a text that must stand in one of its messages."""
Faults = Sequence["str | Reply"] | Callable[[Seen], "str | Reply"]


def prompt_of(request: Body) -> str:
    """The last user message."""
    users = [m for m in request.get("messages", []) if m.get("role") == "user"]
    return _content(users[-1]) if users else ""


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content)


def echo(request: Body) -> str:
    """The default reply."""
    return f"echo: {prompt_of(request)[:200]}"


def rate_limited(retry_after: str | None = None) -> Reply:
    """A 429, for a list of faults."""
    return Reply(fault="429", retry_after=retry_after)


def http_date(seconds_from_now: float) -> str:
    """A `Retry-After` in the form of a date."""
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)


def chaos(seed: int, weights: Mapping[str, float]) -> Callable[[Seen], str]:
    """Faults drawn by seed, prompt and how often that request came: the same for every order of arrival.

    Args:
        seed: another seed, other faults.
        weights: fault -> probability; what is left of 1.0 is "ok".
    """

    def pick(seen: Seen) -> str:
        draw = random.Random(f"{seed}:{seen.nth}:{seen.text}").random()
        for name, weight in weights.items():
            draw -= weight
            if draw < 0:
                return name
        return "ok"

    return pick


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
        max_parallel: more requests than this at once get 429 with `Retry-After: retry_after`.
        retry_after: see `max_parallel`.
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
        chunk_chars: int = 16,
        chunk_delay_s: float = 0.0,
        usage: bool = True,
        max_parallel: int | None = None,
        retry_after: str | None = None,
        require_key: str | None = None,
        ollama_models: Sequence[str] | None = None,
        any_path: bool = False,
        huge_chars: int = 20_000_000,
    ) -> None:
        self.reply = reply
        self.routes = list(routes)
        self.faults = faults
        self.latency_s = latency_s
        self.chunk_chars = chunk_chars
        self.chunk_delay_s = chunk_delay_s
        self.usage = usage
        self.max_parallel = max_parallel
        self.retry_after = retry_after
        self.require_key = require_key
        self.ollama_models = ollama_models
        self.any_path = any_path
        self.huge_chars = huge_chars
        self.port = 0
        self.requests: list[Seen] = []
        self.in_flight = 0
        self.peak = 0
        self.connections = 0
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
        return {
            "requests": len(self.requests),
            "peak": self.peak,
            "connections": self.connections,
            "disconnects": self.disconnects,
        }

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
        raw = await _read_body(reader, headers)
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
        complete = False
        try:
            reply = self._reply_to(seen)
            seen.fault = reply.fault
            complete = not await exchange.pause(
                self.latency_s if reply.latency_s is None else reply.latency_s
            )
            if complete:
                complete = False
                keep_alive = await FAULTS[reply.fault](exchange, reply)
                complete = True
                return keep_alive
            return False
        finally:
            seen.disconnected = seen.disconnected or not complete
            seen.ended_at = time.monotonic()
            self.in_flight -= 1

    def _reply_to(self, seen: Seen) -> Reply:
        if self.require_key is not None and seen.key != self.require_key:
            return Reply(fault="401")
        if self.max_parallel is not None and self.in_flight > self.max_parallel:
            return Reply(fault="429", retry_after=self.retry_after)
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


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        pieces: list[bytes] = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(pieces)
    return await reader.readexactly(int(headers.get("content-length", "0")))


REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
}


class Exchange:
    """One request's way out: whole answers, streams, and the ways in which they break."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.seen: Seen | None = None

    async def pause(self, seconds: float) -> bool:
        """Wait; True when the client hung up meanwhile."""
        if seconds <= 0:
            return self.reader.at_eof()
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def head(self, status: int, headers: Mapping[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        if len(data) > 65536:
            await self.writer.drain()

    async def whole(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> bool:
        fields = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
        await self.send(self.head(status, fields) + body)
        return True

    async def json(
        self, status: int, body: object, headers: Mapping[str, str] | None = None
    ) -> bool:
        return await self.whole(status, json.dumps(body).encode(), "application/json", headers)

    async def error(self, reply: Reply, status: int, message: str, **fields: str | None) -> bool:
        headers = dict(reply.headers)
        if reply.retry_after is not None:
            headers["retry-after"] = reply.retry_after
        return await self.json(status, {"error": {"message": message, **fields}}, headers)

    def reset(self) -> bool:
        """Close with RST instead of FIN."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        return False

    async def hang(self) -> bool:
        """Say nothing until the client gives up."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read(1)
        assert self.seen is not None
        self.seen.disconnected = True
        return False

    @property
    def streaming(self) -> bool:
        assert self.seen is not None
        return bool(self.seen.body.get("stream"))

    def usage(self, reply: Reply) -> dict[str, int] | None:
        if not (reply.usage and self.server.usage):
            return None
        assert self.seen is not None
        prompt, completion = reply.tokens or (
            max(1, len(self.seen.text) // 4),
            max(1, len(reply.text or "") // 4),
        )
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def completion(self, reply: Reply) -> Body:
        """A whole chat completion as JSON."""
        assert self.seen is not None
        body: Body = {
            "id": f"chatcmpl-{self.seen.index}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.seen.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply.text},
                    "finish_reason": reply.finish_reason,
                }
            ],
        }
        usage = self.usage(reply)
        if usage is not None:
            body["usage"] = usage
        return body

    async def start_stream(self, reply: Reply) -> None:
        fields = {
            "content-type": "text/event-stream",
            "transfer-encoding": "chunked",
            **reply.headers,
        }
        await self.send(self.head(200, fields))

    async def event(self, data: str) -> None:
        payload = f"data: {data}\n\n".encode()
        await self.send(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")

    async def delta(
        self, content: str | None, finish_reason: str | None = None, **more: Any
    ) -> None:
        assert self.seen is not None
        delta: Body = {} if content is None else {"content": content}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        body = {
            "id": f"chatcmpl-{self.seen.index}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.seen.model,
            "choices": [choice],
            **more,
        }
        await self.event(json.dumps(body))

    async def pieces(self, reply: Reply, share: float = 1.0) -> None:
        """The first `share` of the answer's text, piece by piece."""
        text = reply.text or ""
        size = reply.chunk_chars or self.server.chunk_chars
        pieces = list(reply.chunks or [text[i : i + size] for i in range(0, len(text), size)])
        delay = self.server.chunk_delay_s if reply.chunk_delay_s is None else reply.chunk_delay_s
        for i, piece in enumerate(pieces[: max(1, int(len(pieces) * share))]):
            if (i and delay and await self.pause(delay)) or self.writer.transport.is_closing():
                raise ConnectionResetError("the client hung up while the answer was streaming")
            await self.delta(piece)
            if i % 64 == 63:
                await self.writer.drain()

    async def end_stream(self, reply: Reply, *, done: bool = True) -> bool:
        assert self.seen is not None
        usage = self.usage(reply)
        if usage is not None and self.seen.body.get("stream_options", {}).get("include_usage"):
            await self.event(
                json.dumps(
                    {
                        "id": "u",
                        "object": "chat.completion.chunk",
                        "created": 1,
                        "model": self.seen.model,
                        "choices": [],
                        "usage": usage,
                    }
                )
            )
        if done:
            await self.event("[DONE]")
        await self.send(b"0\r\n\r\n")
        return True


# --- what can happen to a request: each returns True when the connection stays usable

Fault = Callable[[Exchange, Reply], Awaitable[bool]]


async def _ok(exchange: Exchange, reply: Reply) -> bool:
    if reply.body is not None:
        body = reply.body
        raw = (
            body
            if isinstance(body, bytes)
            else body.encode()
            if isinstance(body, str)
            else json.dumps(body).encode()
        )
        kind = reply.headers.get("content-type", "application/json")
        return await exchange.whole(reply.status, raw, kind, reply.headers)
    if not exchange.streaming:
        return await exchange.json(reply.status, exchange.completion(reply), reply.headers)
    await exchange.start_stream(reply)
    await exchange.pieces(reply)
    await exchange.delta(None, reply.finish_reason)
    return await exchange.end_stream(reply)


def _variant(**changes: Any) -> Fault:
    async def answer(exchange: Exchange, reply: Reply) -> bool:
        return await _ok(exchange, replace(reply, **changes))

    return answer


def _error(status: int, message: str, **fields: str | None) -> Fault:
    async def answer(exchange: Exchange, reply: Reply) -> bool:
        return await exchange.error(reply, status, message, **fields)

    return answer


async def _unauthorized(exchange: Exchange, reply: Reply) -> bool:
    """OpenAI's own words; it echoes the key (OpenAI masks it, others do not)."""
    assert exchange.seen is not None
    return await exchange.error(
        reply,
        401,
        f"Incorrect API key provided: {exchange.seen.key}. You can find your API key in your account.",
        type="invalid_request_error",
        code="invalid_api_key",
    )


async def _unknown_model(exchange: Exchange, reply: Reply) -> bool:
    assert exchange.seen is not None
    return await exchange.error(
        reply,
        404,
        f"The model `{exchange.seen.model}` does not exist or you do not have access to it.",
        type="invalid_request_error",
        code="model_not_found",
    )


async def _slow(exchange: Exchange, reply: Reply) -> bool:
    if await exchange.pause(1.0):
        raise ConnectionResetError("hung up")
    return await _ok(exchange, reply)


async def _hang(exchange: Exchange, reply: Reply) -> bool:
    return await exchange.hang()


async def _drip(exchange: Exchange, reply: Reply) -> bool:
    """One byte at a time, never silent for long: only a total deadline ends this."""
    body = json.dumps(exchange.completion(reply)).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    await exchange.send(exchange.head(200, fields))
    for i in range(len(body)):
        await exchange.send(body[i : i + 1])
        if await exchange.pause(0.1):
            raise ConnectionResetError("hung up")
    return True


async def _reset(exchange: Exchange, reply: Reply) -> bool:
    return exchange.reset()


async def _half(exchange: Exchange, reply: Reply) -> bool:
    body = json.dumps(exchange.completion(reply)).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    await exchange.send(exchange.head(200, fields) + body[: len(body) // 2])
    return False


def _page(status: int, body: bytes, kind: str) -> Fault:
    async def answer(exchange: Exchange, reply: Reply) -> bool:
        return await exchange.whole(status, body, kind)

    return answer


def _raw_body(change: Callable[[Body], None]) -> Fault:
    """A completion with one thing wrong in it."""

    async def answer(exchange: Exchange, reply: Reply) -> bool:
        body = exchange.completion(reply)
        change(body)
        if not exchange.streaming:
            return await exchange.json(200, body)
        await exchange.start_stream(reply)
        choices = body["choices"]
        if choices:
            await exchange.delta(choices[0]["message"].get("content"))
            await exchange.delta(None, choices[0]["finish_reason"])
        return await exchange.end_stream(reply)

    return answer


def _null_content(body: Body) -> None:
    body["choices"][0]["message"]["content"] = None


def _refusal(body: Body) -> None:
    body["choices"][0]["message"] = {
        "role": "assistant",
        "content": None,
        "refusal": "I can't help with that.",
    }


async def _stream_reset(exchange: Exchange, reply: Reply) -> bool:
    if not exchange.streaming:
        return exchange.reset()
    await exchange.start_stream(reply)
    await exchange.pieces(reply, 0.5)
    await exchange.writer.drain()
    await exchange.pause(
        0.05
    )  # let the pieces leave: a reset discards what is still in the buffers
    return exchange.reset()


async def _stream_eof(exchange: Exchange, reply: Reply) -> bool:
    """Half of the pieces, then a clean end without finish_reason, usage or [DONE]."""
    if not exchange.streaming:
        return await _half(exchange, reply)
    await exchange.start_stream(reply)
    await exchange.pieces(reply, 0.5)
    await exchange.send(b"0\r\n\r\n")
    return True


async def _stream_done_only(exchange: Exchange, reply: Reply) -> bool:
    """All pieces and [DONE], but neither finish_reason nor usage."""
    await exchange.start_stream(reply)
    await exchange.pieces(reply)
    await exchange.event("[DONE]")
    await exchange.send(b"0\r\n\r\n")
    return True


async def _stream_no_usage(exchange: Exchange, reply: Reply) -> bool:
    """A provider that does not know `include_usage`: complete, with finish_reason and [DONE]."""
    return await _ok(exchange, replace(reply, usage=False))


async def _stream_no_finish(exchange: Exchange, reply: Reply) -> bool:
    """Usage and [DONE] come, but no piece ever held a finish_reason."""
    await exchange.start_stream(reply)
    await exchange.pieces(reply)
    return await exchange.end_stream(reply)


async def _stream_error(exchange: Exchange, reply: Reply) -> bool:
    """An error event in the middle, as routers send it when their upstream breaks."""
    if not exchange.streaming:
        return await exchange.error(reply, 502, "Upstream broke")
    await exchange.start_stream(reply)
    await exchange.pieces(reply, 0.5)
    await exchange.event(json.dumps({"error": {"message": "Upstream broke", "code": 502}}))
    await exchange.send(b"0\r\n\r\n")
    return True


async def _stream_silent(exchange: Exchange, reply: Reply) -> bool:
    """Half of the pieces, then silence on an open connection."""
    if exchange.streaming:
        await exchange.start_stream(reply)
        await exchange.pieces(reply, 0.5)
    return await exchange.hang()


async def _huge(exchange: Exchange, reply: Reply) -> bool:
    return await _ok(
        exchange, replace(reply, text="x" * exchange.server.huge_chars, chunk_chars=65536)
    )


FAULTS: Mapping[str, Fault] = {
    "ok": _ok,
    "slow": _slow,
    "429": _error(
        429, "Rate limit reached for requests", type="requests", code="rate_limit_exceeded"
    ),
    "429 quota": _error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota",
        code="insufficient_quota",
    ),
    "500": _error(
        500,
        "The server had an error while processing your request.",
        type="server_error",
        code=None,
    ),
    "502": _page(502, b"<html><body><h1>502 Bad Gateway</h1>nginx</body></html>", "text/html"),
    "503": _error(
        503,
        "The engine is currently overloaded, please try again later.",
        type="server_error",
        code=None,
    ),
    "400": _error(
        400,
        "Invalid value for 'messages[0].content'.",
        type="invalid_request_error",
        code="invalid_value",
    ),
    "401": _unauthorized,
    "402": _error(
        402, "Insufficient credits. Add more at your account page.", type="invalid_request_error"
    ),
    "403": _error(
        403, "You are not allowed to use this model.", type="permission_error", code="forbidden"
    ),
    "404": _unknown_model,
    "context": _error(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        type="invalid_request_error",
        code="context_length_exceeded",
    ),
    "filter 400": _error(
        400,
        "Your request was rejected as a result of our safety system.",
        type="invalid_request_error",
        code="content_policy_violation",
    ),
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "half": _half,
    "bad json": _page(
        200, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess', "application/json"
    ),
    "html": _page(200, b"<html><body>Sign in to the guest network</body></html>", "text/html"),
    "array": _page(200, b"[1, 2, 3]", "application/json"),
    "no choices": _raw_body(lambda body: body.update(choices=[])),
    "null content": _raw_body(_null_content),
    "refusal": _raw_body(_refusal),
    "empty": _variant(text=""),
    "blank": _variant(text=" \n\t "),
    "length": _variant(finish_reason="length"),
    "content filter": _variant(finish_reason="content_filter"),
    "no usage": _stream_no_usage,
    "hostile": _variant(text=HOSTILE),
    "huge": _huge,
    "stream reset": _stream_reset,
    "stream eof": _stream_eof,
    "stream done only": _stream_done_only,
    "stream no finish": _stream_no_finish,
    "stream error": _stream_error,
    "stream silent": _stream_silent,
}
"""Every way in which a request can end; "ok" is one of them."""


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


async def _main(args: argparse.Namespace) -> None:
    fake = Server(
        latency_s=args.latency,
        chunk_chars=args.chunk_chars,
        chunk_delay_s=args.chunk_delay,
        max_parallel=args.max_parallel,
        faults=lambda seen: args.fault[seen.index] if seen.index < len(args.fault) else "ok",
        **({} if args.text is None else {"reply": args.text}),
    )
    server = await fake.listen(args.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    print(fake.url, flush=True)  # noqa: T201 - the first line of output is the interface
    await stop.wait()
    await fake.stop(server)
    print(json.dumps(fake.stats()), flush=True)  # noqa: T201


def main() -> None:
    """Serve until SIGTERM; the first line printed is the URL, the last the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--text", help="answer with this text (default: echo the prompt)")
    parser.add_argument("--chunk-chars", type=int, default=16)
    parser.add_argument("--chunk-delay", type=float, default=0.0)
    parser.add_argument("--max-parallel", type=int, default=None)
    parser.add_argument(
        "--fault", action="append", default=[], choices=sorted(FAULTS), help="for the n-th request"
    )
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
