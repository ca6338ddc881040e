"""Templates: names rendered by ourselves, everything else by a bounded Jinja; both say the same."""

from collections.abc import Mapping

import jinja2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from swarmcli.errors import EXIT_USAGE
from swarmcli.recipe.template import TemplateError, evaluate, is_expression, render, roots

VALUES: Mapping[str, object] = {
    "topic": "R&D <b>",
    "n": 3,
    "half": 0.5,
    "yes": True,
    "nothing": None,
    "files": ["a.py", "b c.py"],
    "inputs": {"scan": "S", "items": "I", "a-b": "D"},
    "item": {"name": "x", "tags": ["é", 1, None]},
    "sly": "{{ topic }} {% raw %}",
}


def refused(template: str, values: Mapping[str, object] = VALUES) -> str:
    with pytest.raises(TemplateError) as caught:
        render(template, values)
    return caught.value.message + (f" [{caught.value.hint}]" if caught.value.hint else "")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ topic }}", "R&D <b>"),
        ("{{topic}}/{{  topic  }}", "R&D <b>/R&D <b>"),
        ("{{ n }} {{ half }} {{ yes }} {{ nothing }}", "3 0.5 true null"),
        ("{{ files }}", '["a.py", "b c.py"]'),
        ("{{ item }}", '{"name": "x", "tags": ["é", 1, null]}'),
        ("{{ item.name }} {{ item['name'] }} {{ item[\"tags\"][0] }}", "x x é"),
        ("{{ files[0] }} {{ files[-1] }}", "a.py b c.py"),
        ("{{ inputs.items }} {{ inputs['a-b'] }}", "I D"),
        ("{{ sly }}", "{{ topic }} {% raw %}"),
        ("a { b } }} c { {{ n }} }", "a { b } }} c { 3 }"),
        ("{{ topic[0] }}", "R"),
        ("line\n{{ n }}\n\n", "line\n3\n\n"),
    ],
)
def test_names_keys_and_indexes(template: str, text: str):
    """Text goes in as it is, everything else as JSON; Jinja, made to do the same by a filter, agrees."""
    assert render(template, VALUES) == text
    assert render("{% if yes %}{% endif %}" + template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for f in files %}{{ loop.index }}. {{ f }}\n{% endfor %}", "1. a.py\n2. b c.py\n"),
        ("{% if n > 2 and not nothing %}many{% else %}few{% endif %}", "many"),
        ("{{ files | join(', ') }}", "a.py, b c.py"),
        ("{{ 'files: ' ~ files }}", 'files: ["a.py", "b c.py"]'),
        ("{{ item | tojson }} {{ files | length }}", '{"name": "x", "tags": ["é", 1, null]} 2'),
        ("{{ topic | upper }} {{ topic.lower() }}", "R&D <B> r&d <b>"),
        ("{{ missing | default('none') }}", "none"),
        ("{% set x = n * 2 + 1 %}{{ x }}", "7"),
        ("{# note #}{{- ' a' -}} b", " ab"),
        ("{% raw %}{{ topic }}{% endraw %}", "{{ topic }}"),
        ("{{ item.items() | list }}", '[["name", "x"], ["tags", ["é", 1, null]]]'),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        (
            "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) }}{{ m(files) }}",
            '<1><["a.py", "b c.py"]>',
        ),
        ("{{ [n, half] | map('string') | join('-') }}", "3-0.5"),
        ("{{ range(3) | list }}", "[0, 1, 2]"),
        ("{{ files | map('replace', '.py', '') | list }}", '["a", "b c"]'),
        ("{{ yes | upper }} {{ [nothing] | title }} {{ n | replace('3', 'x') }}", "TRUE [Null] x"),
        (
            "{{ files[:1] }} {{ topic[1:] }} {{ topic[::-1] }} {{ files | reverse | first }}",
            '["a.py"] &D <b> >b< D&R b c.py',
        ),
    ],
)
def test_the_rest_of_jinja(template: str, text: str):
    """Loops, conditions and the usual filters work, without HTML escapes."""
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ topik }}", "unknown variable 'topik' [did you mean 'topic'?]"),
        ("{{ topik | upper }}", "unknown variable 'topik' [did you mean 'topic'?]"),
        ("{{ item.nam }}", "'item' has no 'nam' [did you mean 'name'?]"),
        ("{{ files[7] }}", "'files' has no item 7"),
        ("{{ files.x }}", "'files' has no 'x'"),
        ("{{ n.x }}", "'n' has no 'x'"),
        ("{{ item.nam | upper }}", "template: 'dict object' has no attribute 'nam'"),
        ("{{ topic", "template: unexpected end of template, expected 'end of print statement'"),
        ("{{{ topic }}}", "template: expected token ':', got '}'"),
        ("{% include 'x' %}", "template: a recipe's templates cannot use other templates"),
        ("{% extends 'x' %}", "template: a recipe's templates cannot use other templates"),
        ("{{ files | random }}", "template: No filter named 'random'"),
        ("{{ 1 / 0 }}", "template: division by zero"),
        ("{{ files.append(1) }}", "template: access to attribute 'append' of 'list' object is unsafe."),
        ("{{ range }}", "unknown variable 'range' [known here: files, half, inputs, item, n, nothing, sly, "
         "topic, yes]"),
        ("{{ range | string }}", "a function cannot be written as text"),
        ("{{ topic | truncate(2) }}", "template: expected length >= 3, got 2"),
        ("{% autoescape true %}{% endautoescape %}", "template: prompts are no HTML: autoescape is not for them"),
    ],
)  # fmt: skip
def test_refusals(template: str, message: str):
    """Each one names the variable or the construct."""
    assert refused(template) == message


