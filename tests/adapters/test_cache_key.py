"""Equal questions have one name; whatever can change the answer changes the name."""

import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.adapters.cache_key import cache_key
from swarmcli.core.ports import Message, ModelRequest
from swarmcli.recipe.values import ModelSpec, Price

texts = st.text(max_size=30)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=4)
models = st.builds(
    ModelSpec,
    id=st.text(string.ascii_letters + "/-", min_size=1, max_size=12),
    temperature=st.none() | st.sampled_from([0, 0.0, 0.5, 1]),
    max_output_tokens=st.none() | st.integers(1, 9),
    api_base=st.none() | st.sampled_from(["http://a", "http://b"]),
    reasoning_effort=st.none() | st.sampled_from(["low", "high"]),
)
messages = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=texts)
requests = st.builds(
    ModelRequest,
    model=models,
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    response_schema=st.none() | objects,
    sample=st.integers(0, 3),
    max_output_tokens=st.none() | st.integers(1, 9),
    temperature=st.none() | st.sampled_from([0, 0.5, 1]),
    extra=objects,
)

BASE = ModelRequest(
    model=ModelSpec(id="openai/gpt", api_base="http://a", temperature=0.5, max_output_tokens=100),
    messages=(Message(role="system", content="s"), Message(role="user", content="u")),
    response_schema={"type": "object"},
    extra={"top_k": 4},
)

PINNED = "35bd77cb27b6622949684cc4c720a79644c969f92eeee28271e436d8baf0eb20"


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(requests)
@settings(max_examples=150, deadline=None)
def test_equal_requests_have_equal_keys(request):
    """The order in which a schema or extra was written does not matter."""
    schema = request.response_schema
    twin = replace(
        request,
        extra=reordered(request.extra),
        response_schema=None if schema is None else reordered(schema),
    )
    assert cache_key(twin) == cache_key(request)
    assert len(cache_key(request)) == 64


@given(requests, requests)
@settings(max_examples=150, deadline=None)
def test_requests_with_one_key_are_the_same_question(one, other):
    """No two questions share a name."""
    if cache_key(one) == cache_key(other):
        assert one.messages == other.messages
        assert one.model.id == other.model.id
        assert one.model.api_base == other.model.api_base
        assert one.response_schema == other.response_schema
        assert one.extra == other.extra
        assert one.sample == other.sample


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message(role="user", content="s"), Message(role="user", content="u"))},
        {"messages": (Message(role="user", content="su"),)},
        {"messages": tuple(reversed(BASE.messages))},
        {"response_schema": None},
        {"response_schema": {}},
        {"response_schema": {"type": "array"}},
        {"sample": 1},
        {"max_output_tokens": 99},
        {"temperature": 0.0},
        {"extra": {}},
        {"extra": {"top_k": 5}},
        {"extra": {"top_k": "4"}},
        {"model": replace(BASE.model, id="openai/gpt-5")},
        {"model": replace(BASE.model, api_base="http://b")},
        {"model": replace(BASE.model, api_base=None)},
        {"model": replace(BASE.model, temperature=None)},
        {"model": replace(BASE.model, max_output_tokens=None)},
        {"model": replace(BASE.model, reasoning_effort="low")},
    ],
)
def test_what_can_change_the_answer_changes_the_key(change):
    """Each field that reaches the provider counts."""
    assert cache_key(replace(BASE, **change)) != cache_key(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "writer"},
        {"agent": "scan[3]"},
        {"timeout_s": 1.0},
        {"temperature": 0.5},
        {"max_output_tokens": 100},
        {"model": replace(BASE.model, api_key_env="OTHER_KEY")},
        {"model": replace(BASE.model, price=Price(input_per_mtok=1, output_per_mtok=1))},
        {"model": replace(BASE.model, fallbacks=("large",))},
        {"model": replace(BASE.model, context_window=9)},
        {"model": replace(BASE.model, api_base="http://a/")},
    ],
)
def test_what_cannot_change_the_answer_does_not_count(change):
    """Key, price, time-out, asker, and a value that the model has anyway."""
    assert cache_key(replace(BASE, **change)) == cache_key(BASE)


def test_the_key_of_a_question_never_changes_by_accident():
    """This one is on users' disks: change it only together with CACHE_SCHEMA."""
    assert cache_key(BASE) == PINNED


def test_odd_text_has_a_key():
    """Lone surrogates and control characters are text like any other."""
    odd = replace(BASE, messages=(Message(role="user", content="\ud800\x00é\u2028"),))
    assert cache_key(odd) != cache_key(BASE)


def test_values_that_json_cannot_hold_have_none():
    """NaN has no canonical form."""
    with pytest.raises(ValueError, match="JSON"):
        cache_key(replace(BASE, extra={"x": float("nan")}))
