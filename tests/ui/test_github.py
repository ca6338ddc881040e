"""What GitHub Actions shows of a run."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.events import (
    AgentFailed,
    Failure,
    PlanTask,
    RunCompleted,
    RunFailed,
)
from swarmcli.ui.github import (
    MAX_SUMMARY_BYTES,
    GithubSink,
    annotation,
    in_github_actions,
    output_entry,
)
from tests.ui import runs
from tests.ui.runs import Tape
from tests.ui.test_clean import ANY_TEXT


def finished(tape: Tape, tmp_path: Path) -> tuple[str, str, str]:
    """Log, outputs and summary of a run."""
    log = io.StringIO()
    files = {"GITHUB_OUTPUT": tmp_path / "output", "GITHUB_STEP_SUMMARY": tmp_path / "summary"}
    sink = GithubSink(log, {name: str(path) for name, path in files.items()})
    for stamped in tape.stamped:
        sink.feed(stamped)
    sink.close()
    sink.close()
    output, summary = (path.read_text("utf-8") for path in files.values())
    return log.getvalue(), output, summary


def commands(log: str) -> list[str]:
    """The lines that the runner takes for annotations."""
    return [
        line for line in log.splitlines() if line.startswith(("::error", "::warning", "::notice"))
    ]


def failing(kinds: int, message: str = "missing 'severity'") -> Tape:
    """Ninety agents fail for as many causes as asked."""
    tape = runs.begun()
    for index in range(90):
        agent = f"scan[{index}]"
        tape.add(PlanTask(agent=agent, group="scan", prompt="x")).started(agent)
        error = Failure(kind=f"kind{index % kinds}", message=message)
        tape.add(AgentFailed(agent=agent, error=error))
    return tape


def test_failures_are_annotated_by_cause(tmp_path: Path) -> None:
    """One annotation per cause with a few names, one for the run, and the list in a closed group."""
    tape = failing(2).add(RunCompleted(status="partial", exit_code=3, result="done"))
    log, output, summary = finished(tape, tmp_path)

    assert commands(log) == [
        "::warning title=swarm%3A kind0::scan[0], scan[2], scan[4] and 42 more: kind0: missing 'severity'",
        "::warning title=swarm%3A kind1::scan[1], scan[3], scan[5] and 42 more: kind1: missing 'severity'",
        "::warning title=swarm::90 of 90 agents failed; see the job summary",
    ]
    assert log.splitlines()[0] == "::group::90 failed agents"
    assert log.splitlines()[91] == "::endgroup::"
    assert output == f"run={runs.RUN}\nstatus=partial\ncost_usd=\n"
    assert "| scan | 90 | 90 |" in summary
    assert summary.endswith("### Answer\n\ndone\n")


def test_there_are_never_more_than_ten_annotations(tmp_path: Path) -> None:
    """GitHub shows ten of a step; the last one is about the run."""
    log, _, _ = finished(failing(30).add(RunFailed(status="failed", exit_code=1)), tmp_path)

    assert len(commands(log)) == 10
    assert all(line.startswith("::error ") for line in commands(log))
    assert "90 of 90 agents failed" in commands(log)[-1]


def test_a_good_run_says_nothing_in_the_log(tmp_path: Path) -> None:
    """Only outputs and a summary with steps and their order."""
    tape = (
        runs.merging(12)
        .at(9)
        .add(
            RunCompleted(
                status="ok",
                exit_code=0,
                result="all is well",
                totals={"cost_usd": 0.02, "duration_s": 9},
            )
        )
    )
    tape.add(PlanTask(agent="judge", group="judge", prompt="x", depends_on=("scan",)))
    log, output, summary = finished(tape, tmp_path)

    assert log == ""
    assert "cost_usd=0.02\n" in output
    assert 's0["scan"]\ns1["judge"]\ns0 --> s1' in summary
    assert "12.4k tokens · 9s" in summary


def test_the_job_summary_tells_the_limits_that_were_met(tmp_path: Path) -> None:
    """Refusals, hedges and the estimate beside the cost; none of it is an annotation."""
    totals = {"cost_usd": 0.02, "estimate": {"cost_usd": 0.05, "tokens": 9}}
    end = RunCompleted(status="ok", exit_code=0, result="x", totals=totals)
    log, _, summary = finished(runs.held_back().add(end), tmp_path)

    assert log == ""
    assert "\\$0.02/\\$2.00 (estimated \\$0.05)" in summary
    assert "429s: 10, slowed to 40 at once; 2 hedged" in summary


def test_a_run_that_broke_off_is_an_error(tmp_path: Path) -> None:
    """No last event: the job page says so, and later steps see `failed`."""
    log, output, _ = finished(runs.begun(), tmp_path)

    assert commands(log) == ["::error title=swarm::the run ended without a result"]
    assert "status=failed\n" in output


def test_foreign_text_forges_nothing(tmp_path: Path) -> None:
    """No line of a failure is a command, breaks out of the table, or ends our code block."""
    message = "x\n::error::forged\r\n::set-output name=run::evil ##[error]forged ~~~\n# heading"
    tape = failing(1, message).add(
        RunCompleted(status="partial", exit_code=3, result="```\nopen fence")
    )
    log, output, summary = finished(tape, tmp_path)

    assert "##[" not in log
    assert not [
        line for line in log.splitlines() if "forged" in line and line.startswith("::error::")
    ]
    assert len(commands(log)) == 2
    assert "evil" not in output
    assert summary.count("\n~~~") == 2
    assert summary.index("failed agents") < summary.index("open fence")


def test_the_summary_is_cut_before_github_drops_it(tmp_path: Path) -> None:
    """At most 900 KiB, whole characters, and it says that it was cut."""
    (tmp_path / "summary").write_bytes(b"from an earlier command\n")
    tape = runs.begun().add(RunCompleted(status="ok", exit_code=0, result="日本語" * 500_000))
    finished(tape, tmp_path)
    data = (tmp_path / "summary").read_bytes()

    assert MAX_SUMMARY_BYTES - 10 < len(data) <= MAX_SUMMARY_BYTES
    assert data.decode("utf-8").startswith("from an earlier command\n## swarm: review-diff (ok)")
    assert data.endswith(b"(cut: the whole answer is in the run folder)\n")


def test_files_that_cannot_be_written_fail_no_job(tmp_path: Path) -> None:
    """A warning takes the place of the page."""
    log = io.StringIO()
    sink = GithubSink(log, {"GITHUB_OUTPUT": str(tmp_path), "GITHUB_STEP_SUMMARY": ""})
    for stamped in runs.begun().stamped:
        sink.feed(stamped)
    sink.close()

    assert (
        "::warning title=swarm::GITHUB_OUTPUT cannot be written: Is a directory" in log.getvalue()
    )


def test_a_command_that_ran_no_agents_writes_nothing(tmp_path: Path) -> None:
    """Nothing was fed, so there is no run to speak of."""
    log = io.StringIO()
    GithubSink(log, {"GITHUB_OUTPUT": str(tmp_path / "output")}).close()

    assert log.getvalue() == ""
    assert not (tmp_path / "output").exists()


def test_an_annotation_can_point_at_a_line() -> None:
    """For recipes that review code; properties are escaped, and so is the text."""
    assert (
        annotation("error", "100 %\nsure", title="a: b, c", file="src/a,b.py", line=8)
        == "::error file=src/a%2Cb.py,line=8,title=a%3A b%2C c::100 %25%0Asure"
    )


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_an_annotation_is_one_line(message: str, title: str) -> None:
    """Whatever it is about."""
    line = annotation("warning", message, title=title, file=title, line=1)

    assert len(line.splitlines()) == 1 or set(line.splitlines(keepends=True)[0][-1:]) <= set(
        "\u2028\u2029"
    )
    assert "\n" not in line
    assert "\r" not in line


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_an_output_value_sets_no_other_name(value: str) -> None:
    """A value of several lines stands between random fences."""
    entry = output_entry("answer", value)
    lines = entry.split("\n")

    if any(end in value for end in "\r\n"):
        fence = lines[0].removeprefix("answer<<")
        assert lines.count(fence) == 1
        assert lines[-2] == fence
        assert len(fence) > 32
    else:
        assert entry == f"answer={value}\n"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"GITHUB_ACTIONS": "true"}, True),
        ({"GITHUB_ACTIONS": "false"}, False),
        ({"CI": "1"}, False),
    ],
)
def test_only_github_gets_this(env: dict[str, str], expected: bool) -> None:
    """Other CI systems print these commands as text."""
    assert in_github_actions(env) is expected
