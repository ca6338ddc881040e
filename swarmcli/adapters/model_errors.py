"""What went wrong with a model call: from whatever LiteLLM raised to one `ModelError` with a kind, words and a hint.

LiteLLM's own classes cannot be trusted (a refused connection, HTML and a missing key are all `InternalServerError`), so
the chain of causes decides: a time-out first, then a status that a server really sent, then a broken connection, then
an answer that could not be read, and LiteLLM's own class last.
"""

import re
from datetime import datetime
from urllib.parse import urlsplit

from swarmcli.adapters.evidence import Evidence, read, retry_after_s
from swarmcli.adapters.providers import key_name, provider_of
from swarmcli.adapters.redact import Redactor
from swarmcli.errors import FailureKind, ModelError
from swarmcli.recipe.values import ModelSpec

MAX_MESSAGE_CHARS = 500
_MAX_QUOTE_CHARS = 300

_NETWORK = re.compile(
    r"(?:Connect|Read|Write|Close|Network|RemoteProtocol|Proxy|TransferEncoding|ContentLength)Error"
    r"|Client(?:Connect|OS|Payload|Proxy|SSL)\w*|ServerDisconnectedError|Connection\w+Error|BrokenPipeError"
    r"|IncompleteRead|gaierror|SSL\w*Error"
)
_UNREADABLE = frozenset(
    {
        "JSONDecodeError",
        "UnicodeDecodeError",
        "DecodingError",
        "ValidationError",
        "ContentTypeError",
        "ResponseTooLargeError",
    }
)
_UNREADABLE_WORDS = re.compile(
    r"empty or invalid response from llm endpoint|unable to get json response|invalid response object"
    r"|object has no attribute|object is not (?:subscriptable|iterable)"
)
_OVERFLOW = re.compile(
    r"context[ _-]?(?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens"
    r"|input (?:token count|is too long|length)|exceeds? the (?:maximum|limit|model).{0,30}tokens"
)
_FILTERED = re.compile(
    r"content[ _](?:policy|management policy|filter)|safety system|responsible ai|flagged as|moderation"
)
_NO_CREDIT = re.compile(
    r"credit balance|insufficient[ _](?:credits?|balance|funds|quota)"
    r"|billing[ _](?:hard[ _])?limit|billing[ _]not[ _]active|out of credits|payment required"
    r"|(?:key|credit) limit exceeded|spending limit|monthly included credits"
    r"|(?:have|has) any credits|(?:used|exhausted) all (?:available|your) credits|credits are required"
    r"|account is (?:suspended|not active)"
)
_USED_UP = re.compile(
    r"per[ _-]?(?:day|month|week)(?![a-z])|perday|/ ?(?:day|month)\b"
    r"|\((?:rpd|tpd)\)|(?:daily|weekly|monthly) .{0,20}(?:limit|quota|allowance)"
    r"|usage limits?.{0,20}(?:reached|exceeded)|reached your .{0,40}usage limit|regain access on"
    r"|limit:? 0(?![\d.])"
)
"""A limit that no run waits out: by the day or longer, or one of zero (Gemini's for models without a free tier)."""
_EITHER_QUOTA = "exceeded your current quota"
"""OpenAI says it of money, Gemini of a minute too, but then adds when to retry."""
_NEVER_FITS = re.compile(r"request too large|tokens must be reduced")
"""A single request that is larger than all tokens of a minute: OpenAI's 429 for it looks like any other."""
_NO_MEMORY = "requires more system memory"
"""Ollama's 500 for a model that this machine can never load."""
_NO_PATH = frozenset({"not found", "resource not found", "404 page not found"})
_BAD_KEY = re.compile(
    r"api[ _]?key not valid|api_key_invalid|invalid api[ _-]?key|incorrect api key|no auth credentials"
)
_MISSING_KEY = re.compile(
    r"missing .{0,30}api[ _]?key|api_key client option must be set|no api[ _]key"
    r"|api key (?:is )?(?:required|not (?:set|found|provided))|set the `?\w*_api_key`?"
)
_NO_MODEL = re.compile(
    r"model.{0,100}(?:not (?:found|exist|supported|available)|does not exist|unknown)"
    r"|(?:invalid|unknown|no such) model|not a valid model|no endpoints found|llm provider not provided"
)
_BY_CLASS: tuple[tuple[str, FailureKind], ...] = (
    ("ContextWindowExceededError", "context_overflow"),
    ("ContentPolicyViolationError", "content_filter"),
    ("UnsupportedParamsError", "bad_request"),
    ("BadRequestError", "bad_request"),
    ("ImportError", "bad_request"),
    ("ModuleNotFoundError", "bad_request"),
    ("AuthenticationError", "auth"),
    ("PermissionDeniedError", "auth"),
    ("MidStreamFallbackError", "server"),
    ("ServiceUnavailableError", "server"),
    ("BadGatewayError", "server"),
    ("OSError", "network"),
)
"""What LiteLLM's own classes mean when neither a server nor the network had a word in it."""
_TAGS = re.compile(
    r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]{0,500}>", re.DOTALL | re.IGNORECASE
)
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)


