"""What an agent is told: its prompt, its inputs and material as data blocks, within the model's window.

Rule: text that came from outside (standard input, files, other agents) stands in user messages only, and only inside
data blocks.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from swarmcli.core.blocks import DATA_NOTE, DataBlocks
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Dependency, Task
from swarmcli.core.ports import Message
from swarmcli.core.routing import Roles
from swarmcli.core.tokens import cut_to_tokens, estimate_tokens, fair_shares
from swarmcli.errors import ModelError
from swarmcli.prompts import PromptText, load_prompt
from swarmcli.recipe.outside import OutsideText
from swarmcli.recipe.template import render, roots
from swarmcli.recipe.values import ModelSpec, Profile

Inputs = Sequence[tuple[Dependency, tuple[Outcome, ...]]]
"""For each dependency of a task, how its agents ended."""

DEFAULT_OUTPUT_TOKENS = 1024
"""Room kept for the answer where neither recipe nor provider says how long it may be."""


_BLOCK_TOKENS = 32
"""What a data block adds to its content."""
TINY_MODEL = "embedded/smollm2"
SYSTEM_PROMPT_TOKENS = 232
"""What our own instructions and the chat template take, at most."""


def is_tiny(model: ModelSpec) -> bool:
    """True for the embedded SmolLM2, which needs prompts of its own and a grammar to plan with."""
    return model.id == TINY_MODEL


def messages_of(prompt: PromptText) -> tuple[Message, ...]:
    """A rendered prompt as chat messages."""
    user = Message(role="user", content=prompt.user)
    return (Message(role="system", content=prompt.system), user) if prompt.system else (user,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Outside text that belongs to the job: standard input, or a file's content."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Briefing:
    """Everything that the agents of one run share.

    Args:
        blocks: wraps outside text.
        roles: the run's models.
        profiles: agent profiles by name.
        variables: what templates may use: parameters, `files`, `stdin`; outside text is wrapped already.
        job: the rendered task with all material in place, for modes that make one call.
        job_outline: the same with material named but not shown, for planner and writer.
        materials: what the agents of a planner-made plan get, because the planner cannot copy it into prompts.
        files: paths that are offered to agents, as the recipe's globs found them.
        read_file: path -> content, decoded.
        claims: ask agents for keyed claims, which are compared with one another.
        warn: tells the user something that stops nothing.
    """

    blocks: DataBlocks
    roles: Roles
    profiles: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    job: str = ""
    job_outline: str = ""
    materials: tuple[Material, ...] = ()
    files: tuple[str, ...] = ()
    read_file: Callable[[str], str] = lambda _path: ""
    claims: bool = False
    warn: Callable[[str], None] = lambda _message: None

    def model_for(self, task: Task) -> ModelSpec:
        """The model that a task runs on: its own, its profile's, else role `small`."""
        profile = self.profiles.get(task.profile or "")
        return self.roles.resolve(task.model or (profile.model if profile else None) or "small")

    def worker_messages(
        self, task: Task, inputs: Inputs, prompt: str = "worker", *, beside: str = ""
    ) -> tuple[Message, ...]:
        """The chat that one agent is started with; `beside` is what the caller adds, for which room is kept.

        Raises:
            ModelError: (context_overflow) the prompt alone does not fit the model's window.
            TemplateError: a variable of the prompt does not exist.
        """
        model = self.model_for(task)
        if prompt == "worker" and self.claims and not beside:
            prompt = "worker_claims"
        name = "worker_small" if is_tiny(model) else prompt
        text = self._user_text(task, inputs, model, beside)
        return messages_of(load_prompt(name).render(prompt=text, data_note=DATA_NOTE))

    def _user_text(self, task: Task, inputs: Inputs, model: ModelSpec, beside: str) -> str:
        if model.context_window is not None:
            fixed = self._render(task, _Views(self, inputs, hollow=True))
            inputs = self._fitted(task, inputs, room_for_inputs(model, task.id, fixed + beside))
        views = _Views(self, inputs)
        text = self._render(task, views)
        rest = [self.input_block(*one) for one in inputs if one[0].name not in views.placed]
        return "\n\n".join([text, *(block for block in rest if block)])

    def _render(self, task: Task, views: "_Views") -> str:
        """The prompt with its profile, item, material and files, and the inputs where it places them."""
        variables = {**self.variables, "inputs": views}
        if task.item_name is not None:
            variables[task.item_name] = task.item
        parts: list[str] = []
        profile = self.profiles.get(task.profile or "")
        if profile is not None and profile.prompt:
            parts.append(render(profile.prompt, variables).strip())
        parts.append(render(task.prompt, variables).strip() if task.template else task.prompt)
        if task.item_name is not None and not (
            task.template and task.item_name in roots(task.prompt)
        ):
            parts.append(self.blocks.wrap(task.item_name, _item_text(task.item)))
        if not task.template and not task.depends_on:
            blocks = [self.blocks.wrap(m.name, m.text) for m in self.materials]
            parts += [block for block in blocks if block not in task.prompt]
        parts += self._named_files("\n".join(parts))
        return "\n\n".join(parts)

    def _named_files(self, text: str) -> Iterator[str]:
        """The content of each offered file whose path stands in the prompt and whose content does not yet."""
        for path in self.files:
            if (
                path in text  # first, because thousands of patterns are slow to compile
                and re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w/-])", text)
                and f'name="{path}">' not in text
            ):
                yield self.blocks.wrap(path, self.read_file(path))

    def _fitted(self, task: Task, inputs: Inputs, room: int) -> Inputs:
        """The inputs, cut fairly where all of them together do not fit into `room` tokens."""
        texts = [o.output or "" for _, outcomes in inputs for o in outcomes]
        sizes = [estimate_tokens(text) + _BLOCK_TOKENS for text in texts]
        if sum(sizes) <= room:
            return inputs
        shares = fair_shares(sizes, room)
        if any(
            share < min(size, 2 * _BLOCK_TOKENS) for share, size in zip(shares, sizes, strict=True)
        ):
            raise ModelError(
                f"the {len(sizes)} inputs of {task.id} do not fit into the {room:,} tokens that its model has "
                "left for them",
                kind="context_overflow",
                hint="use a model with a larger window, or merge the inputs in steps",
            )
        self.warn(
            f"{task.id}: its inputs (about {sum(sizes):,} tokens) were cut to fit the model's window"
        )
        left = iter(shares)
        return [(d, tuple(_cut(o, next(left)) for o in outcomes)) for d, outcomes in inputs]

    def input_block(self, dependency: Dependency, outcomes: tuple[Outcome, ...]) -> str:
        """One named input as data blocks; an agent without a result is stated, never quoted."""
        lines: list[str] = []
        for o in outcomes:
            if o.output is None:
                why = o.failure.kind if o.failure else o.state
                lines.append(f"({o.agent} has no result: {why})")
                continue
            lines += [f"({o.agent} has {o.caveat})"] if o.caveat else []
            name = o.agent if dependency.fan_out else dependency.name
            lines.append(self.blocks.wrap(name, o.output))
        return "\n".join(lines)


