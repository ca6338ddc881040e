"""Recipes for runs that are killed or starved: answers depend on all that was asked, so a lost input shows."""

import hashlib
import re
from pathlib import Path

from swarmcli.adapters.journal import read_journal
from swarmcli.core.replay import replay
from tests.fakes.openai_server import Server, prompt_of

PLACES = re.compile(r"data-[0-9a-f]{8}|in round \d+")
"""What differs between two runs: the names of data blocks, and the round."""


def answer(body: dict) -> str:
    """Depends on all that was asked, inputs included; one in seven is too large for the journal."""
    prompt = PLACES.sub("", prompt_of(body))
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return f"{prompt[:20]!r} {digest} " + "x" * (70_000 if int(digest, 16) % 7 == 0 else 60)


def agent_of(prompt: str) -> str:
    """Which agent asks this."""
    verb, what, *_ = prompt.split()
    return verb.lower() if verb in {"Sum", "Last"} else f"{verb.lower()}[{what}]"


def finished(folder: Path) -> dict[str, str]:
    """What the journal holds as done, with its output."""
    events = (stamped.event for stamped in read_journal(folder / "journal.jsonl").events)
    return {agent: event.output for agent, event in replay(events).finished.items()}


SMALL = """\
version: 1
name: small
tasks:
  - {id: scan, prompt: "Scan {{ item }}", for_each: {items: [0, 1, 2, 3, 4, 5], as: item}}
  - {id: sum, prompt: "Sum of all", depends_on: [scan]}
"""


def short(body: dict) -> str:
    """An answer that stands in the journal."""
    return answer(body)[:90].strip()


def one_large(body: dict) -> str:
    """One of the answers does not."""
    return short(body) + ("y" * 70_000 if prompt_of(body).startswith("Scan 2") else "")


def expected_of_small(server: Server) -> bytes:
    """What the last agent answers is the result; it was asked with all outputs, or its hash differs."""
    sums = {seen.prompt for seen in server.requests if seen.prompt.startswith("Sum")}
    (prompt,) = sums
    assert prompt.count("<data-") == 6
    text = server.reply({"messages": [{"role": "user", "content": prompt}]})
    return text.encode() + b"\n"
