"""The name of an answer: one hash over everything that can change it.

Rule: a field that reaches the provider is in the key; a field that only says how, when or for whom to ask is not.
"""

import hashlib
import json

from swarmcli.core.ports import ModelRequest

CACHE_SCHEMA = 1
"""Raise it when the meaning of a key or of a stored value changes: older entries are then misses."""


def cache_key(request: ModelRequest) -> str:
    """64 hex digits, equal for requests that the provider cannot tell apart.

    A request's own temperature and token bound stand in for its model's, as they do when it is sent.

    Raises:
        ValueError: a schema or extra parameter holds NaN or an infinity, which JSON cannot.
    """
    model = request.model
    temperature = model.temperature if request.temperature is None else request.temperature
    max_output_tokens = (
        model.max_output_tokens if request.max_output_tokens is None else request.max_output_tokens
    )
    material = {
        "v": CACHE_SCHEMA,
        "model": model.id,
        "api_base": model.api_base.rstrip("/") if model.api_base else None,
        "messages": [[message.role, message.content] for message in request.messages],
        "response_schema": None
        if request.response_schema is None
        else dict(request.response_schema),
        "temperature": None if temperature is None else float(temperature),
        "max_output_tokens": max_output_tokens,
        "reasoning_effort": model.reasoning_effort,
        "extra": dict(request.extra),
        "sample": request.sample,
    }
    text = json.dumps(material, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
