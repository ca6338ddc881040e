"""What goes over the wire: a request as it arrived, the script of an answer, and the ways to send one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Body = dict[str, Any]


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
    latency_s: float = 0.0
    """Drawn time to the first byte."""
    is_straggler: bool = False
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
        return "\n".join(content_of(m) for m in self.body.get("messages", []))

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


def prompt_of(request: Body) -> str:
    """The last user message."""
    users = [m for m in request.get("messages", []) if m.get("role") == "user"]
    return content_of(users[-1]) if users else ""


def tokens_of(text: str) -> int:
    """A quarter of the characters."""
    return max(1, len(text) // 4)


def content_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whether it is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content)


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """A request's body, by length or in chunks."""
    if "chunked" in headers.get("transfer-encoding", ""):
        pieces: list[bytes] = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(pieces)
    return await reader.readexactly(int(headers.get("content-length", "0")))


class Defaults(Protocol):
    """What an exchange asks the server for, where the reply does not say."""

    usage: bool
    chunk_chars: int
    chunk_delay_s: float
    huge_chars: int
    statuses: Counter[int]

    def rate_headers(self) -> Mapping[str, str]: ...


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
        self, server: Defaults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
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
        self.server.statuses[status] += 1
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        fields = {**(self.server.rate_headers() if self.seen else {}), **headers}
        lines += [f"{name}: {value}" for name, value in fields.items()]
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
            tokens_of(self.seen.text),
            tokens_of(reply.text or ""),
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
