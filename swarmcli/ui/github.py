"""What a GitHub Actions job shows: annotations, outputs for later steps, and the job summary.

Rule: the runner obeys lines that start with `::`, on stderr too. So every command here is ours, and everything foreign
is escaped data inside one, or stands behind a prefix.
"""

import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TextIO

from swarmcli.core.events import PlanTask, RunEnd, Stamped
from swarmcli.ui.cells import count, duration
from swarmcli.ui.clean import clean_result, fault_text, one_line
from swarmcli.ui.lines import guard
from swarmcli.ui.steps import Agent, Spend, State, Step
from swarmcli.ui.summary import cost, estimated
from swarmcli.ui.terminal import is_on
from swarmcli.ui.view import RunView

MAX_ANNOTATIONS = 10
MAX_LISTED = 100
MAX_SUMMARY_BYTES = 900 * 1024
"""GitHub drops a summary silently near 1 MiB."""
MAX_GRAPH_NODES = 40

Level = Literal["error", "warning", "notice"]


def in_github_actions(env: Mapping[str, str]) -> bool:
    """Whether a GitHub runner reads our output."""
    return is_on(env, "GITHUB_ACTIONS")


def annotation(
    level: Level, message: str, *, title: str = "swarm", file: str = "", line: int = 0
) -> str:
    """A workflow command that the runner shows as an annotation; all of it escaped, on one line."""
    properties = [f"file={_property(file)}"] if file else []
    if file and line > 0:
        properties.append(f"line={line}")
    properties.append(f"title={_property(title)}")
    return f"::{level} {','.join(properties)}::{_data(clean_result(message))}"


def output_entry(name: str, value: str) -> str:
    """One entry for `GITHUB_OUTPUT`; a value of several lines cannot set another name."""
    if not any(end in value for end in "\r\n"):
        return f"{name}={value}\n"
    fence = f"swarm_{secrets.token_hex(16)}"
    return f"{name}<<{fence}\n{value}\n{fence}\n"


