"""`-p name=value` as users type it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.errors import UsageError
from swarmcli.recipe.params import bind_params
from swarmcli.recipe.values import Json
from tests.recipe.reading import load

RECIPE = """\
name: audit
params:
  topic: {description: What it is about.}
  n: {type: integer, default: 1}
  ratio: {type: number, default: 0.5}
  deep: {type: boolean, default: false}
  doc: {type: file, default: null}
  items: {type: list, default: [x]}
  level: {choices: [low, high], default: low}
  tags: {type: list, choices: [a, b], default: []}
task: x
"""


class Bound(dict[str, Json]):
    """The values, and what the user was told."""

    warnings: list[str]


def bind(
    *assignments: str, cwd: Path = Path("/nonexistent"), stdin: str = "", recipe: str = RECIPE
) -> Bound:
    warnings: list[str] = []
    reads: list[str] = [stdin]
    values = bind_params(load(recipe), assignments, stdin=reads.pop, cwd=cwd, warn=warnings.append)
    bound = Bound(values)
    bound.warnings = warnings
    return bound


def refused(*assignments: str, cwd: Path = Path("/nonexistent"), recipe: str = RECIPE) -> str:
    with pytest.raises(UsageError) as caught:
        bind(*assignments, cwd=cwd, recipe=recipe)
    return caught.value.message + (f" [{caught.value.hint}]" if caught.value.hint else "")


def test_defaults_fill_what_is_not_given():
    """Every declared parameter has a value, in the recipe's order."""
    assert list(bind("topic=x").items()) == [
        ("topic", "x"),
        ("n", 1),
        ("ratio", 0.5),
        ("deep", False),
        ("doc", None),
        ("items", ["x"]),
        ("level", "low"),
        ("tags", []),
    ]


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("topic=a=b:=c@d", "a=b:=c@d"), ("topic=", ""), ("topic= x ", " x "), ("topic=5", "5"),
        ("topic=línea\n2", "línea\n2"),
        ('topic:="@x"', "@x"),
        ("n=5", 5), ("n=-5", -5), ("n=+5", 5), ("n= 7 ", 7), ("n=007", 7), ("n:=5", 5),
        ("ratio=2", 2), ("ratio=.25", 0.25), ("ratio=1e-3", 0.001), ("ratio:=1", 1),
        ("deep=true", True), ("deep=YES", True), ("deep=no", False), ("deep:=true", True),
        ("items=a,b , c", ["a", "b", "c"]), ("items=a b", ["a b"]), ("items=", []), ("items=[1", ["[1"]),
        ('items=["a,b", 1]', ["a,b", 1]), ('items:=[1, "1", null, {"k": []}]', [1, "1", None, {"k": []}]),
        ("items=[a],[b]", ["[a]", "[b]"]),
        ("level=high", "high"), ("tags=a,b", ["a", "b"]),
    ],
)  # fmt: skip
def test_values_by_type(assignment: str, value: Json):
    """Text is converted by the declared type; `:=` is JSON and must be of that type."""
    bound = bind("topic=x", assignment)
    name = assignment.partition("=")[0].rstrip(":")

    assert (bound[name], type(bound[name])) == (value, type(value))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("n=five", "-p n=five: parameter 'n' must be a whole number, found 'five'"),
        ("n=5.0", "-p n=5.0: parameter 'n' must be a whole number, found '5.0'"),
        ("n=1_000", "-p n=1_000: parameter 'n' must be a whole number, found '1_000'"),
        ("n=", "-p n=: parameter 'n' must be a whole number, found ''"),
        ("n=٣", "-p n=٣: parameter 'n' must be a whole number, found '٣'"),
        ('n:="5"', "-p n:=\"5\": parameter 'n' must be a whole number, found '5'"),
        ("n:=true", "-p n:=true: parameter 'n' must be a whole number, found true"),
        ("ratio=nan", "-p ratio=nan: parameter 'ratio' must be a number, found 'nan'"),
        ("ratio=1e999", "-p ratio=1e999: parameter 'ratio' must be a number, found '1e999'"),
        ("ratio:=NaN", "-p ratio:=NaN: this is not JSON (NaN is not a JSON number) [for plain text: -p ratio=...]"),
        ("deep=maybe", "-p deep=maybe: parameter 'deep' must be true or false, found 'maybe'"),
        ("topic:=5", "-p topic:=5: parameter 'topic' must be text, found the number 5"),
        ("topic:=x", "-p topic:=x: this is not JSON (Expecting value) [for plain text: -p topic=...]"),
        ('items:="a"', "-p items:=\"a\": parameter 'items' must be a list, found 'a' [-p 'items:=[\"a\", \"b\"]']"),
        ("level=hihg", "-p level=hihg: parameter 'level' must be one of low, high, found 'hihg' "
         "[did you mean 'high'?]"),
        ("tags=a,c", "-p tags=a,c: parameter 'tags' must be one of a, b, found 'c'"),
        ("topik=x", "-p topik: recipe 'audit' has no parameter 'topik' [did you mean '-p topic=...'?]"),
        ("zzz=x", "-p zzz: recipe 'audit' has no parameter 'zzz' "
         "[its parameters: topic, n, ratio, deep, doc, items, level, tags]"),
        ("topic", "-p topic: a parameter needs a value [-p topic=...]"),
        ("=x", "-p =x: a parameter needs a value [-p x=...]"),
    ],
)  # fmt: skip
def test_wrong_values_name_the_flag_and_the_type(assignment: str, message: str):
    """The user sees what was typed, what is wanted, and what was meant."""
    assert refused("topic=x", assignment) == message