def model_error(
    error: BaseException, model: ModelSpec, *, redact: Redactor, now: datetime | None = None
) -> ModelError:
    """Classify and word a failed call.

    Args:
        error: anything that LiteLLM, an SDK below it or asyncio raised, except cancellation.
        model: what was called, with its address where that is known.
        redact: cleans the provider's words.
        now: for a `Retry-After` date, when the response has no `Date` of its own.
    """
    evidence = read(error)
    kind = classify(evidence)
    wait = retry_after_s(evidence, now) if kind in {"rate_limit", "server"} else None
    return worded(kind, model, redact=redact, evidence=evidence, retry_after=wait)


def classify(evidence: Evidence) -> FailureKind:
    """The kind of a failure. Total: what fits nowhere is a protocol fault, never an endless retry."""
    if evidence.status in {None, 408} and any("Timeout" in name for name in evidence.names):
        return "timeout"
    if evidence.status is not None and evidence.status >= 400:
        return _of_status(evidence.status, evidence)
    if any(_NETWORK.fullmatch(name) for name in evidence.names):
        return "network"
    if evidence.names & _UNREADABLE or _UNREADABLE_WORDS.search(evidence.text):
        return "protocol"
    return _of_litellm(evidence)


def _of_status(status: int, evidence: Evidence) -> FailureKind:
    text = evidence.text
    if status == 429:
        return _of_429(evidence)
    if status in {401, 402, 403}:
        return _of_no_access(status, text)
    if status in {408, 504, 524}:
        return "timeout"
    if status in {400, 404, 413, 422} or _OVERFLOW.search(text):
        return _of_refusal(status, evidence)
    if status >= 500:
        return "bad_request" if _NO_MEMORY in text else "server"
    if status in {409, 424, 425, 498, 499}:
        return "server"
    return "quota" if _NO_CREDIT.search(text) else "bad_request"


def _of_429(evidence: Evidence) -> FailureKind:
    if _NEVER_FITS.search(evidence.text):
        return "context_overflow"
    return "quota" if _is_out_of_quota(evidence) else "rate_limit"


def _of_no_access(status: int, text: str) -> FailureKind:
    if status == 402 or _NO_CREDIT.search(text):
        return "quota"
    # OpenRouter's 403 for a prompt that its moderation stopped: the key is fine.
    return "content_filter" if status == 403 and _FILTERED.search(text) else "auth"


def _of_refusal(status: int, evidence: Evidence) -> FailureKind:
    text = evidence.text
    if "ContextWindowExceededError" in evidence.names or status == 413 or _OVERFLOW.search(text):
        return "context_overflow"
    if "ContentPolicyViolationError" in evidence.names or _FILTERED.search(text):
        return "content_filter"
    if _NO_CREDIT.search(text) or "regain access on" in text:
        return "quota"
    if _BAD_KEY.search(text):
        return "auth"
    if "model_not_found" in evidence.codes or _NO_MODEL.search(text):
        return "unknown_model"
    if status != 404:
        return "bad_request"
    # An API says what it lacks. A page, or a framework's own "Not Found", says that the path is wrong.
    words = evidence.words.strip().lower()
    return "protocol" if not words or "<" in words or words in _NO_PATH else "unknown_model"


def _is_out_of_quota(evidence: Evidence) -> bool:
    """Out of credit or of a day's allowance, not just out of breath."""
    if evidence.codes & {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}:
        return True
    if _NO_CREDIT.search(evidence.text) or _USED_UP.search(evidence.text):
        return True
    return _EITHER_QUOTA in evidence.text and not evidence.asks_to_retry()


