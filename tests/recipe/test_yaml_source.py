"""YAML as recipes may use it, and what is said about everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.errors import RecipeError
from swarmcli.recipe.document import Place, line_starts, place_of
from swarmcli.recipe.yaml_source import MAX_BYTES, decode, parse, plain_value


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml")
    return [
        f"{p.line}:{p.column} {p.message}" + (f" [{p.hint}]" if p.hint else "")
        for p in caught.value.problems
    ]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("No", "No"),
        ("true", True), ("True", True), ("FALSE", False),
        ("", None), ("~", None), ("null", None), ("NULL", None),
        ("5", 5), ("-3", -3), ("+7", 7), ("0", 0), ("0x1F", 31), ("0o17", 15),
        ("012", "012"), ("-01", "-01"), ("08", "08"), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("01.5", "01.5"),
        ("1:30", "1:30"), ("12:30:00", "12:30:00"), ("2026-01-31", "2026-01-31"),
        ("15%", "15%"), ("10m", "10m"), ("=", "="), ("9" * 400, "9" * 400),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(word: str, meaning: object):
    """No word of YAML 1.1 turns into a boolean, a base-60 or octal number, or a date."""
    assert (plain_value(word), type(plain_value(word))) == (meaning, type(meaning))


def test_quoted_words_are_text():
    """Quotes of either kind, and blocks, make text of everything."""
    document = parse("a: 'true'\nb: \"5\"\nc: |\n  12\nd: !!str 7\n", "r.yaml")

    assert document.data == {"a": "true", "b": "5", "c": "12\n", "d": "7"}


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [x]\n", "\ufeffa: 1\nb: [x]\n", "a: 1\r\nb: [x]\r\n", "a: 1\rb: [x]\r"]
)
def test_byte_order_mark_and_line_ends_do_not_matter(text: str):
    """Files from Windows, old Macs and editors that write a BOM are the same recipe."""
    document = parse(text, "r.yaml")

    assert document.data == {"a": 1, "b": ["x"]}
    assert place_of(document.text, document.offset(("b", 0))) == Place(2, 5)


def test_every_key_and_value_has_a_place():
    """Errors can point at a key, at its value, or at an entry of a list."""
    document = parse("tasks:\n  - id: scan\n    prompt: hello\n", "r.yaml")
    path = ("tasks", 0, "prompt")

    assert place_of(document.text, document.offset(path)) == Place(3, 13)
    assert place_of(document.text, document.offset(path, at_key=True)) == Place(3, 5)
    assert place_of(document.text, document.offset(("tasks", 0))) == Place(2, 5)
    assert document.spelling(path) == "hello"


def test_a_missing_place_is_that_of_what_surrounds_it():
    """A path that does not exist points at its nearest parent."""
    document = parse("tasks:\n  - id: scan\n", "r.yaml")

    assert document.offset(("tasks", 0, "prompt", "x")) == document.offset(("tasks", 0))


def test_json_is_yaml():
    """A recipe written by a program as JSON works, emoji escapes included."""
    assert parse('{"a": ["\\ud83d\\ude00", null, 1.0]}', "r.yaml").data == {"a": ["😀", None, 1.0]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1 the recipe is empty [try: swarm new NAME]"),
        ("# nothing yet\n\n", "1:1 the recipe is empty [try: swarm new NAME]"),
        ("---\n", "1:1 the recipe is empty [try: swarm new NAME]"),
        ("- a\n", "1:1 a recipe is a mapping of keys, found a list [begin with 'version: 1']"),
        ("hello", "1:1 a recipe is a mapping of keys, found plain text [begin with 'version: 1']"),
        ("a: 1\n---\nb: 2\n", "2:1 a recipe is one document [remove this '---']"),
        ("a: 1\nb: 2\na: 3\n", "3:1 the key 'a' is here twice (first on line 1) [keep one of them]"),
        ("x:\n  a: 1\n  'a': 2\n", "3:3 the key 'a' is here twice (first on line 2) [keep one of them]"),
        ("a: &x 1\n", "1:4 '&x': recipes have no anchors [remove it; write the value where it is needed]"),
        ("a: *x\n", "1:4 '*x': recipes have no aliases [repeat the value here]"),
        ("a:\n  <<: {b: 1}\n", "2:3 recipes have no merge keys ('<<') [write the keys out]"),
        ("a: !!python/object/apply:os.system [ls]\n",
         "1:4 the tag '!!python/object/apply:os.system' is not allowed [remove it]"),
        ("a: !env HOME\n", "1:4 the tag '!env' is not allowed [remove it]"),
        ("a: !!int '5'\n", "1:4 the tag '!!int' is not allowed [remove it]"),
        ("1: x\n", '1:1 a key must be text, found 1 [write "1" in quotes]'),
        ("true: x\n", '1:1 a key must be text, found true [write "true" in quotes]'),
        ("? [a]\n: x\n", "1:3 a key must be text [write 'name: value']"),
        ("a: .nan\n", "1:4 '.nan' is not a finite number [quote it if it is text]"),
        ("a: -.INF\n", "1:4 '-.INF' is not a finite number [quote it if it is text]"),
        ("a: 1e999\n", "1:4 '1e999' is not a finite number [quote it if it is text]"),
        ("a: \"\\ud800\"\n", "1:4 this text holds half of a character (a lone \\ud800-\\udfff)"),
        ("a: \x1b[31m\n", '1:4 the character U+001B is not allowed in YAML [inside double quotes write "\\x1b"]'),
        ("a: \ud800\n", "1:4 the character U+D800 is not allowed in YAML [remove it]"),
        ("a: " + "[" * 60 + "]" * 60, "1:53 lists and mappings are nested more than 50 deep"),
    ],
)  # fmt: skip
def test_what_recipes_may_not_use_is_refused_by_name(text: str, problem: str):
    """Each refusal says what it is about, where it stands, and what to write instead."""
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prompt: {{ topic }}\n", "1:9 text that begins with '{{' needs quotes [write \"{{ topic }}\"]"),
        ("prompt: {{ topic }} again\n", "1:9 text that begins with '{{' needs quotes [write \"{{ topic }}\"]"),
        ("prompt: {{ topic }}: x\n", "1:9 text that begins with '{{' needs quotes [write \"{{ topic }}\"]"),
        ("x: [{{ topic }}]\n", "1:5 text that begins with '{{' needs quotes [write \"{{ topic }}\"]"),
        ("prompt: Review: this\n",
         '1:15 a \': \' is not possible here [put the text in quotes: "...", or check the indentation]'),
        ("a: 1\n\tb: 2\n", "2:1 a tab stands here [use spaces: YAML is not indented with tabs]"),
        ("a:\tb\n", "1:3 a tab stands here [use spaces: YAML is not indented with tabs]"),
        ("a: @x\n", '1:4 text cannot begin with @ [put the text in quotes: "..."]'),
        ("a: `x`\n", '1:4 text cannot begin with ` [put the text in quotes: "..."]'),
        ('a: "x" y\n', "1:8 this stands after the end of the value [quote the whole value]"),
        ("a:\n  b: 1\n c: 2\n", "3:2 this line does not fit the lines above it "
         "[entries of one list or mapping begin in the same column]"),
        ("a: [1, 2\nb: 3\n", "2:2 ',' or ']' is missing before this"),
        ("a: [1, 2", "1:4 this is never closed"),
        ("a: {b: 1", "1:4 this is never closed"),
        ("a: 'x\nb: 2\n", "1:4 this quote is never closed"),
        ('a: "\\d"\n', "1:6 '\\d' means nothing in double quotes [use single quotes, or write '\\\\']"),
        ("a: - b\n", "1:4 a list entry cannot begin here [put '- ' on a line of its own, below its key]"),
        ("a: |\n  text\nb\nc: 1\n", "3:1 this is neither 'key: value' nor part of a text "
         "[a text over several lines needs '|' after its key]"),
        ('a: "\\U00110000"\n', "1:7 this is not valid YAML (chr() arg not in range(0x110000))"),
    ],
)  # fmt: skip
def test_syntax_errors_are_told_in_words_without_yaml_grammar(text: str, problem: str):
    """The frequent mistakes have a sentence and a remedy of their own."""
    assert problems(text) == [problem]


def test_several_refusals_are_told_at_once():
    """A file is not corrected in one round per mistake."""
    assert len(problems("a: &x 1\nb: *x\nb: 2\nc: !y z\n")) == 4


def test_a_yaml_bomb_is_refused_before_it_expands():
    """Aliases are never followed, so nothing can grow."""
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)]

    assert problems("\n".join(lines))[0].endswith("needed]")


def test_a_large_file_is_refused_by_size_and_count():
    """Neither a megabyte of text nor fifty thousand entries are read to the end."""
    assert problems("a: " + "x" * MAX_BYTES) == [
        "0:0 the file is larger than a recipe may be (1,048,576 bytes) [pass long texts with -p name=@file]"
    ]
    assert problems("a:\n" + "- x\n" * 50_001) == [
        "50000:3 the file has more than 50,000 values [pass long lists with -p name=@file]"
    ]


def test_bytes_that_are_no_utf_8_are_named():
    """The message gives the byte and its offset, the place its line."""
    with pytest.raises(RecipeError) as caught:
        decode(b"version: 1\nname: caf\xe9\n", "r.yaml")

    problem = caught.value.problems[0]
    assert problem.message == "the file is not UTF-8: byte 0xe9 at offset 20"
    assert (problem.line, problem.column, problem.hint) == (2, 10, "save it as UTF-8")


def test_utf_16_is_recognised():
    """A file saved as "Unicode" by an old editor gets the right name."""
    with pytest.raises(RecipeError, match="the file is UTF-16, not UTF-8"):
        decode("version: 1\n".encode("utf-16"), "r.yaml")


WORDS = st.sampled_from(
    ["a", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "'", '"', "|", ">", "&x", "*x", "!t", "#", "%", "@", "`",
     "\t", "\\", "{{ x }}", "?", "---", "...", "<<", "é", "😀", "\r\n", "\x85", "\u2028", "\ufeff", "0", "~", "\\ud800"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(WORDS, max_size=40).map("".join))


@given(TEXTS)
def test_nothing_but_recipe_error_leaves_the_parser(text: str):
    """Whatever the text is, it is data or a list of problems, each inside the file."""
    try:
        document = parse(text, "r.yaml")
    except RecipeError as error:
        assert_located(error)
    else:
        for span in (*document.keys.values(), *document.values.values()):
            assert 0 <= span.start <= span.end <= len(document.text)


@given(st.binary(max_size=200))
def test_nothing_but_recipe_error_leaves_the_decoder(raw: bytes):
    """Bytes are text or a located problem."""
    try:
        text = decode(raw, "r.yaml")
    except RecipeError as error:
        assert_located(error)
    else:
        assert text.encode() == raw


def assert_located(error: RecipeError) -> None:
    assert error.problems
    starts = line_starts(error.text)
    for problem in error.problems:
        assert 1 <= problem.line <= len(starts)
        end = starts[problem.line] if problem.line < len(starts) else len(error.text)
        assert 1 <= problem.column <= end - starts[problem.line - 1] + 1
