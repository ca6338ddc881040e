"""Fenced blocks in a model's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.fences import fenced_blocks


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", []),
        ("no fence", []),
        ("```\na\n```", ["a"]),
        ("x\n```json title=a\n a\nb \n```\ny", ["a\nb"]),
        ("1. x\n   ```json\n   a\n   ```\r\n", ["a"]),
        ("```\na```", ["a"]),  # the fence behind the last line
        ('```json\n{"a": "Use ```x``` here"}\n```', ['{"a": "Use ```x``` here"}']),
        ("```python\nnever closed\n```json\na\n```", ["a"]),
        ("```a\nb", []),
    ],
)
def test_blocks_are_what_stands_between_fences(text, blocks):
    """Backticks within a line are content, and a block that is never closed hides none behind it."""
    assert blocks == fenced_blocks(text)


@given(st.text(), st.text(st.characters(exclude_characters="`\n\r"), min_size=1))
def test_the_block_that_ends_a_text_is_the_last_one(before, content):
    """Whatever stands before it."""
    assert content.strip() == fenced_blocks(f"{before}\n```json\n{content}\n```")[-1]