def test_all_missing_parameters_are_named_at_once():
    """With their descriptions and a command line to copy."""
    recipe = "name: r\nparams: {a: {description: First.}, b: {}, c: {default: x}}\ntask: x\n"

    assert refused(recipe=recipe) == (
        "parameters 'a' and 'b' of recipe 'r' need values\n  a: First. [swarm run r.yaml -p a=... -p b=...]"
    )
    assert refused("a=1", recipe=recipe) == (
        "parameter 'b' of recipe 'r' needs a value [swarm run r.yaml -p b=...]"
    )


def test_a_recipe_without_parameters_says_so():
    """Instead of an empty list."""
    assert (
        refused("a=1", recipe="task: x\n")
        == "-p a: recipe 'r' has no parameter 'a' [its parameters: none]"
    )


def test_the_last_of_several_counts():
    """As with every flag: a script's default can be overridden behind it."""
    assert bind("topic=a", "topic=b")["topic"] == "b"


def test_files_become_text(tmp_path: Path):
    """`k=@file` is the file's content, without a byte order mark and otherwise unchanged."""
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfline\r\n\xc3\xa9\n")

    assert bind("topic=@t.txt", cwd=tmp_path)["topic"] == "line\r\né\n"


def test_numbers_and_choices_may_come_from_files(tmp_path: Path):
    """The newline at the end of a file is not part of the value."""
    (tmp_path / "n").write_text("5\n")
    (tmp_path / "l").write_text("high\n")

    bound = bind("topic=x", "n=@n", "level=@l", cwd=tmp_path)

    assert (bound["n"], bound["level"]) == (5, "high")


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ("a\nb c\n\n  \nd", ["a", "b c", "d"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a,b\n", ["a,b"]),
        ('["a", {"k": 1}]\n', ["a", {"k": 1}]),
        ("[1] first\n[2] second\n", ["[1] first", "[2] second"]),
        ("x\x0cy\u2028z\n", ["x\x0cy\u2028z"]),
        ("", []),
    ],
)
def test_lists_come_from_files_as_json_or_line_by_line(
    tmp_path: Path, content: str, items: list[Json]
):
    """A JSON array, else one item a line; blank lines are none."""
    (tmp_path / "f").write_text(content, newline="")

    assert bind("topic=x", "items=@f", cwd=tmp_path)["items"] == items
    assert bind("topic=x", "items=@-", stdin=content)["items"] == items


