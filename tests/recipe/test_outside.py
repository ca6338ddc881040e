"""Outside text in templates: worked with like any other, and written inside data blocks only."""

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.blocks import DataBlocks
from swarmcli.recipe.outside import OutsideText, marked
from swarmcli.recipe.template import evaluate, render

BLOCKS = DataBlocks(b"0123456789abcdef")
LOG = "first line\nsecond: CANARY\nthird"
ITEMS = ["CANARY a", "b", {"CANARY key": ["c", 4]}]
BLOCK = re.compile(r'<(data-[0-9a-f]{8,}) name="([^"\n]*)">\n(.*?)\n</\1>', re.DOTALL)


def outside(name, content):
    wrap = functools.partial(BLOCKS.wrap, name)
    return OutsideText(content, wrap) if isinstance(content, str) else marked(content, wrap)


VALUES = {"log": outside("log", LOG), "items": outside("items", ITEMS), "own": "own", "n": 3}


def shown(template):
    """The prompt with its blocks opened: `name[content]`."""
    return BLOCK.sub(lambda found: f"{found[2]}[{found[3]}]", render(template, VALUES))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {{ log }} b", f"a log[{LOG}] b"),
        ("{{ log[:10] }}", "log[first line]"),
        ("{{ log[0] }}{{ items[1] }}", "log[f]items[b]"),
        ("{{ log | upper | truncate(9) }}", "log[FIRST...]"),
        ("{{ log.splitlines()[1] }}", "log[second: CANARY]"),
        ("{{ log.splitlines() | last }}", "log[third]"),
        ("{% for x in log.split()[:2] %}- {{ x }}{% endfor %}", "- log[first]- log[line]"),
        ("{% for c in log %}{% if loop.first %}{{ c }}{% endif %}{% endfor %}", "log[f]"),
        ("{% set x = log %}{{ x | replace('first', own) | truncate(9) }}", "log[own...]"),
        ("{{ own | replace('o', log[0]) }}", "log[fwn]"),
        ("{{ own ~ ': ' ~ log[:5] ~ n }}", "own: log[first]3"),
        ("{{ own + log[:5] }}", "ownlog[first]"),
        ("{{ (own ~ log) | truncate(8) }}", "log[ownfi...]"),
        ("{{ log.split() | join(own) | truncate(12) }}", "log[firstownl...]"),
        ("{{ [own, log[:5], items[1]] | join(', ') }}", "own, log[first], items[b]"),
        ("{{ items }}", 'items[["CANARY a", "b", {"CANARY key": ["c", 4]}]]'),
        ("{{ items | tojson }}", 'items[["CANARY a", "b", {"CANARY key": ["c", 4]}]]'),
        ("{{ items[:2] | join(', ') }}", "items[CANARY a, b]"),
        ("{% for k, v in items[2] | items %}{{ k }}={{ v }}{% endfor %}", 'items[CANARY key]=items[["c", 4]]'),
        ("{{ [[log[:5]]] }}", 'log[[["first"]]]'),
        ("{{ {'x': log[:5]} }}", 'log[{"x": "first"}]'),
        ("{% macro m(x) %}Judge {{ x }}{% endmacro %}{{ m(log[:5]) }}", "Judge log[first]"),
        ("{{ log | length }} {{ items | length }} {{ 'CANARY' in log }} {{ log | wordcount }}", "31 3 true 5"),
        ("{% if log.startswith('first') %}{{ own }}{% endif %}", "own"),
        ("{% for x in [own, log[:5]] %}{{ x }}{% endfor %}", "ownlog[first]"),
        ("{{ items | map('string') | map('upper') | first }}", "items[CANARY A]"),
        ("{{ nothing | default(log[:5]) }}", "log[first]"),
    ],
)  # fmt: skip
def test_whatever_a_template_makes_of_it_stands_in_a_block(template, text):
    """Pieces, copies and mixtures are data, too; the recipe's own words, lengths and comparisons are not."""
    assert shown(template) == text


@given(
    st.sampled_from(["{{ log[%d:] }}", "{{ log[:%d] }}", "{{ log | truncate(%d) }}", "{{ log | indent(%d) }}"]),
    st.integers(4, 40),
)  # fmt: skip
def test_no_cut_opens_a_block(template, at):
    """Wherever it falls."""
    assert "CANARY" not in BLOCK.sub("", render(template % at, VALUES))


def test_items_are_the_texts_themselves():
    """One agent per line of a log: no item is a tag of ours."""
    assert evaluate("{{ log.splitlines() }}", VALUES) == LOG.splitlines()
    assert evaluate("{{ items }}", VALUES) == ITEMS


def test_it_may_be_written_in_a_way_of_its_own():
    """An input of several agents is several blocks; a part of it is one."""
    both = OutsideText("one\ntwo", functools.partial(BLOCKS.wrap, "scan"), "1: one, 2: two")

    assert render("{{ x }}", {"x": both}) == "1: one, 2: two"
    assert render("{{ x | trim }}", {"x": both}) == BLOCKS.wrap("scan", "one\ntwo")