def test_a_template_error_is_a_fault_of_the_recipe():
    """It ends with exit code 2 when it surfaces before a run."""
    with pytest.raises(TemplateError) as caught:
        render("{{ x }}", {})

    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ topic.format(1) }}",
        "{{ topic['__class__'] }}", "{{ render.__globals__ }}", "{{ namespace.__init__.__globals__ }}",
        "{{ range.__globals__ }}", "{{ self.__init__ }}", "{{ ().__class__ }}", "{{ topic | attr('__class__') }}",
        "{{ '{0.__class__}'.format(1) }}", "{{ inputs.__class__ }}", "{{ item.clear() }}", "{{ cycler() }}",
        "{{ lipsum() }}", "{{ item | xmlattr }}", "{% import 'os' as os %}",
    ],
)  # fmt: skip
def test_the_sandbox_holds(template: str):
    """Neither Python's inside nor a change of the values is in reach, and nothing is random."""
    assert refused(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in big %}{% for j in big %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**9 }}", "{{ [1] * 10**9 }}", "{{ 10**(10**10) }}", "{{ (9**999)**999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a'.center(10**9) }}", "{{ 'a'.ljust(10**9) }}", "{{ '{:>999999999}'.format(1) }}",
        "{{ big | replace('x', big) }}", "{{ big.replace('x', big) }}",
        "{{ [big, big] | join(big) | replace('x', big) }}",
        "{% set s = namespace(x='ab') %}{% for i in range(60) %}{% set s.x = s.x ~ s.x %}{% endfor %}",
        "{% set s = namespace(x='ab') %}{% for i in range(60) %}{% set s.x = s.x + s.x %}{% endfor %}",
        "{% set s = namespace(x=[1]) %}{% for i in range(60) %}{% set s.x = s.x + s.x %}{% endfor %}",
        "{% set s = namespace(x=[1]) %}{% for i in range(60) %}{% set s.x = [s.x, s.x] %}{% endfor %}{{ s.x }}",
        "{% set s = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ s.x }}{{ s.x }}{% endset %}"
        "{% set s.x = y %}{% endfor %}",
        "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(9) }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(99) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{% for i in range(9999) %}{{ big }}{% endfor %}",
        "{{ 'a' | indent(10**9, true) }}", "{{ [1] | tojson(indent=10**9) }}",
        "{% for i in range(99999) %}" + "text " * 1000 + "{% endfor %}",
        "{% set t %}{% for i in range(99999) %}" + "text " * 1000 + "{% endfor %}{% endset %}",
        "{% for i in range(99999) %}{% set x = big.upper() %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = big | upper %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = big[1:] %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = big | reverse %}{% endfor %}",
        "{{ big | list | length }}", "{{ big | sort | first }}",
        "{% set text = big[:99999] | replace('x', 'x ') %}{% for i in range(99999) %}{% set x = text.split() %}"
        "{% endfor %}",
        "{% set parts = (big | replace('x', 'x ')).split() %}{% for i in range(99999) %}{% set x = parts[1:] %}"
        "{% endfor %}",
    ],
)  # fmt: skip
def test_a_small_template_cannot_take_all_memory_or_time(template: str):
    """Everything that multiplies is counted; unbounded, none of these would end before the test's time is over."""
    assert refused(template, {"big": "x" * 1_000_000})


