"""The trials of an evaluation: every configuration answers every question, one configuration after the other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from swarmcli.adapters.cache_key import cache_key
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.shared_allowance import SharedAllowances
from swarmcli.app.bookkeeping import Books, OwnDraws, Taken, current
from swarmcli.app.compose import PathOrder, compose, share_limits
from swarmcli.app.configurations import Configuration, Setting, prepared_for
from swarmcli.app.prepare import Prepared, order_of
from swarmcli.app.session import briefing_of
from swarmcli.app.sheet import (
    ENDS_ALL,
    NOTHING,
    Note,
    Sheet,
    answer_of,
    answered,
    by_question,
    failure_of,
    unanswered,
)
from swarmcli.core.budget import Budget
from swarmcli.core.comparison import Answered, Result
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    BudgetWarning,
    Event,
    Failure,
    Sink,
    Stamped,
    Warned,
)
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import final_tasks
from swarmcli.core.ports import ModelClient
from swarmcli.core.receipt import receipt
from swarmcli.core.scoring import Question
from swarmcli.core.verdict import StopCause
from swarmcli.engine.order import RunReport
from swarmcli.engine.run import Run
from swarmcli.errors import (
    EXIT_NO_ACCESS,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    SwarmError,
)
from swarmcli.recipe.values import Json, ModelSpec, Price


class Trials:
    """Carries out an evaluation.

    Args:
        setting: questions, options, folders.
        budget: of everything together.
        note: tells how far it is.
        sink: gets the events of all runs; None: nobody.
    """

    def __init__(
        self, setting: Setting, *, budget: Budget, note: Note, sink: Sink | None = None
    ) -> None:
        self._setting = setting
        self._questions = setting.questions
        self._budget = budget
        self._note = note
        self._sink = sink
        self._running: set[Run] = set()
        self._told: set[str] = set()
        self._clock = SystemClock()
        self.stopped_by: int | None = None
        """The exit code of what ended everything early."""

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return self._clock.monotonic()

    async def execute(self, configs: Sequence[Configuration]) -> list[Result]:
        """All configurations; one that a stop left out has unfinished questions only."""
        shared = share_limits(
            self._setting.ws.folders.state, clock=self._clock, emit=self._tell_warning
        )
        try:
            return [await self._configuration(config, shared) for config in configs]
        finally:
            shared.close()

    def interrupt(self, cause: StopCause) -> None:
        """Nothing new starts; what is being asked may finish."""
        self.stopped_by = self.stopped_by or _code_of(cause)
        for run in tuple(self._running):
            run.interrupt(cause)

    def cancel(self, cause: StopCause) -> None:
        """Stop now."""
        self.stopped_by = self.stopped_by or _code_of(cause)
        for run in tuple(self._running):
            run.cancel(cause)

    async def _configuration(self, config: Configuration, shared: SharedAllowances) -> Result:
        sheet = Sheet(config.name, config.description, len(self._questions), self._note)
        if self.stopped_by is None:
            self._note(f"{config.name}: {sheet.total} questions, {config.description}")
            client = self._path(config, shared)
            try:
                if config.at_once:
                    await self._all_at_once(config, sheet, client)
                else:
                    await self._one_by_one(config, sheet, client)
            finally:
                await client.close()
        return sheet.result(self._questions)

    def _path(self, config: Configuration, shared: SharedAllowances) -> ModelClient:
        """The model path of one configuration; what happens on it is told to the run that asks."""
        first = config.first
        path = compose(
            PathOrder(
                resolve=config.roles.resolve,
                local_parallel=first.local_parallel,
                rates=first.recipe.rate,
                shared=shared,
                attempts=first.recipe.retry_attempts,
                hedge=None,  # nobody says what a call costs that lost, and cost is what is measured
                cache=first.cache,
                budget=self._budget,
                cache_dir=self._setting.ws.folders.cache,
                log=None,
            ),
            clock=self._clock,
            emit=self._emit,
        )
        return OwnDraws(path, config.name, first.parallel)

    async def _all_at_once(self, config: Configuration, sheet: Sheet, client: ModelClient) -> None:
        """One run, in which agent i of the last fan-out answers question i."""
        leaves = [task.id for task in final_tasks(config.first.tasks or ())]
        last = frozenset(leaves)

        def show(stamped: Stamped) -> None:
            event = stamped.event
            if isinstance(event, AgentCompleted | AgentFailed) and event.agent in last:
                sheet.tick()
            self._show(stamped)

        books = self._books(config, config.name, show)
        report = await self._run(config, config.first, books, client)
        sheet.book(report, books)
        own = by_question(report.outcomes, len(leaves))
        for question, leaf, outcomes in zip(self._questions, leaves, own, strict=True):
            sheet.answers[question.id] = _of_agents(question, leaf, outcomes, books, config)

    async def _one_by_one(self, config: Configuration, sheet: Sheet, client: ModelClient) -> None:
        """One run a question, as many at once as agents may be at work."""
        todo = iter(self._questions)
        denied = False

        async def work() -> None:
            nonlocal denied
            for question in todo:
                if self.stopped_by is not None or denied:
                    return
                code = await self._one(config, sheet, question, client)
                denied = denied or code == EXIT_NO_ACCESS
                sheet.tick()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(config.first.parallel, sheet.total)):
                group.create_task(work())

    async def _one(
        self, config: Configuration, sheet: Sheet, question: Question, client: ModelClient
    ) -> int:
        """Ask one question in a run of its own; the run's exit code."""
        try:
            prepared = prepared_for(config, self._setting, question)
        except SwarmError as error:
            failure = Failure(kind="template", message=error.message)
            sheet.answers[question.id] = unanswered(question, config.name, Taken(), failure)
            return error.exit_code
        books = self._books(config, f"{config.name}/{question.id}", self._show)
        report = await self._run(config, prepared, books, client)
        sheet.book(report, books)
        text = answer_of(report, books)
        if text is None:
            ending = unanswered(question, config.name, books.whole, failure_of(report))
        else:
            path = cast("Mapping[str, Json]", report.end.totals["critical_path"])
            seconds = cast("float", path["seconds"])
            ending = answered(question, config.name, text, books.whole, seconds)
        sheet.answers[question.id] = ending
        return report.end.exit_code

    async def _run(
        self, config: Configuration, prepared: Prepared, books: Books, client: ModelClient
    ) -> RunReport:
        current.set(books)
        setting, roles = self._setting, config.roles
        order = order_of(prepared, roles, None)
        run = Run(
            # With all questions in one run there is nothing to write: its agents' outputs are the answers.
            order=replace(order, merge="jsonl") if config.at_once else order,
            briefing=briefing_of(
                prepared,
                roles,
                setting.blocks,
                setting.ws.cwd,
                lambda m: books.emit(Warned(message=m)),
            ),
            client=client,
            recorder=books,
            clock=self._clock,
            fingerprint=cache_key,
            spent=lambda: self._budget.spent,
            has_asked=books.departures.has_left,
        )
        self._running.add(run)
        try:
            report = await run.execute()
        finally:
            self._running.discard(run)
        if report.end.exit_code in ENDS_ALL:
            self.stopped_by = self.stopped_by or report.end.exit_code
        return report

    def _books(self, config: Configuration, run: str, show: Callable[[Stamped], None]) -> Books:
        known = {spec.id: spec for spec in config.roles.models.values()}

        def price_of(model: str) -> Price | None:
            return facts_of(known.get(model) or ModelSpec(id=model)).price

        return Books(run, clock=self._clock, show=show, price_of=price_of)

    def _emit(self, event: Event) -> None:
        books = current.get()
        if books is not None:
            books.departures.emit(event)
        else:  # it concerns all of them: the cache cannot be used
            self._tell_warning(event)

    def _show(self, stamped: Stamped) -> None:
        self._tell_warning(stamped.event)
        if self._sink is not None:
            self._sink.feed(stamped)

    def _tell_warning(self, event: Event) -> None:
        """Once, whichever run it comes from."""
        if isinstance(event, Warned | BudgetWarning) and event.message not in self._told:
            self._told.add(event.message)
            self._note(f"warning: {event.message}")


def _code_of(cause: StopCause) -> int:
    return EXIT_SIGINT if cause == "sigint" else EXIT_SIGTERM


def _of_agents(
    question: Question,
    leaf: str,
    outcomes: Sequence[Outcome],
    books: Books,
    config: Configuration,
) -> Answered:
    """What the agents of one question came to, the last of which is `leaf`."""
    taken = sum((books.agents[o.agent] for o in outcomes), start=Taken())
    last = next((o for o in outcomes if o.agent == leaf), None)
    if last is not None and last.output is not None:
        seconds = receipt(outcomes).critical_path_s
        return answered(question, config.name, last.output, taken, seconds)
    failed = (o.failure for o in outcomes if o.state == "failed" and o.failure is not None)
    return unanswered(question, config.name, taken, next(failed, NOTHING))
