"""How problems look on a screen."""

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.errors import Problem, RecipeError
from swarmcli.recipe.diagnostic import MAX_SHOWN, render_problem, render_problems, visible

TEXT = """\
version: 1
name: review
steps:
  - id: scan
    promt: "Look at {{ file }}"
"""


def test_a_file_with_two_problems_looks_like_this():
    """What, where, the line, a caret with the hint below it, and the next command."""
    problems = [
        Problem(message="step 'scan' has no 'prompt'", line=4, column=5),
        Problem(message="unknown key 'promt'", line=5, column=5, hint="did you mean 'prompt'?"),
    ]

    assert (
        render_problems(RecipeError("review.yaml", TEXT, problems))
        == """\
error: step 'scan' has no 'prompt'
  --> review.yaml:4:5
   |
  4|   - id: scan
   |     ^

error: unknown key 'promt'
  --> review.yaml:5:5
   |
  5|     promt: "Look at {{ file }}"
   |     ^ did you mean 'prompt'?

2 problems. hint: swarm check review.yaml"""
    )


def test_one_problem_is_singular():
    """And the last line still names the next command."""
    error = RecipeError("-", "x", [Problem(message="m", line=1, column=1)])

    assert render_problems(error).endswith("\n\n1 problem. hint: swarm check -")


def test_a_problem_without_a_place_has_no_caret():
    """A file that is too large is not shown."""
    error = RecipeError("r.yaml", "", [Problem(message="too large", hint="cut it")])

    assert render_problems(error) == (
        "error: too large\n  --> r.yaml\nhint: cut it\n\n1 problem. hint: swarm check r.yaml"
    )


def test_only_ten_problems_are_shown():
    """The eleventh and later ones are counted."""
    problems = [Problem(message=f"m{i}", line=1, column=1) for i in range(14)]
    shown = render_problems(RecipeError("r.yaml", "x", problems))

    assert shown.count("error: ") == MAX_SHOWN
    assert shown.endswith("\n\n... and 4 more\n\n14 problems. hint: swarm check r.yaml")


def test_the_gutter_grows_with_the_line_number():
    """Carets stay below their column in long files."""
    problem = Problem(message="m", line=1234, column=3)

    assert render_problem(problem, "r.yaml", "\n" * 1233 + "a: b") == (
        "error: m\n  --> r.yaml:1234:3\n    |\n1234| a: b\n    |   ^"
    )


def test_a_long_line_is_cut_around_the_caret():
    """The place stays visible, whatever the length of the line."""
    text = "a: " + "x" * 500 + "HERE" + "y" * 500
    lines = render_problem(Problem(message="m", line=1, column=504), "r", text).split("\n")

    assert len(lines[3]) < 120
    assert lines[3][lines[4].index("^") :].startswith("HERE")
    assert (lines[3][5:8], lines[3][-3:]) == ("...", "...")


def test_the_caret_stands_below_wide_characters():
    """Chinese and emoji take two columns, accents that combine take none."""
    lines = render_problem(Problem(message="m", line=1, column=5), "r", "日本e\u0301x").split("\n")

    assert lines[3:] == ["  1| 日本e\u0301x", "   |      ^"]


def test_control_characters_never_reach_the_terminal():
    """Colours, bells, tabs, hidden and reordering characters are shown as escapes; so are those in messages."""
    text = "a:\t\x1b[31mred\x07\u202e\u200b\x85\ud800"
    shown = render_problem(Problem(message="m\x1b]0;t\x07\n", line=1, column=4), "r\x1b", text)

    assert shown.split("\n") == [
        r"error: m\x1b]0;t\x07\n",
        r"  --> r\x1b:1:4",
        "   |",
        r"  1| a:\t\x1b[31mred\x07\u202e\u200b\x85\ud800",
        "   |     ^",
    ]


@given(st.text(), st.integers(0, 50), st.integers(1, 300), st.text(max_size=20))
def test_rendering_never_fails_and_is_printable(text: str, line: int, column: int, message: str):
    """Whatever stands in the file, every line can go to a terminal."""
    shown = render_problem(Problem(message=message, line=line, column=column), "r", text)

    assert all(visible(part) == part for part in shown.split("\n"))
