"""What the headers of an answer say of rate limits: what is left, when it is full again, when to come back.

Rules:
- Headers are hints from a stranger: what makes no sense is absent, what is absurd is cut to a bound.
- Names are lower-case. LiteLLM puts `llm_provider-` before a provider's own; both spellings are found.
- The server's own clock (`Date`) beats ours, where an instant is given instead of a duration.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from swarmcli.core.ports import Headroom

MAX_RESET_S = 60.0
"""The longest reset in a `Headroom`: limits are per minute, and no hint may stop us for longer."""
MAX_RETRY_AFTER_S = 3600.0

_MAX_VALUE_CHARS = 64
_LITELLM = "llm_provider-"
_COUNT = re.compile(r"[0-9]{1,12}")
_NUMBER_LIKE = re.compile(r"[-+]?(?:[\d.eE+-]+|nan|inf(?:inity)?)", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(d|h|ms|us|µs|ns|m|s)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SECONDS_IN = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIX_TIME_S = 1e8
"""A larger number of seconds is no wait but an instant, and from here on one in milliseconds:"""
_UNIX_TIME_MS = 1e11

_REQUESTS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("x-ratelimit-remaining-req-minute", "x-ratelimit-reset-req-minute"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
_TOKENS = (
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    ("x-tokenlimit-remaining", "x-tokenlimit-reset"),
)
"""(remaining, reset) as OpenAI and most others name them, Anthropic, Mistral, and OpenRouter or Together."""


def headroom_of(headers: Mapping[str, str], now: datetime | None = None) -> Headroom | None:
    """What is left of the limits; None when the headers do not say.

    Args:
        headers: of one response.
        now: for instants, when the response has no `Date`.
    """
    requests, requests_reset_s = _resource(headers, _REQUESTS, now)
    tokens, tokens_reset_s = _resource(headers, _TOKENS, now)
    if requests is requests_reset_s is tokens is tokens_reset_s is None:
        return None
    return Headroom(
        requests=requests,
        requests_reset_s=_at_most(requests_reset_s, MAX_RESET_S),
        tokens=tokens,
        tokens_reset_s=_at_most(tokens_reset_s, MAX_RESET_S),
    )


def exhausted_reset_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds until what is used up is full again, an hour at most; None when nothing is, or it does not say."""
    found = [_resource(headers, names, now) for names in (_REQUESTS, _TOKENS)]
    waits = [reset_s for left, reset_s in found if left == 0 and reset_s is not None]
    return _at_most(max(waits, default=None), MAX_RETRY_AFTER_S)


def says_when_to_retry(headers: Mapping[str, str]) -> bool:
    """True when a `retry-after` of either kind is there, whatever it holds."""
    return "retry-after-ms" in headers or "retry-after" in headers


def asked_wait_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """`retry-after-ms` or `retry-after` (seconds or an HTTP date), an hour at most; None for nonsense.

    Zero, negative numbers, NaN and infinity are nonsense.
    """
    if "retry-after-ms" in headers:
        wait = _number(headers["retry-after-ms"]) / 1000
    else:
        value = headers.get("retry-after", "").strip()
        is_number = _NUMBER_LIKE.fullmatch(value) is not None
        wait = _number(value) if is_number else _until(value, headers, now) or 0.0
    return _at_most(wait, MAX_RETRY_AFTER_S) if math.isfinite(wait) and wait > 0 else None


def _resource(
    headers: Mapping[str, str], names: tuple[tuple[str, str], ...], now: datetime | None
) -> tuple[int | None, float | None]:
    """What is left, and seconds until it is full, from the first pair of names of which anything makes sense."""
    for remaining, reset in names:
        left = _count(_value(headers, remaining))
        reset_value = _value(headers, reset)
        reset_s = _reset_s(reset_value, headers, now) if reset_value else None
        if left is not None or reset_s is not None:
            return left, reset_s
    return None, None


def _value(headers: Mapping[str, str], name: str) -> str | None:
    value: object = headers.get(name)
    if value is None:
        value = headers.get(_LITELLM + name)
    return value.strip() if isinstance(value, str) and len(value) <= _MAX_VALUE_CHARS else None


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and _COUNT.fullmatch(value) else None


def _reset_s(value: str, headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Seconds from `1s`, `6m0s`, `120ms`, `90`, a Unix time in s or ms, RFC 3339 or an HTTP date."""
    if _PLAIN_NUMBER.fullmatch(value):
        seconds = float(value)
        if seconds >= _UNIX_TIME_S:
            instant = seconds / 1000 if seconds >= _UNIX_TIME_MS else seconds
            seconds = instant - _server_time(headers, now).timestamp()
    elif _DURATION.fullmatch(value):
        parts = _DURATION_PART.findall(value)
        seconds = sum(float(n) * _SECONDS_IN[unit.replace("µ", "u")] for n, unit in parts)
    else:
        seconds = _until(value, headers, now) or 0.0
    return seconds if seconds > 0 else None


def _until(value: str, headers: Mapping[str, str], now: datetime | None) -> float | None:
    then = _date(value)
    return (then - _server_time(headers, now)).total_seconds() if then is not None else None


def _server_time(headers: Mapping[str, str], now: datetime | None) -> datetime:
    return _date(_value(headers, "date") or "") or now or datetime.now(UTC)


def _date(value: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = parse(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _at_most(value: float | None, bound: float) -> float | None:
    return None if value is None else min(value, bound)
