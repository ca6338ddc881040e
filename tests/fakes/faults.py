"""Every way in which a request can end, by name."""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.fakes.wire import Body, Exchange, Reply, Seen

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x9b2J\u202eevil\u2066\x00 [/red] ::error::x ##[group]"
"""A body that tries to drive the terminal, Rich markup and the CI runner."""


def rate_limited(retry_after: str | None = None) -> Reply:
    """A 429, for a list of faults."""
    return Reply(fault="429", retry_after=retry_after)


def http_date(seconds_from_now: float) -> str:
    """A `Retry-After` in the form of a date."""
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)


def chaos(seed: int, weights: Mapping[str, float]) -> Callable[[Seen], str]:
    """Faults drawn by seed, last message and how often that request came: the same for every order of arrival.

    Args:
        seed: another seed, other faults.
        weights: fault -> probability; what is left of 1.0 is "ok".
    """

    def pick(seen: Seen) -> str:
        draw = random.Random(f"{seed}:{seen.nth}:{seen.prompt}").random()
        for name, weight in weights.items():
            draw -= weight
            if draw < 0:
                return name
        return "ok"

    return pick


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


async def _eof(exchange: Exchange, reply: Reply) -> bool:
    """The connection closes in good order, without a byte."""
    return False


async def _half_head(exchange: Exchange, reply: Reply) -> bool:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: applic")
    return False


async def _long_head(exchange: Exchange, reply: Reply) -> bool:
    return await exchange.json(200, exchange.completion(reply), {"x-padding": "x" * 200_000})


async def _redirect(exchange: Exchange, reply: Reply) -> bool:
    """To itself, for ever."""
    assert exchange.seen is not None
    return await exchange.whole(307, b"", "text/plain", {"location": exchange.seen.path})


async def _bad_gzip(exchange: Exchange, reply: Reply) -> bool:
    body = json.dumps(exchange.completion(reply)).encode()
    return await exchange.whole(200, body, "application/json", {"content-encoding": "gzip"})


async def _stream_garbage(exchange: Exchange, reply: Reply) -> bool:
    """Half of the pieces, then an event that is no JSON."""
    if not exchange.streaming:
        return await exchange.whole(200, b'data: {"cho', "text/event-stream")
    await exchange.start_stream(reply)
    await exchange.pieces(reply, 0.5)
    await exchange.event('{"choices": [{"delta": {"cont')
    await exchange.send(b"0\r\n\r\n")
    return True


def _leaky(status: int) -> Fault:
    """An error that repeats the key, bare and in the request's own headers, between control sequences."""

    async def answer(exchange: Exchange, reply: Reply) -> bool:
        assert exchange.seen is not None
        key, sent = exchange.seen.key, exchange.seen.headers.get("authorization", "")
        message = (
            f"{HOSTILE} Bad request with api_key={key}; headers: {{'Authorization': '{sent}'}}"
        )
        return await exchange.error(reply, status, message, type="invalid_request_error")

    return answer


async def _leaky_page(exchange: Exchange, reply: Reply) -> bool:
    assert exchange.seen is not None
    page = f"<html><body>502 upstream https://x/?key={exchange.seen.key} {HOSTILE}</body></html>"
    return await exchange.whole(502, page.encode(), "text/html")


async def _leaky_text(exchange: Exchange, reply: Reply) -> bool:
    """A model that repeats the key in its answer."""
    assert exchange.seen is not None
    return await _ok(exchange, replace(reply, text=f"Your key is {exchange.seen.key}, is it not?"))


async def _odd_types(exchange: Exchange, reply: Reply) -> bool:
    """JSON in which everything is of another type than it should be."""
    body: Body = {**exchange.completion(reply), "choices": {"0": 1}, "usage": "none", "id": [None]}
    if not exchange.streaming:
        return await exchange.json(200, body)
    await exchange.start_stream(reply)
    await exchange.event(json.dumps(body))
    return await exchange.end_stream(reply)


def _odd_usage(body: Body) -> None:
    """A count below zero, one that is no number, one beyond all bounds."""
    body["usage"] = {"prompt_tokens": -5, "completion_tokens": 10**30, "total_tokens": None}


async def _huge_error(exchange: Exchange, reply: Reply) -> bool:
    message = "The server had an error. " * (exchange.server.huge_chars // 25)
    return await exchange.error(reply, 500, message, type="server_error")


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
    "eof": _eof,
    "half head": _half_head,
    "long head": _long_head,
    "redirect": _redirect,
    "bad gzip": _bad_gzip,
    "bad utf8": _page(200, b'{"id": "\xff\xfe", "choices": [\xc3', "application/json"),
    "deep json": _page(200, b'{"choices": ' + b"[" * 100_000, "application/json"),
    "no body": _page(200, b"", "application/json"),
    "odd types": _odd_types,
    "odd usage": _raw_body(_odd_usage),
    "huge error": _huge_error,
    "leaky 400": _leaky(400),
    "leaky 500": _leaky(500),
    "leaky page": _leaky_page,
    "leaky text": _leaky_text,
    "stream garbage": _stream_garbage,
    "stream reset": _stream_reset,
    "stream eof": _stream_eof,
    "stream done only": _stream_done_only,
    "stream no finish": _stream_no_finish,
    "stream error": _stream_error,
    "stream silent": _stream_silent,
}
"""Every way in which a request can end; "ok" is one of them. `THROTTLED` has more names for a 429."""


def _throttled(headers: Mapping[str, str]) -> Fault:
    async def answer(exchange: Exchange, reply: Reply) -> bool:
        return await FAULTS["429"](exchange, replace(reply, headers=headers))

    return answer


THROTTLED: Mapping[str, Fault] = {
    f"429 {name}": _throttled(headers)
    for name, headers in {
        "after 1": {"retry-after": "1"},
        "after 0.2": {"retry-after": "0.2"},
        "after ms": {"retry-after-ms": "200"},
        "after 0": {"retry-after": "0"},
        "after -5": {"retry-after": "-5"},
        "after nan": {"retry-after": "NaN"},
        "after inf": {"retry-after": "Infinity"},
        "after 1e9": {"retry-after": "1e9"},
        "after words": {"retry-after": "in a while"},
        "after nothing": {"retry-after": ""},
        "after a past date": {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"},
        "after a broken date": {"retry-after": "Thu, 99 Foo 2026 99:99:99 GMT"},
        "reset": {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "300ms",
        },
        "odd reset": {
            "x-ratelimit-limit-requests": "-1",
            "x-ratelimit-remaining-requests": "NaN",
            "x-ratelimit-reset-requests": "1e9s",
            "x-ratelimit-reset-tokens": "-3m",
        },
    }.items()
}
"""A 429 with every kind of header that providers and proxies send with it."""
