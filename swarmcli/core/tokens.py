"""Token estimates, for bounds that must hold without any tokenizer at hand."""

import math

CHARS_PER_TOKEN = 4
MARGIN = 1.1
MESSAGE_OVERHEAD = 8
"""Tokens that a chat template adds per message."""


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has: UTF-8 bytes by four, and a tenth for safety."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / CHARS_PER_TOKEN * MARGIN)


def cut_to_tokens(text: str, tokens: int) -> str:
    """`text` shortened to about `tokens`, with a note in the middle that says how much is missing."""
    if estimate_tokens(text) <= tokens:
        return text
    keep = max(0, int(tokens * CHARS_PER_TOKEN / MARGIN) - 60)
    while (cut := _without_middle(text, keep)) and keep and estimate_tokens(cut) > tokens:
        keep = keep * 9 // 10
    return cut


def _without_middle(text: str, keep: int) -> str:
    head = keep * 2 // 3
    note = f"\n[... {len(text) - keep:,} characters left out ...]\n"
    return text[:head] + note + text[len(text) - (keep - head) :]


def fair_shares(sizes: list[int], budget: int) -> list[int]:
    """Share `budget` among texts of these sizes so that small ones stay whole and large ones get the same."""
    shares = [0] * len(sizes)
    left = budget
    for place, smallest in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[smallest] = min(sizes[smallest], left // (len(sizes) - place))
        left -= shares[smallest]
    return shares
