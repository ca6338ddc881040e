"""Hints in headers: every spelling in use is understood, and no nonsense gets through."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.rate_headers import (
    MAX_RESET_S,
    asked_wait_s,
    exhausted_reset_s,
    headroom_of,
)
from swarmcli.core.ports import Headroom

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def reset(value):
    """What a reset of this spelling means, in seconds."""
    found = headroom_of(
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": value}, NOW
    )
    assert found is not None
    return found.requests_reset_s


class TestHeadroom:
    """What is left, as providers say it."""

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            (
                {
                    "x-ratelimit-remaining-requests": "59",
                    "x-ratelimit-reset-requests": "1s",
                    "x-ratelimit-remaining-tokens": "149984",
                    "x-ratelimit-reset-tokens": "120ms",
                },
                Headroom(requests=59, requests_reset_s=1.0, tokens=149984, tokens_reset_s=0.12),
            ),
            (
                {
                    "llm_provider-anthropic-ratelimit-requests-remaining": "49",
                    "llm_provider-anthropic-ratelimit-requests-reset": "2026-11-21T12:00:02Z",
                    "llm_provider-anthropic-ratelimit-tokens-remaining": "39000",
                    "llm_provider-anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:20Z",
                },
                Headroom(requests=49, requests_reset_s=2.0, tokens=39000, tokens_reset_s=20.0),
            ),
            (
                {
                    "x-ratelimit-remaining-req-minute": "717",
                    "x-ratelimit-remaining-tokens-minute": "4999911",
                },
                Headroom(requests=717, tokens=4999911),
            ),
            (
                {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795262412000"},
                Headroom(requests=0, requests_reset_s=12.0),
            ),
        ],
    )
    def test_by_provider(self, headers, expected):
        """OpenAI and Groq, Anthropic behind LiteLLM's prefix, Mistral without resets, OpenRouter's Unix time."""
        assert headroom_of(headers, NOW) == expected

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("1s", 1.0),
            ("6m0s", 60.0),
            ("120ms", 0.12),
            ("1m30.5s", 60.0),
            ("7.66s", 7.66),
            ("500µs", 0.0005),
            ("23h59m59s", 60.0),
            ("12", 12.0),
            ("0.5", 0.5),
            ("90", 60.0),
            ("1795262407", 7.0),
            ("2026-11-21T12:00:30Z", 30.0),
            ("2026-11-21T13:00:30+01:00", 30.0),
            ("Sat, 21 Nov 2026 12:00:05 GMT", 5.0),
        ],
    )
    def test_resets(self, value, seconds):
        """Durations, seconds, Unix time, RFC 3339 and HTTP dates; a minute is the most."""
        assert reset(value) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "value",
        [
            "0s",
            "0",
            "-1",
            "-5s",
            "nan",
            "inf",
            "1e9",
            "soon",
            "",
            "s",
            "1x",
            "1" * 400,
            "1000000000",
            "2020-01-01T00:00:00Z",
            "٣s",
            "1s; drop",
            "9999-99-99T00:00:00Z",
        ],
    )
    def test_nonsense_is_absent(self, value):
        """Zero, negative, past, not a number, or no duration at all."""
        assert reset(value) is None

    @pytest.mark.parametrize("value", ["-1", "1e9", "nan", "1.5", "", "many", "9" * 13, "٣"])
    def test_counts_that_cannot_be_are_absent(self, value):
        """Only plain digits count something."""
        assert headroom_of({"x-ratelimit-remaining-tokens": value}) is None

    def test_the_servers_clock_beats_ours(self):
        """A machine whose clock is an hour off still knows how long ten seconds are."""
        headers = {
            "date": "Sat, 21 Nov 2026 15:00:00 GMT",
            "anthropic-ratelimit-requests-reset": "2026-11-21T15:00:10Z",
        }
        assert headroom_of(headers, NOW) == Headroom(requests_reset_s=10.0)

    @given(st.dictionaries(st.sampled_from(
        ["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "date",
         "llm_provider-x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"]
    ), st.text(max_size=80)))  # fmt: skip
    def test_whatever_stands_there_is_bounded(self, headers):
        """Any text gives counts that are not negative and resets between zero and a minute, or nothing."""
        found = headroom_of(headers, NOW)
        if found is not None:
            for count in (found.requests, found.tokens):
                assert count is None or count >= 0
            for seconds in (found.requests_reset_s, found.tokens_reset_s):
                assert seconds is None or 0 < seconds <= MAX_RESET_S


class TestExhausted:
    """When what is used up is full again."""

    def test_only_what_is_used_up_counts(self):
        """Requests are left, tokens are not: their reset is the wait, unshortened."""
        headers = {
            "x-ratelimit-remaining-requests": "5",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "6m0s",
        }
        assert exhausted_reset_s(headers, NOW) == 360.0

    def test_the_longer_of_two_counts(self):
        """Both are used up: to come back for one of them would be in vain. An hour is the most."""
        headers = {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "3h",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "2s",
        }
        assert exhausted_reset_s(headers, NOW) == 3600.0

    def test_nothing_used_up_says_nothing(self):
        """A 429 for another reason than these limits."""
        headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}
        assert exhausted_reset_s(headers, NOW) is None
        assert exhausted_reset_s({"x-ratelimit-remaining-tokens": "0"}, NOW) is None


@given(st.text(max_size=40), st.sampled_from(["retry-after", "retry-after-ms"]))
def test_an_asked_wait_is_sane(value, name):
    """Whatever stands in a Retry-After of either kind: more than nothing, an hour at most, or absent."""
    found = asked_wait_s({name: value}, NOW)
    assert found is None or (0 < found <= 3600 and math.isfinite(found))
