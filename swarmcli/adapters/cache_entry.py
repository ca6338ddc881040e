"""An answer as it lies in the cache: JSON behind the CRC of its bytes. What we did not write is no answer."""

import json
import zlib
from dataclasses import asdict
from typing import Any, NamedTuple, cast

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelReply


class CacheEntry(NamedTuple):
    """A stored answer and when it was given, in seconds since the epoch."""

    reply: ModelReply
    created: float


def encode(reply: ModelReply, created: float) -> bytes:
    """What `decode` reads."""
    content = {
        "text": reply.text,
        "model": reply.model,
        "usage": None if reply.usage is None else asdict(reply.usage),
        "cost_usd": reply.cost_usd,
        "created": created,
    }
    body = json.dumps(content, separators=(",", ":")).encode("ascii")
    return b"%08x %b" % (zlib.crc32(body), body)


def decode(value: object) -> CacheEntry | None:
    """The inverse of `encode`; None for whatever it did not write."""
    if not isinstance(value, bytes) or value[8:9] != b" ":
        return None
    body = value[9:]
    try:
        if int(value[:8], 16) != zlib.crc32(body):
            return None
        content = cast("dict[str, Any]", json.loads(body))
        text, model, usage = content["text"], content["model"], content["usage"]
        if not isinstance(text, str) or not isinstance(model, str):
            return None
        reply = ModelReply(
            text=text,
            model=model,
            usage=None if usage is None else Usage(**usage),
            cost_usd=content["cost_usd"],
        )
        return CacheEntry(reply, float(content["created"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