def test_large_values_are_no_bomb():
    """A log of five megabytes goes into a prompt; ten are the limit."""
    assert len(render("{{ log }}", {"log": "x" * 5_000_000})) == 5_000_000
    assert "more than 10,000,000 characters" in refused(
        "{{ log }}{{ log }}", {"log": "x" * 6_000_000}
    )


def test_data_that_refers_to_itself_is_refused():
    """JSON has no circles."""
    circle: list[object] = []
    circle.append(circle)

    assert refused("{{ x }}", {"x": circle})


class Views:
    """Like the engine's `inputs`: it has `[name]` and nothing else of a mapping, and a method that no template sees."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> str:
        if name not in {"scan", "asked"}:
            raise KeyError(name)
        self.asked.append(name)
        return f"<{name}>"


@pytest.mark.parametrize("rest", ["", "{% if true %}{% endif %}"])
def test_inputs_may_be_any_object_with_members(rest: str):
    """The engine wraps an input only when a prompt places it; attributes of the object stay out of reach."""
    views = Views()

    assert render(
        "{{ inputs.scan }} {{ inputs.asked }} {{ inputs['scan'] }}" + rest, {"inputs": views}
    ) == ("<scan> <asked> <scan>")
    assert views.asked == ["scan", "asked", "scan"]
    assert refused("{{ inputs.nope }}" + rest, {"inputs": views})


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("no variables", set()),
        ("{{ a }} {{ b.c }} {{ d[0] }}", {"a", "b", "d"}),
        ("{{ inputs.scan }} {{ inputs['x-y'] }}", {"inputs", "inputs.scan", "inputs.x-y"}),
        ("{% for x in files %}{{ x }}{{ y }}{% endfor %}", {"files", "y"}),
        ("{% for k, v in inputs.items() %}{{ k }}{% endfor %}", {"inputs"}),
        ("{% if inputs.scan %}{{ inputs['b'] }}{% endif %}", {"inputs", "inputs.scan", "inputs.b"}),
        ("{% set x = 1 %}{{ x }}{{ range(x) }}{{ loop }}", {"loop"}),
        ("{{ true }} {{ none }}", set()),
        ("{{ lipsum() }} {{ dict(a=1) }}", {"lipsum", "dict"}),
        ("{% raw %}{{ x }}{% endraw %}{# {{ y }} #}", set()),
    ],
)
def test_the_variables_of_a_template(template: str, names: set[str]):
    """What a template needs is known without rendering it."""
    assert roots(template) == names


@pytest.mark.parametrize(
    ("expression", "items"),
    [
        ("{{ files }}", ["a.py", "b c.py"]),
        ("  {{ item.tags }}\n", ["é", 1, None]),
        ("{{ files | sort(reverse=true) }}", ["b c.py", "a.py"]),
        ("{{ files[:1] + ['z'] }}", ["a.py", "z"]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ files | map('upper') }}", ["A.PY", "B C.PY"]),
        ("{{ [{'a': [yes, nothing]}] }}", [{"a": [True, None]}]),
        ("{{ [] }}", []),
    ],
)
def test_expressions_give_native_lists(expression: str, items: list[object]):
    """Numbers stay numbers and equal items stay: nothing goes through text."""
    assert evaluate(expression, VALUES) == items


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("files", "one expression such as {{ files }} is needed, found 'files'"),
        (
            "{{ files }}{{ files }}",
            "one expression such as {{ files }} is needed, found '{{ files }}{{ files }}'",
        ),
        ("a {{ files }}", "one expression such as {{ files }} is needed, found 'a {{ files }}'"),
        ("{{ topic }}", "{{ topic }} is no list, found 'R&D <b>'"),
        ("{{ item }}", "{{ item }} is no list, found a mapping"),
        ("{{ n + 1 }}", "{{ n + 1 }} is no list, found the number 4"),
        ("{{ file }}", "unknown variable 'file'"),
        ("{{ file | sort }}", "unknown variable 'file'"),
        ("{{ range(10**9) }}", "the template takes more than 200,000 steps"),
        ("{{ [range] }}", "a function cannot be written as text"),
        ("{{ files | }}", "template: expected token 'name', got 'end of print statement'"),
    ],
)
def test_expressions_that_give_no_list(expression: str, message: str):
    """A fan-out over a text would start one agent per letter."""
    with pytest.raises(TemplateError) as caught:
        evaluate(expression, VALUES)

    assert caught.value.message == message


def test_what_counts_as_one_expression():
    """`check` refuses `items: files` by this."""
    assert [is_expression(text) for text in ("{{ x }}", " {{ x|f }} ", "x", "{{ x }} {{ y }}", "{% if %}")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@given(st.text())
def test_text_without_marks_is_itself(text: str):
    """Plain prompts, whatever they hold, are not touched."""
    assume(not any(mark in text for mark in ("{{", "{%", "{#")))

    assert render(text, {}) == text


@given(st.text())
def test_a_value_is_never_read_as_a_template(value: str):
    """What a user or a model wrote comes out as it went in, through both renderers."""
    assert render("{{ x }}", {"x": value}) == value
    assert render("{% if true %}{{ x }}{% endif %}", {"x": value}) == value


WORDS = st.sampled_from(
    ["{{", "}}", "{%", "%}", "{#", "#}", " x ", ".a", "[0]", "['k']", "|upper", "if", "for", "endif", "in", "(", ")",
     "'", '"', "\n", "+", "*", "~", "1", "text", "inputs.scan", "loop", "true", "-"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=14).map("".join))
def test_templates_of_any_shape_render_or_are_refused(template: str):
    """Neither checking nor rendering raises anything but `TemplateError`, and checked names suffice."""
    values = {"x": {"a": 1, "k": [2]}, "inputs": {"scan": "s"}}
    try:
        names = roots(template)
        render(template, values)
    except TemplateError:
        return
    assert names <= {"x", "inputs", "inputs.scan"} or "{%" in template or "{{" in template


@given(
    st.lists(
        st.sampled_from(
            [
                "{{ x }}",
                "{{x.k[0]}}",
                "{{ x['a'] }}",
                "{{ n }}",
                "a",
                "{",
                "}",
                "}}",
                " ",
                "\n",
                "%",
                "é",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_both_renderers_agree(template: str):
    """Our own renderer gives what Jinja gives, and what it does not understand it leaves to Jinja."""
    values = {"x": {"a": "A", "k": ["K"]}, "n": "N"}
    plain = jinja2.Environment(  # noqa: S701 - prompts are no HTML
        keep_trailing_newline=True, finalize=lambda v: v if isinstance(v, str) else "J"
    )
    try:
        theirs = plain.from_string(template).render(values)
    except jinja2.TemplateError:
        assert refused(template, values)
    else:
        assert render(template, values).replace(render("{{ x }}", values), "J") == theirs
