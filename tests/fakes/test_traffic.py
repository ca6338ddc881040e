"""The fake server's own limits and counts: what tests and benchmarks of limits are measured with."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.test_resume import wait_for
from tests.fakes.openai_server import Server, serve
from tests.fakes.traffic import Weather, Window, busiest, go_duration, limit_at, schedule


def ask(server: Server, prompt: str) -> tuple[int, Mapping[str, str]]:
    """One request; its status and headers."""
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": prompt}]})
    request = urllib.request.Request(f"{server.url}/chat/completions", body.encode())  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def test_requests_per_minute():
    """The fourth of three allowed requests is refused, told when to come back, and counted."""
    with serve(rpm=3, retry_after="auto", rate_headers=True) as server:
        answers = [ask(server, f"{i}") for i in range(4)]

    assert [status for status, _ in answers] == [200, 200, 200, 429]
    left = [headers["x-ratelimit-remaining-requests"] for _, headers in answers]
    assert left == ["2", "1", "0", "0"]
    assert 50 <= int(answers[3][1]["retry-after"]) <= 60
    counts = server.stats()
    assert (counts["requests"], counts["limited"], counts["busiest_minute"]) == (4, 1, 4)


def test_tokens_per_minute():
    """A long prompt uses the allowance up; without `retry_after` no header says for how long."""
    with serve(tpm=100) as server:
        first, second = ask(server, "x" * 390), ask(server, "x" * 390)

    assert (first[0], second[0]) == (200, 429)
    assert "retry-after" not in second[1]


@given(
    st.lists(st.floats(0, 300), min_size=1, max_size=60).map(sorted),
    st.integers(1, 20),
)
def test_a_window_slides(times: list[float], limit: int):
    """Whatever comes when: never more than the limit in any minute, and nothing is refused that would fit."""
    window, taken = Window(limit), list[float]()
    for now in times:
        recent = [at for at in taken if at > now - 60]
        early_s = window.early_s(1, now)
        assert (early_s == 0) == (len(recent) < limit)
        if early_s == 0:
            window.take(1, now)
            taken.append(now)
        else:
            assert now + early_s - recent[-limit] == pytest.approx(60, abs=0.01)

    assert busiest(taken) <= limit
    assert busiest(taken) == max(sum(a <= b < a + 60 for b in taken) for a in taken)


def test_a_limit_that_changes():
    """A schedule holds from its times on, and is written as on the command line."""
    limit = schedule("0:100,30:20,60:none")

    assert [limit_at(limit, t) for t in (0, 29.9, 30, 60)] == [100, 100, 20, None]
    assert (schedule("40"), limit_at(40, 5), limit_at(None, 5)) == (40, 40, None)


def test_weather_is_drawn_by_request():
    """The same requests are slow in every run of a seed, about as many as asked for, and jitter keeps its bounds."""
    weather = Weather(seed=3, straggler_share=0.02, straggler_factor=10, jitter=0.2)
    factors = [weather.factor(f"request {i}") for i in range(3000)]

    assert factors == [weather.factor(f"request {i}") for i in range(3000)]
    slow = [f for f in factors if f > 2]
    assert 30 <= len(slow) <= 90
    assert all(8 <= f <= 12 for f in slow)
    assert all(0.8 <= f <= 1.2 for f in factors if f < 2)


def test_hidden_parallelism_counts_what_is_admitted():
    """One is allowed and hangs: all others are refused at once, and they take no place either."""
    with ThreadPoolExecutor(1) as pool:
        with serve(max_parallel=1, faults=["hang"]) as server:
            hung = pool.submit(ask, server, "a")
            wait_for(lambda: server.admitted == 1, "the first request")
            refused = [ask(server, f"{i}")[0] for i in range(3)]
        assert hung.exception() is not None

    assert refused == [429, 429, 429]
    assert (server.peak, server.admitted, server.stats()["limited"]) == (2, 0, 3)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.12, "120ms"), (1.5, "1.5s"), (360, "6m0s"), (61.25, "1m1.25s")]
)  # fmt: skip
def test_durations_as_openai_writes_them(seconds: float, text: str):
    """As in `x-ratelimit-reset-requests`."""
    assert go_duration(seconds) == text
