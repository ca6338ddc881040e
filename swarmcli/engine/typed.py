"""Asking for JSON that fits a schema: one question, and one re-ask with the validator's words."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from swarmcli.core.ports import Message, ModelReply, ModelRequest
from swarmcli.core.tokens import cut_to_tokens
from swarmcli.engine.briefing import cut_to_window, messages_of
from swarmcli.errors import ModelError
from swarmcli.prompts import load_prompt
from swarmcli.recipe.output_schema import validate_output
from swarmcli.recipe.values import Json

_LEAST_TOKENS = 64
"""So much of the first answer is shown again even where the question alone fills the window."""

Ask = Callable[[ModelRequest], Awaitable[ModelReply]]
Wrap = Callable[[str, str], str]
"""Name and content -> data block."""


def schema_text(schema: Mapping[str, Json]) -> str:
    """The schema as the model sees it; equal schemas are equal texts, for the cache."""
    return json.dumps(schema, ensure_ascii=False, sort_keys=True)


def with_schema(messages: tuple[Message, ...], schema: Mapping[str, Json]) -> tuple[Message, ...]:
    """The chat with the schema put under its last message, for models without structured output."""
    text = load_prompt("schema").render(prompt=messages[-1].content, schema=schema_text(schema))
    return (*messages[:-1], Message(role="user", content=text.user))


async def ask_for_json(
    ask: Ask, request: ModelRequest, *, wrap: Wrap, on_retry: Callable[[], None]
) -> tuple[ModelReply, str]:
    """Ask `request`, whose `response_schema` is set; the reply and its JSON as compact text.

    The validator quotes the answer, so its words go back in a data block made by `wrap`. An answer for which the
    model's window has no room beside its question is cut.

    Raises:
        ModelError: (schema) also the second answer does not fit; or what `ask` raises.
    """
    schema = request.response_schema or {}
    reply = await ask(request)
    value, fault = validate_output(reply.text, schema)
    if fault is not None:
        on_retry()
        retry = load_prompt("schema_retry").render(fault=wrap("validator", fault))
        fixed = "\n".join(message.content for message in request.messages) + retry.user
        said = _fitting(request, fixed, reply.text)
        again = (
            *request.messages,
            Message(role="assistant", content=said),
            *messages_of(retry),
        )
        reply = await ask(replace(request, messages=again))
        value, fault = validate_output(reply.text, schema)
    if fault is not None:
        raise ModelError(
            f"the output does not fit the schema, also when asked again: {fault}",
            kind="schema",
            model=reply.model,
        )
    return reply, json.dumps(value, ensure_ascii=False)


def _fitting(request: ModelRequest, fixed: str, said: str) -> str:
    try:
        return cut_to_window(request.model, request.agent or request.purpose, fixed, said)
    except ModelError:  # the re-ask takes of the room that was kept for the answer
        return cut_to_tokens(said, _LEAST_TOKENS)
