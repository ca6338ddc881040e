"""Token estimates, for bounds that must hold without any tokenizer at hand."""

_BYTES, _TOKENS = 40, 11
"""40 bytes are at most 11 tokens: four bytes a token, and a tenth for safety. In whole numbers, so that it is exact."""
MESSAGE_OVERHEAD = 8
"""Tokens that a chat template adds per message."""


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has: UTF-8 bytes by four, and a tenth for safety."""
    return -(-len(text.encode("utf-8", "surrogatepass")) * _TOKENS // _BYTES)


def bytes_in(tokens: int) -> int:
    """The longest text, in bytes of UTF-8, that is estimated at no more than `tokens`."""
    return tokens * _BYTES // _TOKENS


def cut_to_tokens(text: str, tokens: int) -> str:
    """`text` shortened to about `tokens`, with a note in the middle that says how much is missing."""
    if estimate_tokens(text) <= tokens:
        return text
    keep = max(0, bytes_in(tokens) - 60)
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
