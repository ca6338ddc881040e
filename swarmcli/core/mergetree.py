"""The reduce tree of `write`: how many results fit into one writer call, and what is reduced first.

Source: LLMxMapReduce (arXiv 2410.09342), map -> collapse while it does not fit -> reduce. Pieces are never dropped:
one that alone is too large is cut into several, and one that a reducer forgot is carried on beside its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarmcli.core.markers import cited
from swarmcli.core.tokens import bytes_in, estimate_tokens

_TAG_TOKENS = 80
"""What the data block and its name, of 200 characters at most, add to a piece."""
_LEAST_PIECE = 64
DEFAULT_WINDOW = 16_384
"""Tokens; for models of which nothing is known."""
LEAST_BUDGET = 2 * (_LEAST_PIECE + _TAG_TOKENS)
"""With less, no two pieces fit into one call, and the tree would never come to an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A text to be merged and the agents whose work it holds."""

    name: str
    agents: tuple[str, ...]
    text: str


def input_budget(context_window: int | None, max_output_tokens: int | None) -> int:
    """Tokens of material for one writer call: at most half the window, less where much output is asked for.

    An unknown window is taken as `DEFAULT_WINDOW`.
    """
    window = context_window or DEFAULT_WINDOW
    free = window - (max_output_tokens or window // 4) - 512
    return max(LEAST_BUDGET, min(window // 2, free))


def split_large(pieces: Sequence[Piece], budget: int) -> list[Piece]:
    """Cut pieces that alone exceed `budget` tokens at paragraph, line or word boundaries."""
    out: list[Piece] = []
    limit = max(64, bytes_in(budget))
    for piece in pieces:
        if estimate_tokens(piece.text) <= budget:
            out.append(piece)
            continue
        parts = _chunks(piece.text, limit)
        out += [
            Piece(name=f"{piece.name} part {i + 1}/{len(parts)}", agents=piece.agents, text=part)
            for i, part in enumerate(parts)
        ]
    return out


def groups(pieces: Sequence[Piece], budget: int) -> list[tuple[Piece, ...]]:
    """Consecutive pieces that fit into one call each; one group means that no reduction is needed.

    Pieces of at most `piece_budget(budget)` tokens make groups of two and more, so each level of calls is smaller.
    """
    packed: list[list[Piece]] = []
    used = 0
    for piece in pieces:
        size = piece_tokens(piece)
        if packed and used + size <= budget:
            packed[-1].append(piece)
            used += size
        else:
            packed.append([piece])
            used = size
    return [tuple(group) for group in packed]


def piece_tokens(piece: Piece) -> int:
    """What a piece takes with its data block."""
    return estimate_tokens(piece.text) + _TAG_TOKENS


def piece_budget(budget: int) -> int:
    """The largest piece of which two fit into one call."""
    return max(_LEAST_PIECE, budget // 2 - _TAG_TOKENS)


def condensed(group: Sequence[Piece], text: str) -> list[Piece]:
    """A group behind its reducer: the one piece that it became, and what the reducer forgot.

    Args:
        group: what the reducer was shown.
        text: its answer; without one the group stays as it is.
    """
    return [joined(group, text), *left_out(group, text)] if text else list(group)


def joined(group: Sequence[Piece], text: str) -> Piece:
    """One piece that stands for the whole group."""
    agents = agents_of(group)
    return Piece(name=span_name(agents), agents=agents, text=text)


def halved(parts: Sequence[Sequence[Piece]]) -> list[Sequence[Piece]]:
    """Each part as two, in order; one of a single piece stays."""
    halves = [(part[: len(part) // 2], part[len(part) // 2 :]) for part in parts]
    return [half for pair in halves for half in pair if half]


def left_out(group: Sequence[Piece], text: str) -> list[Piece]:
    """What a reducer forgot of its group, to be carried on as it is: nothing where it cites nobody, or everybody.

    A single agent's result is carried whole; of a piece that was condensed before, the lines that cite whom it forgot.
    A marker that an agent has put into its own result says nothing about the agent whom it names.
    """
    agents = agents_of(group)
    found = cited(text, agents)
    if not found:
        return []  # a model that does not keep markers: there is nothing to check it by
    found -= {name for piece in group for name in cited(piece.text, agents) - {*piece.agents}}
    carried: list[Piece] = []
    for piece in group:
        forgotten = tuple(agent for agent in piece.agents if agent not in found)
        if not forgotten:
            continue
        lines = [line for line in piece.text.split("\n") if cited(line, forgotten)]
        text = "\n".join(lines) if len(piece.agents) > 1 and lines else piece.text
        carried.append(Piece(name=span_name(forgotten), agents=forgotten, text=text))
    return carried


def agents_of(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Everybody whose work these pieces hold, in order."""
    return tuple(dict.fromkeys(agent for piece in pieces for agent in piece.agents))


def span_name(agents: Sequence[str]) -> str:
    """What a piece of several agents is called."""
    return agents[0] if len(agents) == 1 else f"{agents[0]} to {agents[-1]}"


def _chunks(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` bytes of UTF-8; only the space at their ends is lost."""
    chunks: list[str] = []
    position = 0
    while position < len(text):
        head = _head(text[position : position + limit], limit)
        if position + len(head) < len(text):
            head = head[: _boundary(head)]
        position += len(head)
        chunks.append(head.strip())
    return [chunk for chunk in chunks if chunk]


def _head(text: str, limit: int) -> str:
    """The beginning of `text` that takes at most `limit` bytes, and at least one character."""
    while (size := len(text.encode("utf-8", "surrogatepass"))) > limit and len(text) > 1:
        text = text[: max(1, min(len(text) - 1, len(text) * limit // size))]
    return text


def _boundary(text: str) -> int:
    """Where to cut: behind the last paragraph, else line, else word that ends in the second half."""
    for mark in ("\n\n", "\n", " "):
        cut = text.rfind(mark, len(text) // 2)
        if cut >= 0:
            return cut + len(mark)
    return len(text)
