"""Buckets: what a provider counts together, which is one model at one address under one key."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmcli.adapters import providers
from swarmcli.recipe.values import ModelSpec


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests with the same limits; two are equal when a provider cannot tell their senders apart."""

    api_base: str | None
    """Without a slash at its end; None: the provider's own."""
    model: str
    key: str | None = field(default=None, repr=False)
    """The key itself: it is compared, never shown."""

    def __str__(self) -> str:
        return f"{self.model} @ {self.api_base}" if self.api_base else self.model

    def digest(self, secret: bytes) -> bytes:
        """A name for the disk, 16 bytes: without `secret` nobody can try out which key made it."""
        text = json.dumps([self.api_base, self.model, self.key])
        return hmac.digest(secret, b"bucket " + text.encode(), hashlib.sha256)[:16]


def bucket_of(model: ModelSpec, env: Mapping[str, str]) -> Bucket:
    """The bucket that requests to `model` are counted in; address and key as they are sent."""
    base = model.api_base or providers.api_base_of(model.id, env)
    return Bucket(base.rstrip("/") if base else None, model.id, providers.api_key(model, env))
