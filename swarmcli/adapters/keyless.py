"""What models write, without our own keys: a model may repeat a key that stood in a file it was shown.

Only exact values go, in all spellings that `Redactor` knows: what merely looks like a key may be what was asked for.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from swarmcli.adapters.providers import PROVIDERS
from swarmcli.adapters.redact import Redactor
from swarmcli.core.ports import TextSink

PLACEHOLDERS = frozenset(
    {"not-needed", "not-required", "no-key-required", "sk-no-key-required", "lm-studio"}
    | {"placeholder", "dummy-key", "fake-key"}
)
"""What people set where a server wants any key at all: words, not secrets."""


def keys_in(env: Mapping[str, str]) -> Iterator[str]:
    """The values of all variables in which providers' keys are expected."""
    for provider in PROVIDERS.values():
        for name in provider.keys:
            if (value := env.get(name)) and is_secret(value):
                yield value


def is_secret(key: str) -> bool:
    """False for what stands in a key's place without being one."""
    return key.strip().lower() not in PLACEHOLDERS


class KeylessSink:
    """Hands pieces on to `sink` without our keys, also those that are cut into several pieces.

    The end of a piece that may be the beginning of a key waits for the next one. Together the pieces are exactly
    what `redact.known` makes of the whole text.

    Args:
        sink: gets the clean pieces; what it raises passes.
        redact: knows the keys.
    """

    def __init__(self, sink: TextSink, redact: Redactor) -> None:
        self._sink = sink
        self._redact = redact
        self._waiting = ""

    def feed(self, text: str) -> None:
        clean, self._waiting = self._redact.split(self._waiting + text)
        if clean:
            self._sink.feed(clean)

    def rest(self) -> str:
        """What still waits, clean: the last piece, which the caller hands over when the answer is complete."""
        waiting, self._waiting = self._waiting, ""
        return self._redact.known(waiting)

    def restart(self) -> None:
        self._waiting = ""
        self._sink.restart()


if TYPE_CHECKING:
    _sink: type[TextSink] = KeylessSink