def test_standard_input_is_read_once_and_only_when_asked_for():
    """Two parameters may want it; without `@-` it is left alone."""

    def forbidden() -> str:
        raise AssertionError

    recipe = load(RECIPE)

    assert bind("topic=@-", "level=@-", stdin="high\n")["topic"] == "high\n"
    assert bind_params(recipe, ["topic=x"], stdin=forbidden, cwd=Path())["topic"] == "x"


def test_bytes_that_are_no_text_are_replaced_and_told(tmp_path: Path):
    """One bad byte in a log does not stop a run, and does not go unmentioned."""
    (tmp_path / "log").write_bytes(b"ok \xff end")
    bound = bind("topic=@log", cwd=tmp_path)

    assert bound["topic"] == "ok \ufffd end"
    assert bound.warnings == ["log is not UTF-8 (byte 3); bad bytes were replaced"]


def test_a_command_line_that_is_no_text_is_repaired():
    """Python turns odd bytes of an argument into lone surrogates, which no request can hold."""
    bound = bind("topic=caf\udce9", 'items:=["\\ud800", "ok"]')

    assert (bound["topic"], bound["items"]) == ("caf\ufffd", ["?", "ok"])
    assert len(bound.warnings) == 1


def test_a_file_parameter_is_a_path_that_exists(tmp_path: Path):
    """The value stays what was typed; `@` before it changes nothing."""
    (tmp_path / "a.md").write_text("x")

    assert bind("topic=x", "doc=a.md", cwd=tmp_path)["doc"] == "a.md"
    assert bind("topic=x", "doc=@a.md", cwd=tmp_path)["doc"] == "a.md"
    assert bind("topic=x", 'doc:="a.md"', cwd=tmp_path)["doc"] == "a.md"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("doc=none.md", "-p doc=none.md: the file 'none.md' of parameter 'doc' does not exist"),
        ('doc:="none.md"', "-p doc:=\"none.md\": the file 'none.md' of parameter 'doc' does not exist"),
        ("doc=.", "-p doc=.: the file '.' of parameter 'doc' is a folder"),
        ("doc=@-", "-p doc=@-: parameter 'doc' is a path, not text "
         "[-p doc=PATH, or declare it as 'type: string' to read standard input]"),
        ("topic=@none", "-p topic=@none: cannot read the file (No such file or directory) "
         "[for text that begins with '@': -p 'topic:=\"@...\"']"),
        ("topic=@.", "-p topic=@.: cannot read the file (Is a directory) "
         "[for text that begins with '@': -p 'topic:=\"@...\"']"),
        ("topic=@a\0b", "-p topic=@a\0b: cannot read the file (embedded null byte) "
         "[for text that begins with '@': -p 'topic:=\"@...\"']"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path: Path, assignment: str, message: str):
    """Nothing is started when an input is missing."""
    assert refused("topic=x", assignment, cwd=tmp_path) == message


def test_the_file_of_a_default_must_exist_too(tmp_path: Path):
    """A recipe that was copied without its data says so before the run."""
    recipe = "params: {doc: {type: file, default: data.csv}}\ntask: x\n"

    assert refused(cwd=tmp_path, recipe=recipe) == (
        "its default: the file 'data.csv' of parameter 'doc' does not exist"
    )


def test_defaults_are_not_shared():
    """Who changes one run's list does not change the recipe."""
    recipe = load(RECIPE)
    one, two = (bind_params(recipe, ["topic=x"], stdin=str, cwd=Path()) for _ in range(2))

    assert one["items"] == two["items"]
    assert one["items"] is not two["items"]


TYPED = st.builds(
    "{}{}{}".format,
    st.sampled_from(["topic", "n", "items", "ratio"]),
    st.sampled_from(["=", ":="]),
    st.text(max_size=20),
)


@given(st.lists(st.text(max_size=20) | TYPED, max_size=4))
def test_any_command_line_binds_or_is_refused(assignments: list[str]):
    """Nothing but `UsageError` comes out, and every value can be sent as UTF-8."""
    try:
        bound = bind("topic=x", *assignments)
    except UsageError:
        return
    assert str(dict(bound)).encode()
    assert "topic" in bound