class _Views:
    """`inputs` as templates see it: wrapped on access, and remembering what was placed.

    Of a hollow one nothing is written: the prompt without its inputs, for measuring.
    """

    def __init__(self, briefing: Briefing, inputs: Inputs, *, hollow: bool = False) -> None:
        self._briefing = briefing
        self._inputs = {dependency.name: (dependency, outcomes) for dependency, outcomes in inputs}
        self._hollow = hollow
        self.placed: dict[str, OutsideText] = {}

    def __getitem__(self, name: str) -> OutsideText:
        if name not in self.placed:
            self.placed[name] = self._text(name, *self._inputs[name])
        return self.placed[name]

    def _text(
        self, name: str, dependency: Dependency, outcomes: tuple[Outcome, ...]
    ) -> OutsideText:
        text = "\n".join(outcome.output for outcome in outcomes if outcome.output is not None)
        if self._hollow:
            return OutsideText(text, lambda _: "")
        wrap = functools.partial(self._briefing.blocks.wrap, name)
        return OutsideText(text, wrap, self._briefing.input_block(dependency, outcomes))


def _item_text(item: object) -> str:
    return item if isinstance(item, str) else render("{{ item }}", {"item": item})


def _cut(outcome: Outcome, tokens: int) -> Outcome:
    if outcome.output is None:
        return outcome
    return replace(outcome, output=cut_to_tokens(outcome.output, tokens - _BLOCK_TOKENS))


def room_for_inputs(model: ModelSpec, asker: str, fixed: str) -> int:
    """Tokens left in the model's window beside the fixed part of a prompt and the answer.

    Raises:
        ModelError: (context_overflow) nothing is left.
    """
    window = model.context_window or 0
    answer = min(model.max_output_tokens or DEFAULT_OUTPUT_TOKENS, window // 2)
    room = window - answer - estimate_tokens(fixed) - SYSTEM_PROMPT_TOKENS
    if room < 0:
        raise ModelError(
            f"the prompt of {asker} (about {estimate_tokens(fixed):,} tokens) does not fit the window of {model.id} "
            f"({window:,} tokens)",
            kind="context_overflow",
            model=model.id,
            hint="shorten the prompt or its files, or use a model with a larger window",
        )
    return room


def cut_to_window(model: ModelSpec, asker: str, fixed: str, text: str) -> str:
    """`text`, cut where the model's window has no room for all of it in a data block beside `fixed` and the answer.

    Raises:
        ModelError: (context_overflow) there is no room for anything.
    """
    if model.context_window is None:
        return text
    return cut_to_tokens(text, max(0, room_for_inputs(model, asker, fixed) - _BLOCK_TOKENS))
