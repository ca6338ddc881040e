"""Fenced blocks in a model's text, found line by line. Pure.

A pattern for them takes quadratic time, and ends a block at backticks that stand inside its content.
"""

_FENCE = "```"


def fenced_blocks(text: str) -> list[str]:
    """What stands between two fences that follow each other, of which the second ends its line; in order.

    A fence that closes one block may open the next: who left one out hides no block behind it.
    """
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        bare = line.strip()
        ends = bare.endswith(_FENCE)
        if inside is not None and ends:
            blocks.append("\n".join([*inside, bare.removesuffix(_FENCE)]).strip())
        if ends or bare.startswith(_FENCE):
            inside = []
        elif inside is not None:
            inside.append(line)
    return blocks
