"""The panel: the models that may answer one agent's question, each asked in its own way."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.ports import Message, ModelRequest
from swarmcli.core.votes import Voter
from swarmcli.engine.asking import Answer, Asking
from swarmcli.errors import ModelError
from swarmcli.prompts import load_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who is asked, and with what beside the agent's question."""

    name: str | None = None
    """Role or LiteLLM id; None: the model of the task."""
    sample: int = 0
    prompt: Literal["", "escalate", "deliberate"] = ""
    """The prompt file that puts `notes` beside the question."""
    notes: str = ""
    thinking: bool = False


class Panel:
    """Who may answer.

    Args:
        agent: the agent's id.
        request: what one of them is asked.
        model_of: the LiteLLM id behind a name.
        asking: asks them.
    """

    def __init__(
        self,
        agent: str,
        *,
        request: Callable[[Seat], ModelRequest],
        model_of: Callable[[str | None], str],
        asking: Asking,
    ) -> None:
        self.agent = agent
        self._request = request
        self._model_of = model_of
        self._asking = asking

    def seats(self, names: Sequence[str | None], samples: int) -> list[tuple[Voter, Seat]]:
        """So many draws of each model, in the order listed; two names of one model are draws of one model."""
        drawn: Counter[str] = Counter()
        seats: list[tuple[Voter, Seat]] = []
        for name in names:
            model = self._model_of(name)
            for _ in range(samples):
                seats.append((Voter(model, drawn[model]), Seat(name=name, sample=drawn[model])))
                drawn[model] += 1
        return seats

    async def ask(self, seats: Sequence[Seat]) -> list[Answer | ModelError]:
        """Ask them side by side; an error in place of an answer."""
        replies: list[Answer | ModelError | None] = []
        questions: list[ModelRequest] = []
        for seat in seats:
            try:
                request = self._request(seat)
            except ModelError as error:  # its window is too small: the others are asked
                replies.append(error)
                continue
            replies.append(None)
            questions.append(request)
        answers = iter(await self._asking.ask_all(questions) if questions else [])
        return [next(answers) if reply is None else reply for reply in replies]

    async def keep(self) -> None:
        """Make what was answered so far durable."""
        await self._asking.keep()


def with_notes(messages: tuple[Message, ...], seat: Seat) -> tuple[Message, ...]:
    """The chat with the seat's notes put under its last message, which stays as it is."""
    if not seat.prompt:
        return messages
    text = load_prompt(seat.prompt).render(question=messages[-1].content, notes=seat.notes)
    return (*messages[:-1], Message(role="user", content=text.user))
