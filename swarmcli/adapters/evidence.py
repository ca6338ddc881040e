"""What an exception from below can tell: reads the whole chain of causes into plain values. Judges nothing.

LiteLLM, the OpenAI SDK and httpx are known here by the names and attributes of their exceptions only, never imported.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from swarmcli.adapters.rate_headers import (
    MAX_RETRY_AFTER_S,
    asked_wait_s,
    exhausted_reset_s,
    says_when_to_retry,
)

_MAX_CHAIN = 30
_MAX_TEXT_CHARS = 200_000
_MAX_WORDS_CHARS = 20_000

_PREFIX = re.compile(
    r"^(?:litellm\.)?(?:\w+(?:Error|Exception)|Timeout)(?: Error)?(?::|\s+-)\s+|^\w+Exception\s+-\s+"
)
"""What LiteLLM puts before the provider's words, once per layer."""
_ADVICE = re.compile(
    r"\s*(?:To drop these, set|Handle with `litellm|Check the reverse proxy|Pass model as E\.g\.|Traceback \(most).*",
    re.DOTALL,
)
_WAIT_PART = re.compile(
    r"(\d{1,9}(?:\.\d{1,12})?)\s*"
    r"(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)(?![a-z])\s*"
)
_UNIT_S = {"ms": 0.001, "millisecond": 0.001, "milliseconds": 0.001} | {
    name: seconds
    for seconds, names in ((60.0, "m min mins minute minutes"), (3600.0, "h hour hours"))
    for name in names.split()
}
_RETRY_WORDS = re.compile(
    rf"(?:try again|retry) (?:in|after)\s+(?P<wait>(?:{_WAIT_PART.pattern})+)"
    r"|\"retrydelay\":\s*\"(?P<delay>\d{1,9}(?:\.\d{1,12})?)s\""
)
"""`9m38.016s`, `20ms`, `2 minutes`; Google's `retryDelay`."""
_HTTPX_WORDS = re.compile(r"(?:Server|Client) error '\d")
_RECEIVED = re.compile(r"(?:(?:Original Response|Received): |^b')(?P<body>.+)", re.DOTALL)
"""LiteLLM quotes the answer that it could not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a chain of exceptions says."""

    status: int | None
    """The HTTP status that a server sent; None when none did (LiteLLM makes up a 500 then)."""
    words: str
    """The provider's own words, unredacted."""
    text: str
    """All messages and bodies, lower-case: for comparisons."""
    codes: frozenset[str]
    """`code`, `type` and `status` of the error body, lower-case."""
    names: frozenset[str]
    """Class names along the chain."""
    reason: str | None
    """The operating system's words, such as "Connection refused"."""
    headers: Mapping[str, str]
    """Of the response, lower-case names."""

    def asks_to_retry(self) -> bool:
        """True when the provider says when to come back."""
        return says_when_to_retry(self.headers) or _RETRY_WORDS.search(self.text) is not None