def _of_litellm(evidence: Evidence) -> FailureKind:
    """No server answered and no connection broke: LiteLLM refused by itself, or stumbled over an answer."""
    if _MISSING_KEY.search(evidence.text):
        return "no_key"
    if _NO_MODEL.search(evidence.text):
        return "unknown_model"
    if "RateLimitError" in evidence.names:
        return "quota" if _is_out_of_quota(evidence) else "rate_limit"
    for name, kind in _BY_CLASS:
        if name in evidence.names:
            return kind
    return "protocol"


# --- words


def worded(
    kind: FailureKind,
    model: ModelSpec,
    *,
    redact: Redactor,
    evidence: Evidence | None = None,
    detail: str = "",
    retry_after: float | None = None,
) -> ModelError:
    """A `ModelError` that says who, what, and the provider's own sentence in quotes.

    Args:
        kind: what happened.
        model: what was called.
        redact: cleans the provider's words and `detail`.
        evidence: what the exception said, where there was one.
        detail: our own addition: what exactly is wrong, or how long was waited.
        retry_after: see `ModelError.retry_after_s`.
    """
    words = evidence.words if evidence is not None else ""
    quote = one_line(redact.strict(_without_tags(words)), _MAX_QUOTE_CHARS)
    status = f" ({evidence.status})" if evidence is not None and evidence.status else ""
    said = f'{status}: "{quote}"' if quote else status
    reason = evidence.reason if evidence is not None else None
    why = reason or quote or detail or "the connection broke"
    sentence = _sentence(kind, model, said, redact.strict(why))
    if detail and (kind != "network" or detail != why):
        sentence += f" ({redact.strict(detail)})"
    return ModelError(
        one_line(sentence, MAX_MESSAGE_CHARS),
        kind=kind,
        model=model.id,
        retry_after_s=retry_after,
        hint=_hint(kind, model),
    )


def _sentence(kind: FailureKind, model: ModelSpec, said: str, why: str) -> str:
    provider, _, name = model.id.partition("/")
    place = _place(model)
    sentences: dict[str, str] = {
        "auth": f"{provider} refused the key{said}",
        "quota": f"{provider} has no quota left for this key{said}",
        "no_key": f"{model.id} needs a key{said}",
        "rate_limit": f"{provider} limits the rate{said}",
        "server": f"{provider} failed{said}",
        "network": f"no answer from {place} ({why.lower()})",
        "timeout": f"no complete answer from {place} in time",
        "protocol": f"{place} does not answer like a model API{said}",
        "unknown_model": f"{provider} has no model '{name}'{said}"
        if name
        else f"'{model.id}' has no provider",
        "context_overflow": f"the prompt does not fit {model.id}{said}",
        "content_filter": f"the content filter of {provider} stopped the answer{said}",
        "bad_request": f"{provider} refused the request{said}",
        "truncated": f"the answer of {model.id} is incomplete",
        "empty": f"{model.id} answered without text",
    }
    return sentences.get(kind, f"the call to {model.id} failed{said}")


def _place(model: ModelSpec) -> str:
    """`Ollama at 127.0.0.1:11434`, or just `openai`."""
    provider = provider_of(model.id) or model.id
    name = "Ollama" if provider.startswith("ollama") else provider
    try:
        host = urlsplit(model.api_base or "").netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    return f"{name} at {host}" if host else name


def _hint(kind: FailureKind, model: ModelSpec) -> str | None:
    key, provider = key_name(model), provider_of(model.id)
    hints: dict[str, str | None] = {
        "auth": f"check {key or 'the key'}; swarm doctor",
        "no_key": f"export {key}=..." if key else "swarm doctor",
        "quota": "top up the account or wait for its next period, or choose another model with -m",
        "unknown_model": f"swarm models list {provider}"
        if provider
        else f"write provider/model, e.g. openai/{model.id}",
        "network": "ollama serve" if provider.startswith("ollama") else None,
        "protocol": f"is {model.api_base} the right address? It usually ends in /v1"
        if model.api_base
        else None,
        "context_overflow": "take a model with a larger window, or smaller inputs",
    }
    return hints.get(kind)


def _without_tags(text: str) -> str:
    """An HTML page as its words; anything else as it is."""
    is_page = re.search(r"<(?:html|!doctype|body|h1)\b", text, re.IGNORECASE)
    return _TAGS.sub(" ", text) if is_page else text


def one_line(text: str, limit: int) -> str:
    """Safe on any terminal, log or CI: no control or direction characters, no line breaks, at most `limit` long."""
    cleaned = " ".join(_UNSAFE.sub(" ", text[: limit * 20]).split())
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1].rstrip() + "…"
