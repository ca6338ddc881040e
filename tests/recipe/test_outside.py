"""Outside text in templates: worked with like any other, and written inside data blocks only."""

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.blocks import DataBlocks
from swarmcli.recipe.outside import OutsideText, marked
from swarmcli.recipe.template import TemplateError, evaluate, render
from tests.effort import calls

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
        ("{{ {log[:5]: 1} }}", 'log[{"first": 1}]'),
        ("{{ {}.fromkeys([log[:5]]) | tojson }}", 'log[{"first": null}]'),
        ("{{ [{log[:5]: n}] | upper }}", 'log[[{"FIRST": 3}]]'),
        ("{{ (own ~ [log[:5]]) | upper }}", 'log[OWN["FIRST"]]'),
        ("{% macro m(x) %}{{ kwargs }}{{ x }}{% endmacro %}{{ m(own, **{log[:5]: 1}) }}", 'log[{"first": 1}]own'),
    ],
)  # fmt: skip
def test_whatever_a_template_makes_of_it_stands_in_a_block(template, text):
    """Pieces, copies and mixtures are data, too; the recipe's own words, lengths and comparisons are not."""
    assert shown(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% set x %}Do {{ log }}{% endset %}{{ x }}", f"Do log[{LOG}]"),
        ("{% set x %}\n Do {{ log }}\n{% endset %}{{ x | trim }}!", f"Do log[{LOG}]!"),
        ("{% set x %} {{ log[:5] }}: {% endset %}{{ x.lstrip() }}|{{ x.rstrip() }}|{{ x.strip() }}",
         "log[first]: | log[first]:|log[first]:"),
        ("{% set x %}{{ own }}\n{{ n }}{% endset %}{{ x.splitlines()[1] }}", "3"),
        ("{% set x %}{{ log }}{% endset %}{{ x.splitlines()[1] }}", "log[second: CANARY]"),
        ("{% set x %}{{ log }}{% endset %}{{ x[11:] | truncate(14) }}", "log[second:...]"),
        ("{% set x | upper %}Do {{ log[:5] }}{% endset %}{{ x }}", "log[DO FIRST]"),
        ("{% set x %}{{ log[:5] }}{% endset %}{{ [x] }}", 'log[["first"]]'),
        ("{% set x %}{{ log[:5] }}{{ log[-5:] }}{% endset %}{{ x }}", "log[first]log[third]"),
        ("{% set x %}Do {{ log[:5] }}{% endset %}{{ x ~ log[-5:] }}", "Do log[first]log[third]"),
        ("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(log).splitlines()[1] }}", "log[second: CANARY]"),
        ("{% macro m(x) %}Do {{ x }} {% endmacro %}{{ m(log[:5]) | trim }}!", "Do log[first]!"),
        ("{% macro m() %}{{ caller()[11:] }}{% endmacro %}{% call m() %}{{ log }}{% endcall %}",
         "log[second: CANARY\nthird]"),
        ("{% macro m() %}Do {{ caller(log) }}{% endmacro %}{% call(x) m() %}{{ x[:5] }}{% endcall %}", "Do log[first]"),
        ("{% block b %}{{ log[:5] }}{% endblock %}{{ self.b()[1:] }}", "log[first]log[irst]"),
        ("{% filter upper %}{{ log[:5] }}{% endfilter %}", "log[FIRST]"),
        ("{% filter truncate(8) %}{{ log }}{% endfilter %}", "log[first...]"),
        ("{% filter replace('data', own) %}{{ log[:5] }}{% endfilter %}", "log[first]"),
        ("{% filter trim %} Do {{ log[:5] }} {% endfilter %}", "Do log[first]"),
        ("{% for x in [log[:5]] %}{% set y %}{{ x }}{% endset %}{{ y[1:] }}{% endfor %}", "log[irst]"),
    ],
)  # fmt: skip
def test_what_a_template_has_written_is_data_still(template, text):
    """Macros, blocks and `{% set %}` hold it whole, with their own words around it, and no part of it gets out."""
    assert shown(template) == text


def test_indented_blocks_are_whole():
    """The tags move with the lines."""
    block = BLOCKS.wrap("log", "first").replace("\n", "\n  ")

    assert render("{% filter indent(2) %}- {{ log[:5] }}{% endfilter %}", VALUES) == f"- {block}"


class Inputs:
    """Like the engine's: outside text by name, and things of its own."""

    def __init__(self):
        self.placed = "CANARY"

    def __getitem__(self, name):
        return {"a": VALUES["log"]}[name]


@pytest.mark.parametrize(
    "template",
    [
        "{{ namespace(x=log) | upper }}", "{{ {log: 1}.keys() | upper }}", "{{ {1: log}.values() | trim }}",
        "{{ [{1: log}.items()] | map('upper') | join }}", "{{ inputs | string }}", "{{ inputs | upper }}",
        "{{ inputs.placed }}", "{{ inputs['placed'] | upper }}", "{{ log.upper | title }}",
        "{% autoescape true %}{{ log }}{% endautoescape %}",
        "{{ n.to_bytes(1, 'big').fromhex(codes).decode() }}", "{{ n.from_bytes([65]) }}",
    ],
)  # fmt: skip
def test_nothing_spells_it_out(template):
    """Python's spelling of its own objects is not for prompts, HTML's of the tags neither."""
    with pytest.raises(TemplateError):
        render(template, {**VALUES, "inputs": Inputs(), "codes": outside("log", "43414E415259")})


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
    assert {type(key) for key in evaluate("{{ items[2:] }}", VALUES)[0]} == {str}


def test_it_may_be_written_in_a_way_of_its_own():
    """An input of several agents is several blocks; a part of it is one."""
    both = OutsideText("one\ntwo", functools.partial(BLOCKS.wrap, "scan"), "1: one, 2: two")

    assert render("{{ x }}", {"x": both}) == "1: one, 2: two"
    assert render("{{ x | trim }}", {"x": both}) == BLOCKS.wrap("scan", "one\ntwo")


def test_a_long_list_is_not_looked_through_again_and_again():
    """`loop.index` of `files | length`: ten times as many files are ten times the work."""

    def of(count):
        values = {
            "files": [f"src/{i}.py" for i in range(count)],
            "items": marked(["x"] * count, str),
        }
        template = (
            "{% for f in files %}{{ f }} {{ files | length }} {{ items | first }}{% endfor %}"
        )
        render(template, values)
        return calls(lambda: render(template, values))

    assert of(1000) < 12 * of(100)


def test_a_block_is_made_once():
    """However large the text is, and however often it is put in."""
    made = []
    text = OutsideText("log", lambda content: made.append(content) or "block")

    assert (
        render("{{ x }}{% if true %}{{ x }}{{ x ~ '.' }}{% endif %}", {"x": text})
        == "blockblockblock."
    )
    assert made == ["log"]