class GithubSink:
    """Folds the run and writes everything at its close; close it after the display of progress.

    Args:
        stream: stderr.
        env: where the runner names its files.
    """

    def __init__(self, stream: TextIO, env: Mapping[str, str]) -> None:
        self.view = RunView()
        self._stream = stream
        self._env = env
        self._groups: dict[str, set[str]] = {}
        self._closed = False

    def feed(self, stamped: Stamped) -> None:
        self.view.feed(stamped)
        if isinstance(stamped.event, PlanTask):
            needs = {name.partition("[")[0] for name in stamped.event.depends_on}
            self._groups.setdefault(stamped.event.group, set()).update(needs)

    def close(self) -> None:
        if self._closed or not self.view.run:
            return
        self._closed = True
        failed = [a for a in self.view.agents.values() if a.state is State.FAILED]
        self._say([*self._listed(failed), *self._annotations(failed)])
        end = self.view.end
        outputs = output_entry("run", self.view.run)
        outputs += output_entry("status", end.status if end is not None else "failed")
        cost = end.totals.get("cost_usd") if end is not None else None
        outputs += output_entry("cost_usd", "" if cost is None else str(cost))
        self._append("GITHUB_OUTPUT", outputs)
        self._append("GITHUB_STEP_SUMMARY", self._summary(failed))

    # The log.

    def _listed(self, failed: list[Agent]) -> list[str]:
        if not failed:
            return []
        lines = [guard(f"{agent.id} {agent.outcome}") for agent in failed[:MAX_LISTED]]
        if len(failed) > MAX_LISTED:
            lines.append(f"and {len(failed) - MAX_LISTED} more")
        return [f"::group::{len(failed)} failed agents", *lines, "::endgroup::"]

    def _annotations(self, failed: list[Agent]) -> list[str]:
        """One for each cause, the most common first, and one for the run."""
        end = self.view.end
        level: Level = "error" if end is None or end.result is None else "warning"
        lines: list[str] = []
        causes = Counter(agent.kind for agent in failed).most_common(MAX_ANNOTATIONS - 1)
        for kind, number in causes:
            agents = [agent for agent in failed if agent.kind == kind]
            names = ", ".join(agent.id for agent in agents[:3])
            more = f" and {number - 3} more" if number > 3 else ""
            text = f"{names}{more}: {agents[0].outcome}"
            lines.append(annotation(level, text, title=f"swarm: {kind}"))
        if end is None:
            lines.append(annotation("error", "the run ended without a result"))
        elif end.error is not None:
            lines.append(annotation(level, fault_text(end.error.kind, end.error.message)))
        elif failed or end.status != "ok":
            text = f"{len(failed)} of {self.view.total} agents failed; see the job summary"
            lines.append(annotation(level, text if failed else f"the run ended: {end.status}"))
        return lines[:MAX_ANNOTATIONS]

    def _say(self, lines: list[str]) -> None:
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):
            return

    def _append(self, name: str, text: str) -> None:
        """Add to one of the runner's files; a job must not fail because its page cannot be written."""
        path = self._env.get(name)
        if not path:
            return
        try:
            data = text.encode("utf-8", "replace")
            with Path(path).open("ab") as file:
                if name == "GITHUB_STEP_SUMMARY":
                    data = _cut(data, MAX_SUMMARY_BYTES - file.tell())
                file.write(data)
        except OSError as exc:
            self._say([annotation("warning", f"{name} cannot be written: {exc.strerror}")])

    # The page.

    def _summary(self, failed: list[Agent]) -> str:
        """The job summary. The answer stands last: Markdown that it leaves open can hide nothing of ours."""
        view, end = self.view, self.view.end
        status = end.status if end is not None else "failed"
        parts = [f"## swarm: {_cell(view.recipe)} ({status})", self._numbers(end), self._table()]
        if len(self._groups) > 1:
            parts.append(self._graph())
        if failed:
            lines = [f"{a.id}  {a.outcome}".replace("~~~", "~ ~ ~") for a in failed[:MAX_LISTED]]
            parts.append(
                "\n".join([f"### {len(failed)} failed agents", "", "~~~text", *lines, "~~~"])
            )
        if end is not None and end.result:
            parts.append(f"### Answer\n\n{clean_result(end.result)}")
        return "\n\n".join(parts) + "\n"

    def _numbers(self, end: RunEnd | None) -> str:
        view = self.view
        seconds = end.totals.get("duration_s") if end is not None else None
        facts = [
            f"run `{_cell(view.run)}`",
            f"{view.total} agents",
            f"{count(view.spend.tokens)} tokens",
        ]
        if isinstance(seconds, int | float):
            facts.append(duration(seconds))
        if end is not None and (money := f"{cost(end, view, '/')}{estimated(end, view)}"):
            facts.append(money.replace("$", "\\$"))
        facts += [_cell(text) for text in (view.checks.summary(), view.traffic.summary()) if text]
        return " · ".join(facts)

    def _table(self) -> str:
        rows = ["| step | agents | failed | time | tokens | cost |", "|---|--:|--:|--:|--:|--:|"]
        for phase in (self.view.plan, self.view.judge, self.view.merge):
            if phase.seconds is not None:
                spend = f"{count(phase.spend.tokens)} | {_cost(phase.spend)}"
                rows.append(f"| {phase.name} | | | {duration(phase.seconds)} | {spend} |")
        rows += [_step_row(step) for step in self.view.steps()]
        return "\n".join(rows)

    def _graph(self) -> str:
        names = {group: f"s{index}" for index, group in enumerate(self._groups)}
        if len(names) > MAX_GRAPH_NODES:
            return ""
        lines = [f'{node}["{_label(group)}"]' for group, node in names.items()]
        for group, needs in self._groups.items():
            lines += [f"{names[n]} --> {names[group]}" for n in sorted(needs) if n in names]
        return "\n".join(["```mermaid", "graph LR", *lines, "```"])


def _step_row(step: Step) -> str:
    began = step.last_t if step.first_t is None else step.first_t
    took = duration(step.last_t - began)
    return (
        f"| {_cell(step.name)} | {len(step.agents)} | {step.counts[State.FAILED]} | {took} "
        f"| {count(step.spend.tokens)} | {_cost(step.spend)} |"
    )


def _cost(spend: Spend) -> str:
    if spend.unpriced:
        return "?"
    about = "~" if spend.guessed else ""
    return f"{about}\\${spend.cost_usd:.4f}" if spend.cost_usd else ""


def _cell(text: str) -> str:
    """Foreign text inside Markdown: no table cell, code span or tag of its own."""
    text = one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return text.replace("<", "&lt;")


def _label(text: str) -> str:
    return "".join(char if char.isalnum() or char in " _-.[]" else " " for char in one_line(text))


def _data(text: str) -> str:
    return text.replace("##[", "## [").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(one_line(text)).replace(":", "%3A").replace(",", "%2C")


def _cut(data: bytes, room: int) -> bytes:
    note = b"\n\n(cut: the whole answer is in the run folder)\n"
    if len(data) <= room:
        return data
    kept = data[: max(0, room - len(note))].decode("utf-8", "ignore").encode()
    return kept + note if room > len(note) else b""
