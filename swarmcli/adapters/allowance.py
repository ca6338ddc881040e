"""What may leave now, by the limits that were declared for one bucket: requests and tokens a minute, requests at once.

Rule: an allowance only counts. Waiting, fairness and what 429s teach are `limits` and `core.aimd`.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Declared limits of one bucket; None: not limited."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that may leave; to be freed exactly once."""

    id: int


@dataclass(frozen=True, slots=True)
class Wait:
    """A request that may not leave yet: ask again after `seconds`, or when a claim was freed."""

    seconds: float
    reason: str
    """A few words for displays: `500 requests a minute`, `200,000 tokens a minute`, `50 at once`."""


class Allowance(Protocol):
    """The books of one bucket. Synchronous and quick; it has no errors."""

    def claim(self, tokens: int) -> Claim | Wait:
        """Count a request of about `tokens` tokens as leaving now, or say what it waits for."""
        ...

    def settle(self, claim: Claim, tokens: int) -> None:
        """The provider has said how many tokens it counted."""
        ...

    def free(self, claim: Claim) -> None:
        """The request has ended: it is in flight no more; its minute goes on."""
        ...

    def pause(self, seconds: float) -> None:
        """Nothing may leave for so long: the provider said so to one of us."""
        ...
