"""Our own keys never reach an answer, however the model or the network cuts them."""

import base64
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.keyless import KeylessSink, keys_in
from swarmcli.adapters.redact import Redactor
from swarmcli.testing import RecordingText

KEY = "sk-canary0123456789abcdefSECRETsk-"
"""It ends as it begins: its end may be taken for the beginning of another one."""
OTHER = KEY + "-and-longer"


def streamed(redact, pieces):
    """What a listener hears, piece by piece, and together."""
    heard = RecordingText()
    sink = KeylessSink(heard, redact)
    for piece in pieces:
        sink.feed(piece)
    return heard.pieces, heard.text + sink.rest()


class TestPieces:
    """Keys in a stream."""

    @given(st.lists(st.integers(0, 120), max_size=12), st.sampled_from([
        f"the key is {KEY}.", f"{KEY}{KEY}", f"{OTHER} {KEY}", KEY[:-1] + " no", "s" * 40 + KEY,
        f"sk-sk-{KEY}sk-", base64.b64encode(f"user:{KEY}".encode()).decode() + " x", "no key, just prose",
    ]))  # fmt: skip
    def test_pieces_are_the_whole_cut_up(self, cuts, text):
        """Cut anywhere, the clean pieces together are the clean text: nothing leaks, nothing is lost."""
        redact = Redactor([KEY, OTHER])
        places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        pieces = [text[a:b] for a, b in pairwise(places)]
        heard, together = streamed(redact, pieces)
        assert together == redact.known(text)
        assert KEY not in "".join(heard)

    @given(st.text("ab", max_size=40), st.lists(st.text("ab", min_size=8, max_size=12), min_size=1))
    def test_keys_that_overlap_are_no_exception(self, text, keys):
        """Keys of two letters overlap in every possible way; letter by letter is still like all at once."""
        redact = Redactor(keys)
        assert streamed(redact, text)[1] == redact.known(text)

    def test_ordinary_text_does_not_wait(self):
        """What cannot be a key is handed on at once."""
        assert streamed(Redactor([KEY]), ["one ", "two ", "s", "even"])[0] == [
            "one ",
            "two ",
            "seven",
        ]

    def test_a_new_beginning_forgets_what_waited(self):
        """After a broken stream the answer begins again."""
        heard = RecordingText()
        sink = KeylessSink(heard, Redactor([KEY]))
        sink.feed("sk-can")
        sink.restart()
        sink.feed("new")
        assert (heard.text + sink.rest(), heard.restarts) == ("new", 1)


def test_what_only_looks_like_a_key_stays():
    """A task may be about keys; only our own go."""
    text = "sk-ant-REDACTED and api_key=abc"
    assert Redactor([KEY]).known(text) == text


def test_keys_are_those_of_providers_and_no_placeholders():
    """Another program's password is no word to be taken out of answers, and `lm-studio` is no secret."""
    env = {
        "OPENAI_API_KEY": KEY,
        "LM_STUDIO_API_KEY": "lm-studio",
        "DB_PASSWORD": "password",
        "GROQ_API_KEY": "",
    }
    assert list(keys_in(env)) == [KEY]
