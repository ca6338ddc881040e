"""Chat completions as LiteLLM speaks them: a `ModelRequest` as its arguments, and its answers, checked.

LiteLLM hides what is missing: it invents `finish_reason: stop` and a usage for streams that were cut, and zeros for a
usage that never came. Only what a provider really sent counts here. Nothing here imports LiteLLM.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from swarmcli.adapters.rate_headers import headroom_of
from swarmcli.core.events import Usage
from swarmcli.core.ports import Headroom, ModelRequest, TextSink
from swarmcli.errors import FailureKind
from swarmcli.recipe.values import Json

MAX_REPLY_CHARS = 10_000_000
_LONGEST_S = 86_400.0
MAX_USAGE_TOKENS = 100_000_000
"""Ten times the largest window of any model: a count beyond it is a fault of the endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer with text in it."""

    text: str
    usage: Usage | None = None
    """None when the provider did not say."""
    raw_usage: object = None
    """LiteLLM's usage object, for its price table."""
    cost_usd: float | None = None
    """What LiteLLM computed; it says 0 for models without a price."""
    headroom: Headroom | None = None


class Unusable(Exception):
    """An answer came, and cannot be used."""

    def __init__(self, kind: FailureKind, detail: str = "") -> None:
        super().__init__(detail)
        self.kind: FailureKind = kind
        self.detail = detail
        self.answer: Answer | None = None
        """What came, for its price; None when it never ended."""


class Unstreamed(Unusable):
    """A stream was asked for, and one JSON body came, which LiteLLM takes for an empty stream."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("protocol", "it does not stream its answers")
        self.answer = answer


class SinkFailed(Exception):
    """`TextSink.feed` raised: not the provider's fault, so the client lets `error` pass unchanged."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class RawStream(Protocol):
    """What is used of LiteLLM's `CustomStreamWrapper`."""

    received_finish_reason: str | None
    """From the wire; None for every stream of the providers that `streamed_answer` calls unproven."""
    intermittent_finish_reason: str | None
    """For Gemini "stop" from the first piece on: says when an answer was cut for length, and nothing else."""
    chunks: Sequence[object]
    """As they came, without the usage that LiteLLM makes up at the end."""

    def __aiter__(self) -> AsyncIterator[object]: ...

    async def aclose(self) -> None: ...


def arguments_of(request: ModelRequest, *, takes_schema: bool) -> dict[str, object]:
    """What of a request reaches the provider, without the model and its address.

    Args:
        request: the question.
        takes_schema: whether the model has structured output; without it the schema is left to the prompt.
    """
    model = request.model
    arguments: dict[str, object] = {
        "messages": [{"role": m.role, "content": _whole(m.content)} for m in request.messages],
        "timeout": _socket_timeout_s(request.timeout_s),
    }
    temperature = model.temperature if request.temperature is None else request.temperature
    if temperature is not None:
        arguments["temperature"] = temperature
    if max_tokens := request.max_output_tokens or model.max_output_tokens:
        arguments["max_tokens"] = max_tokens
    if model.reasoning_effort is not None:
        arguments["reasoning_effort"] = model.reasoning_effort
    if request.response_schema is not None and takes_schema:
        arguments["response_format"] = _response_format(request.response_schema)
    if request.extra:
        arguments["extra_body"] = dict(request.extra)
    return arguments


