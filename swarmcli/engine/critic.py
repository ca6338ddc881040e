"""The critic: a model that did not write an answer does the task again and says whether the answer holds.

Never self-review: a model that judges its own answer makes it worse (arXiv 2310.01798), so the author is asked again
only with an error that another model has named. The critic sees task and answer as data, never how sure the author is.
"""

import hashlib
from dataclasses import replace
from typing import NamedTuple

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.events import AgentUpdated, CriticJudged
from swarmcli.core.judgement import Judgement, parse_judgement
from swarmcli.core.ports import Emit, Message, ModelRequest
from swarmcli.engine.asking import Answer, Asking
from swarmcli.engine.briefing import (
    Briefing,
    cut_to_window,
    is_tiny,
    messages_of,
    room_for_inputs,
)
from swarmcli.errors import FailureKind, ModelError
from swarmcli.prompts import load_prompt
from swarmcli.recipe.values import ModelSpec, Verify

_NO_VERDICT: frozenset[FailureKind] = frozenset(
    {"empty", "truncated", "content_filter", "context_overflow"}
)
"""The critic was asked, and this is what became of it: it cannot say. Every other failure is the agent's."""


class Checked(NamedTuple):
    """An answer, and what the critic says of it: accept, reject, unsure, or nothing where nobody could judge it."""

    answer: Answer
    verdict: str


class Critic:
    """Judges the answers of one run's agents.

    Args:
        verify: the critic's role, the rounds and the criteria.
        briefing: the run's models and its data blocks.
        emit: takes `critic.judged`.
    """

    def __init__(self, *, verify: Verify, briefing: Briefing, emit: Emit) -> None:
        self._verify = verify
        self._briefing = briefing
        self._emit = emit
        self._told: set[str] = set()

    @property
    def key(self) -> str:
        """What an agent's input key holds of the critic: with other settings its answer is judged anew."""
        model = self._briefing.roles.resolve(self._verify.critic or "judge").id
        settings = f"{model}\n{self._verify.rounds}\n{self._verify.criteria}"
        return hashlib.sha256(settings.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    async def check(self, question: ModelRequest, answer: Answer, asking: Asking) -> Checked:
        """The answer with its verdict, or a better one; after the last round a rejected one has status `conflict`.

        An `insufficient` reply claims nothing, and is not judged. Where the question does not fit the author's window
        together with its answer and the error, it is not asked again.

        Args:
            question: what the agent asked; its `agent` is set.
            answer: what came of it, be it one model's or that of a vote.
            asking: the agent's, for the critic's calls and the author's further ones.

        Raises:
            ModelError: the critic, or the author asked again, cannot be reached.
        """
        rounds = self._verify.rounds
        for number in range(1, rounds + 2):
            model = None if answer.status == "insufficient" else self._model_for(answer.model)
            if model is None:
                return Checked(answer, "")
            judged = await self._judged(question, answer, model, asking)
            self._tell(question, model, judged, number)
            if judged.verdict != "reject":
                return Checked(answer, judged.verdict)
            again = self._again(question, answer, judged) if number <= rounds else None
            if again is None:
                break
            self._emit(AgentUpdated(agent=question.agent or "", note="critic: asks again"))
            answer = await asking.ask(again)
        return Checked(replace(answer, status="conflict"), "reject")

    def _tell(
        self, question: ModelRequest, model: ModelSpec, judged: Judgement, number: int
    ) -> None:
        self._emit(
            CriticJudged(
                agent=question.agent or "",
                model=model.id,
                verdict=judged.verdict,
                first_error=judged.first_error,
                round=number,
            )
        )

    def _model_for(self, author: str) -> ModelSpec | None:
        """The critic's model, or another one where that is the author's; None, with a warning, where there is none."""
        wanted = self._briefing.roles.resolve(self._verify.critic or "judge")
        others = other_models(self._briefing, {author}, first=wanted)
        if not others:
            self._warn(f"{author} is the only model, so nobody checks what it answers")
            return None
        if others[0].id != wanted.id:
            self._warn(
                f"{author} is the critic itself; what it answers is checked by {others[0].id}"
            )
        return others[0]

    def _warn(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._briefing.warn(message)

    async def _judged(
        self, question: ModelRequest, answer: Answer, model: ModelSpec, asking: Asking
    ) -> Judgement:
        try:
            reply = await asking.reply(self._question(question, answer, model))
        except ModelError as error:
            if error.kind not in _NO_VERDICT:
                raise
            self._warn(
                f"the critic {model.id} gave no verdict on {question.agent}: {error.message}"
            )
            return Judgement(verdict="unsure")
        if reply.model == answer.model:  # a duplicate of a slow call may have gone there
            return Judgement(verdict="unsure")
        return parse_judgement(reply.text)

    def _question(self, question: ModelRequest, answer: Answer, model: ModelSpec) -> ModelRequest:
        wrap = self._briefing.blocks.wrap
        criteria = self._verify.criteria.strip()
        prompt = load_prompt("critic").render(
            data_note=DATA_NOTE,
            task=wrap("TASK", question.messages[-1].content),
            answer=wrap("ANSWER", answer.output),
            criteria=f"Look at this above all: {criteria}" if criteria else "",
        )
        if model.context_window is not None:
            room_for_inputs(model, f"the critic of {question.agent}", prompt.system + prompt.user)
        return ModelRequest(
            model=model,
            messages=messages_of(prompt),
            purpose="judge",
            agent=question.agent,
            timeout_s=question.timeout_s,
        )

    def _again(
        self, question: ModelRequest, answer: Answer, judged: Judgement
    ) -> ModelRequest | None:
        """The author's question with its answer and the error in data blocks: both are models' words.

        The answer is cut where the author's window is too small for all of it; None where not even the rest fits.
        """
        wrap = self._briefing.blocks.wrap
        model = question.model
        if answer.model != model.id:  # the one that won a vote, or a fallback
            model = self._briefing.roles.resolve(answer.model)
        redo = load_prompt("redo")
        asked = question.messages[-1].content
        error = wrap("error", judged.first_error or "The reviewer named none.")
        fixed = redo.render(prompt=asked, previous="", first_error=error).user
        try:
            previous = cut_to_window(model, question.agent or "", fixed, answer.output)
        except ModelError as full:
            self._warn(f"{question.agent} is not asked again: {full.message}")
            return None
        block = wrap("previous answer", previous)
        prompt = redo.render(prompt=asked, previous=block, first_error=error)
        last = Message(role="user", content=prompt.user)
        return replace(question, model=model, messages=(*question.messages[:-1], last))


def other_models(
    briefing: Briefing, authors: set[str], *, first: ModelSpec | None = None
) -> list[ModelSpec]:
    """Who may judge what the authors wrote: `first`, then the roles judge, large and small, none of them an author.

    Their fallbacks are other models as well, so those that are authors are taken out.
    """
    roles = [briefing.roles.resolve(name) for name in ("judge", "large", "small")]
    unlike: dict[str, ModelSpec] = {}
    for model in roles if first is None else [first, *roles]:
        if model.id not in authors and (model is first or not is_tiny(model)):
            unlike.setdefault(model.id, model)
    return [
        replace(
            model,
            fallbacks=tuple(
                name for name in model.fallbacks if briefing.roles.resolve(name).id not in authors
            ),
        )
        for model in unlike.values()
    ]
