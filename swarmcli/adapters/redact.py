"""Keys never leave the process: one place that knows every secret, and removes it from text that is kept or shown.

Two nets. Exact: every value that was told to the `Redactor`, also in the forms in which it travels (percent-encoded,
JSON-escaped, base64 at any alignment). By shape: what looks like a credential, whoever it belongs to. The shapes are
narrow enough for prose and code; `strict` adds labelled values (`api_key=...`), which suits errors and logs only.
"""

import base64
import json
import re
import threading
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

MIN_SECRET_CHARS = 8
"""Shorter values are too common as ordinary words to be replaced wherever they occur."""

_HIDDEN = "[redacted]"
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$")

_SHAPES = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \bsk-[A-Za-z0-9_-]{16,}
    | \bAIza[A-Za-z0-9_-]{30,}
    | \b(?:gsk|xai|pplx|nvapi|r8|hf|fw|tgp|csk)[_-](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}
    | \bgh[oprsu]_[A-Za-z0-9]{20,}
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    """,
    re.VERBOSE | re.DOTALL,
)
_AFTER_LABEL = re.compile(
    r"""
    (?P<label> \bbearer\s+ (?=\S*\d)
             | [?&](?:key|api[-_]?key|token|access_token|sig|signature)=
             | ://(?=[^/\s@]+:[^/\s@]+@) )
    (?P<value> [^\s"'&,;@\\]+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_STRICT = re.compile(
    r"""
    (?P<label> \bsk-
             | \bbearer\s+
             | \bauthorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer)\s+)?
             | \b(?:x-)?(?:api[-_ ]?key|access[-_]?token|client[-_]?secret|password|passwd|secret)["']?\s*[:=]\s*["']?
    )
    (?P<value> [^\s"'&,;\\]{3,} )
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Redactor:
    """Removes secrets from text. Safe to share between threads; every adapter that resolves a key tells it.

    Args:
        secrets: values to remove; empty ones are ignored, those of less than eight characters count in `strict` only.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._masks: dict[str, str] = {}
        self._exact: re.Pattern[str] | None = None
        self._forms: tuple[str, ...] = ()
        self._short: re.Pattern[str] | None = None
        self._words: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: str | None) -> None:
        """From now on, remove these values; None and empty ones are ignored."""
        with self._lock:
            known = len(self._masks)
            for secret in secrets:
                cleaned = (secret or "").strip()
                if len(cleaned) >= MIN_SECRET_CHARS and cleaned not in self._masks:
                    self._masks.update(dict.fromkeys(_forms(cleaned), mask(cleaned)))
                elif 2 < len(cleaned) < MIN_SECRET_CHARS:
                    self._words.add(cleaned)
                    words = "|".join(map(re.escape, self._words))
                    self._short = re.compile(rf"(?<!\w)(?:{words})(?!\w)")
            if len(self._masks) > known:
                longest_first = sorted(self._masks, key=len, reverse=True)
                self._exact = re.compile("|".join(map(re.escape, longest_first)))
                self._forms = tuple(longest_first)

    def __call__(self, text: str) -> str:
        """The text without known secrets and without what is shaped like one."""
        text = _SHAPES.sub(lambda found: mask(found[0]), self.known(text))
        return _AFTER_LABEL.sub(_hide_value, text)

    def known(self, text: str) -> str:
        """The text without known secrets; what is only shaped like one stays."""
        # To look for each form first is a hundred times quicker than the pattern, and there is hardly ever one.
        if self._exact is None or not any(form in text for form in self._forms):
            return text
        return self._exact.sub(lambda found: self._masks[found[0]], text)

    def split(self, text: str) -> tuple[str, str]:
        """The text as `known`, as far as it cannot be part of a secret that is not yet complete; and the raw rest."""
        if self._exact is None:
            return text, ""
        cut, done, pieces = self._may_begin_at(text), 0, list[str]()
        for found in self._exact.finditer(text):
            if found.start() >= cut:
                break
            pieces += text[done : found.start()], self._masks[found[0]]
            done = found.end()
        cut = max(cut, done)  # the end of a secret that looks like the beginning of one is its end
        return "".join((*pieces, text[done:cut])), text[cut:]

    def _may_begin_at(self, text: str) -> int:
        """Where the longest end of `text` starts that is a real beginning of a secret."""
        forms = self._forms
        firsts = {form[0] for form in forms}
        for i in range(max(0, len(text) - len(forms[0]) + 1), len(text)):
            if text[i] in firsts:
                tail = text[i:]
                if any(len(form) > len(tail) and form.startswith(tail) for form in forms):
                    return i
        return len(text)

    def strict(self, text: str) -> str:
        """As a call, and short secrets, and what stands behind a word like `api_key=`: for error texts and logs."""
        text = self(text)
        if self._short is not None:
            text = self._short.sub(_HIDDEN, text)
        return _STRICT.sub(_hide_value, text)


def mask(secret: str) -> str:
    """What is shown instead: enough of a long key to tell which one it was (`sk-…3f2a`), nothing of others."""
    if len(secret) < 20 or not secret.isascii() or not secret[-4:].isalnum():
        return _HIDDEN
    scheme = re.match(r"(?:sk|gsk|xai|hf|r8|fw|pplx)[-_]|AIza", secret)
    return f"{scheme[0] if scheme else ''}…{secret[-4:]}"


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """The values of all variables whose names say that they hold one; short values may be anything and do not count."""
    return tuple(
        value
        for name, value in env.items()
        if len(value) >= MIN_SECRET_CHARS and _SECRET_NAME.search(name.upper())
    )


def _hide_value(found: re.Match[str]) -> str:
    value = found["value"]
    if "…" in value or value.startswith(_HIDDEN[:-1]):
        return found[0]  # already masked
    return found["label"] + (mask(value) if len(value) >= MIN_SECRET_CHARS else _HIDDEN)


def _forms(secret: str) -> set[str]:
    """Every spelling in which the secret may turn up, as far as it is long enough to be told from chance."""
    raw = secret.encode()
    forms = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    for pad in range(3):
        # In `base64("user:" + key)` the key starts at any of three alignments. What depends on the neighbours is cut.
        encoded = base64.b64encode(b"\0" * pad + raw).decode()
        core = encoded[-(-pad * 8 // 6) : (pad + len(raw)) * 8 // 6]
        forms |= {core, core.translate(str.maketrans("+/", "-_"))}
    return {form for form in forms if len(form) >= MIN_SECRET_CHARS}