def _whole(text: str) -> str:
    """Without lone surrogates, which models escape in their JSON and which have no form in UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _socket_timeout_s(deadline_s: float) -> float:
    """Never the first to fire, and one of few values: LiteLLM keeps one SDK client, with its own pool, per value."""
    return 2.0 ** math.ceil(math.log2(min(max(deadline_s, 1.0), _LONGEST_S) + 1.0))


def _response_format(schema: Mapping[str, Json]) -> dict[str, object]:
    # OpenAI refuses `strict` for a schema that leaves anything open.
    wanted = {"name": "answer", "strict": _is_closed(schema), "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": wanted}


def _is_closed(schema: object) -> bool:
    """Every object in the schema requires all of its properties and allows no others."""
    if isinstance(schema, list):
        return all(map(_is_closed, cast("list[object]", schema)))
    if not isinstance(schema, Mapping):
        return True
    fields = cast("Mapping[str, Any]", schema)
    if fields.get("type") == "object":
        open_ended = fields.get("additionalProperties") is not False
        if open_ended or set(fields.get("properties", ())) != set(fields.get("required", ())):
            return False
    return all(map(_is_closed, fields.values()))


def whole_answer(response: object) -> Answer:
    """Check an answer that came in one piece.

    Raises:
        Unusable: it has no choices, no text, too much text, or was cut or filtered.
    """
    choices = getattr(response, "choices", None)
    if not choices:
        raise Unusable("protocol", "the reply has no choices")
    raw_usage = getattr(response, "usage", None)
    hidden: Mapping[str, Any] = getattr(response, "_hidden_params", None) or {}
    answer = Answer(
        text=choices[0].message.content or "",
        usage=_usage(raw_usage),
        raw_usage=raw_usage,
        cost_usd=hidden.get("response_cost"),
        headroom=_headroom(response),
    )
    return _checked(answer, choices[0].finish_reason)


async def streamed_answer(stream: RawStream, sink: TextSink, *, proves_end: bool = True) -> Answer:
    """Hand the pieces over as they come, then check the whole. Closes the stream in any case.

    Args:
        stream: from `acompletion(stream=True)`.
        sink: gets every piece.
        proves_end: False where LiteLLM shows no difference between a stream that ended and one that was cut; then
            the caller must find out from the text.

    Raises:
        Unusable: as `whole_answer`; "network" for a stream that ended without the provider's own end mark.
        Unstreamed: it was no stream.
        SinkFailed: `sink` raised.
    """
    pieces: list[str] = []
    size = 0
    try:
        async for chunk in stream:
            if piece := _piece(chunk):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_REPLY_CHARS:
                    break
                hand_over(piece, sink)
    finally:
        await stream.aclose()
    # Usage proves nothing: Anthropic begins with it, Gemini repeats it, and where none came LiteLLM counts itself.
    raw_usage = next((u for c in reversed(stream.chunks) if (u := getattr(c, "usage", None))), None)
    answer = Answer(
        text="".join(pieces),
        usage=_usage(raw_usage),
        raw_usage=raw_usage,
        headroom=_headroom(stream),
    )
    if not pieces and "json" in _headers(stream).get("llm_provider-content-type", ""):
        raise Unstreamed(answer)
    finish = stream.received_finish_reason
    if finish is None and size <= MAX_REPLY_CHARS:
        if not pieces:
            raise Unusable("protocol", "the stream was empty")
        if proves_end:
            raise Unusable("network", "the stream broke off")
        finish = stream.intermittent_finish_reason
    return _checked(answer, finish)


def hand_over(piece: str, sink: TextSink) -> None:
    """Feed the sink.

    Raises:
        SinkFailed: it raised.
    """
    try:
        sink.feed(piece)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the sink's
        raise SinkFailed(error) from None


def _piece(chunk: object) -> str | None:
    choices = getattr(chunk, "choices", None)
    return choices[0].delta.content if choices else None


def _checked(answer: Answer, finish: str | None) -> Answer:
    """The answer, if it is whole; what a useless one took goes with the fault."""
    try:
        _check(finish, answer.text)
    except Unusable as fault:
        fault.answer = answer
        raise
    return answer


def _check(finish: str | None, text: str) -> None:
    if len(text) > MAX_REPLY_CHARS:
        raise Unusable("protocol", f"a reply of more than {MAX_REPLY_CHARS:,} characters")
    if finish == "content_filter":
        raise Unusable("content_filter")
    if finish == "length":
        raise Unusable("truncated", "it reached the output limit; raise max_output_tokens")
    if not text.strip():
        raise Unusable("empty")


def _headroom(response: object) -> Headroom | None:
    headers = _headers(response)
    return headroom_of(headers) if headers else None


def _headers(response: object) -> Mapping[str, str]:
    """Those that LiteLLM keeps with an answer or a stream."""
    hidden: Mapping[str, Any] = getattr(response, "_hidden_params", None) or {}
    headers: object = hidden.get("additional_headers")
    return cast("Mapping[str, str]", headers) if isinstance(headers, Mapping) else {}


def _usage(raw: object) -> Usage | None:
    """LiteLLM writes zeros where the provider wrote nothing. Counts that cannot be are no counts."""
    input_tokens, output_tokens = (
        _count(getattr(raw, name, None)) for name in ("prompt_tokens", "completion_tokens")
    )
    if input_tokens is None or output_tokens is None or not input_tokens + output_tokens:
        return None
    details = getattr(raw, "prompt_tokens_details", None)
    cached_tokens = _count(getattr(details, "cached_tokens", None)) or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=min(cached_tokens, input_tokens),
    )


def _count(value: object) -> int | None:
    """Tokens; None when that many cannot have been."""
    if not value:
        return 0
    if isinstance(value, int) and 0 < value <= MAX_USAGE_TOKENS:
        return value
    return None