def read(error: BaseException) -> Evidence:
    """Everything that the error and its causes can tell."""
    errors = tuple(_chain(error))
    bodies = [body for e in errors if (body := _body(e)) is not None]
    detail = next((found for body in bodies if (found := _detail(body))), dict[str, str]())
    said = [str(e) for e in errors] + [json.dumps(body, default=str) for body in bodies]
    return Evidence(
        status=_status(errors, detail),
        words=(detail.get("message") or _words(errors))[:_MAX_WORDS_CHARS],
        text="\n".join(said).lower()[:_MAX_TEXT_CHARS],
        codes=frozenset(
            detail[name].lower() for name in ("code", "type", "status") if name in detail
        ),
        names=frozenset(type(e).__name__ for e in errors),
        reason=next((r for e in reversed(errors) if (r := _os_reason(e))), None),
        headers=_headers(errors),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and whatever it wraps, outermost first, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CHAIN:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (
            getattr(current, "original_exception", None),
            current.__cause__,
            current.__context__,
        )
        waiting.extend(e for e in wrapped if isinstance(e, BaseException))


def _status(errors: tuple[BaseException, ...], detail: Mapping[str, str]) -> int | None:
    for error in errors:
        # LiteLLM's classes inherit the SDK's, but live in its own modules: theirs are made up.
        owner = type(error).__module__.partition(".")[0]
        response = getattr(error, "response", None)
        if owner in {"openai", "httpx"} or type(error).__name__ == "MaskedHTTPStatusError":
            status = getattr(response, "status_code", None)
            if isinstance(status, int):
                return status
    # An error event inside a stream names its status in the body.
    code = detail.get("code", "")
    return int(code) if re.fullmatch(r"[45]\d\d", code) else None


def _body(error: BaseException) -> object:
    """The error's body as JSON, from wherever its layer keeps it; None without one."""
    body: object = getattr(error, "body", None)
    if isinstance(body, dict | list):
        return cast("object", body)
    text = body if isinstance(body, str) else str(error)
    start = text.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    return cast("object", found)


def _detail(body: object) -> dict[str, str]:
    """`message`, `code`, `type` and `status` as text, out of the shapes in which providers wrap them."""
    if isinstance(body, list):
        items = cast("list[object]", body)
        body = items[0] if items else None
    if not isinstance(body, dict):
        return {}
    fields = cast("dict[str, Any]", body)
    inner: object = fields.get("error", fields)
    if isinstance(inner, str):
        return {"message": inner}
    found = cast("dict[str, Any]", inner) if isinstance(inner, dict) else fields
    if not isinstance(found.get("message"), str):
        detail: object = fields.get("detail")
        return {"message": detail} if isinstance(detail, str) else {}
    return {
        name: str(found[name]) for name in ("message", "code", "type", "status") if found.get(name)
    }


def _words(errors: tuple[BaseException, ...]) -> str:
    """What the innermost exception with something to say says, without LiteLLM's prefixes and advice."""
    for error in reversed(errors):
        text = str(getattr(error, "message", "") or error)[:_MAX_WORDS_CHARS]
        while (shorter := _PREFIX.sub("", text, count=1)) != text:
            text = shorter
        said = _ADVICE.sub("", text).strip()
        # What Python says of its own stumbling, and httpx of a status, helps nobody.
        from_python = type(error).__module__ in {"builtins", "json.decoder"} and len(errors) > 1
        if said and not from_python and not _HTTPX_WORDS.match(said):
            received = _RECEIVED.search(said)
            return received["body"].strip("'. ") if received else said
    return ""


def _os_reason(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    # asyncio writes its own sentence over the system's; name resolution has numbers of its own.
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror


def _headers(errors: tuple[BaseException, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for error in errors:
        for holder in (
            getattr(error, "litellm_response_headers", None),
            getattr(getattr(error, "response", None), "headers", None),
            getattr(error, "headers", None),
        ):
            if isinstance(holder, Mapping):
                for name, value in cast("Mapping[object, object]", holder).items():
                    found.setdefault(str(name).lower(), str(value).strip())
    return found


def retry_after_s(evidence: Evidence, now: datetime | None = None) -> float | None:
    """Seconds that the provider asks to wait; None when it does not say or says nonsense. An hour is the most.

    By `Retry-After`, else in words, else (for a 429) by when the limit that is used up is full again.
    """
    if says_when_to_retry(evidence.headers):
        return asked_wait_s(evidence.headers, now)
    if found := _RETRY_WORDS.search(evidence.text):
        seconds = _in_words(found)
        return min(seconds, MAX_RETRY_AFTER_S) if seconds > 0 else None
    return exhausted_reset_s(evidence.headers, now) if evidence.status == 429 else None


def _in_words(found: re.Match[str]) -> float:
    if found["delay"]:
        return float(found["delay"])
    parts = _WAIT_PART.findall(found["wait"])
    return sum(float(number) * _UNIT_S.get(unit, 1.0) for number, unit in parts)
