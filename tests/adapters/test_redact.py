"""Keys are removed in every form in which they travel, and ordinary text is left alone."""

import base64
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.redact import Redactor, mask, secrets_of

KEY = "sk-proj-abcDEF/+=123_canary-9876"


class TestKnownSecrets:
    """Values that the redactor was told of."""

    @pytest.mark.parametrize(
        "spelling",
        [
            KEY,
            quote(KEY, safe=""),
            quote_plus(KEY),
            json.dumps(KEY)[1:-1],
            base64.b64encode(KEY.encode()).decode(),
            base64.urlsafe_b64encode(KEY.encode()).decode(),
            base64.b64encode(b"u:" + KEY.encode()).decode(),
            base64.b64encode(b"user:" + KEY.encode() + b"\n").decode(),
            base64.b64encode(b"me:" + KEY.encode() + b" and more").decode(),
        ],
    )
    def test_every_spelling_goes(self, spelling):
        """Plain, percent-encoded, in JSON, and in base64 at any alignment."""
        text = Redactor([KEY])(f"before {spelling} after")
        assert "canary" not in text
        assert base64.b64encode(b"canary")[:6].decode() not in text
        assert text.startswith("before ")
        assert text.endswith(" after")

    def test_the_mask_tells_which_key_it_was(self):
        """The scheme and the last four characters stay; they are in every provider's own messages too."""
        assert Redactor([KEY])(f"key {KEY}.") == "key sk-…9876."

    def test_short_secrets_of_eight_and_more_go_without_a_trace(self):
        """Four characters of a short password would be half of it."""
        assert Redactor(["hunter2!"])("pw hunter2!") == "pw [redacted]"

    def test_too_short_values_are_words(self):
        """A variable that holds `test` must not blacken every test."""
        redact = Redactor(["test", "", " "])
        assert redact("a test of   blanks") == "a test of   blanks"

    def test_in_error_texts_short_values_go_too(self):
        """As whole words: a server that echoes a key of four letters still echoes a key."""
        redact = Redactor(["abcd"])
        assert (
            redact.strict("Incorrect key: abcd, not abcdef")
            == "Incorrect key: [redacted], not abcdef"
        )

    def test_the_longer_secret_wins(self):
        """A key that begins like another is replaced whole."""
        redact = Redactor(["abcdefgh", "abcdefgh-and-much-longer-than-that"])
        assert "longer" not in redact("abcdefgh-and-much-longer-than-that")

    def test_secrets_may_come_later(self):
        """None and empty values are ignored, real ones count at once."""
        redact = Redactor()
        redact.add(None, "", "later-secret-1")
        assert redact("later-secret-1") == "[redacted]"

    def test_threads_may_share_it(self):
        """Adding while others clean text breaks nothing."""
        redact = Redactor()
        faults = []

        def work(name):
            for i in range(50):
                secret = f"secret-{name}-{i:04d}"
                redact.add(secret)
                if secret in redact(f"x {secret} y"):
                    faults.append(secret)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []

    @given(secret=st.text(min_size=8, max_size=60), before=st.text(), after=st.text())
    def test_no_secret_survives(self, secret, before, after):
        """Whatever stands around it."""
        secret = secret.strip()
        if len(secret) >= 8 and secret not in before + after and secret not in "[redacted]":
            cleaned = Redactor([secret])(f"{before}{secret}{after}")
            assert secret not in cleaned or secret in before + "[redacted]" + after


class TestShapes:
    """Values that only look like credentials."""

    @pytest.mark.parametrize(
        "secret",
        [
            "sk-ant-REDACTED",
            "AIzaSyA-canary0123456789abcdefghijklmnop",
            "gsk_canary0123456789abcdefABCDEF",
            "xai-canary0123456789abcdefABCDEF",
            "hf_canary0123456789abcdefABCD",
            "ghp_canary0123456789abcdefABCDEF012345",
            "github_pat_canary0123456789abcdefABCDEF",
            "AKIACANARY0123456789",
            "xoxb-canary-0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOjF9.sig-canary",
            "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----",
        ],
    )
    def test_known_shapes_go(self, secret):
        """Nobody told us of them, and they go all the same."""
        assert "canary" not in Redactor()(f"see {secret} there").lower()

    @pytest.mark.parametrize(
        "text",
        [
            "Authorization: Bearer canary1token2that3is4long",
            "GET https://api.example/v1?key=canary123&x=1",
            "https://user:canary123@host/path",
        ],
    )
    def test_places_where_credentials_stand(self, text):
        """Behind `Bearer`, in a query, in a URL's user part."""
        assert "canary" not in Redactor()(text)

    @pytest.mark.parametrize(
        "text",
        [
            "use sk-learn and scikit-learn for task-based risk-averse work",
            "The bearer of this letter; a bearer token is a credential",
            "password = get_password()  # api_key: str",
            "basic understanding of secret sharing",
            "see https://example.com/a?page=2&sort=key",
            "hf_transfer is a package, xai-grok a model",
            "eyJust kidding. eyJay",
        ],
    )
    def test_prose_and_code_stay(self, text):
        """What agents write about security is not a leak."""
        assert Redactor()(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            "Incorrect API key provided: sk-canary.",
            '{"api_key": "canary-value"}',
            "authorization: basic Y2FuYXJ5OmNhbmFyeQ==",
            "Bearer canary",
            "password=canary",
        ],
    )
    def test_strict_also_takes_labelled_values(self, text):
        """In error texts and logs a word like `api_key=` is enough."""
        cleaned = Redactor().strict(text)
        assert "canary" not in cleaned
        assert "Y2FuYXJ5" not in cleaned

    def test_strict_masks_once(self):
        """What is masked already keeps its last four characters."""
        assert Redactor([KEY]).strict(f"Bearer {KEY}") == "Bearer sk-…9876"

    def test_a_megabyte_is_quick(self):
        """No pattern goes wild on long text."""
        text = ("model sk-" + "a" * 50 + " Bearer " + "x1" * 500 + " ://a:b ") * 1000
        assert "…" in Redactor([KEY]).strict(text)


def test_masks():
    """Long keys show their scheme and end; others nothing."""
    assert mask("sk-0123456789abcdefghij") == "sk-…ghij"
    assert mask("0123456789abcdefghij") == "…ghij"
    assert mask("short-secret") == "[redacted]"


def test_secrets_are_found_by_name():
    """Keys, tokens, secrets and passwords, whoever's they are."""
    env = {
        "OPENAI_API_KEY": "openai-key",
        "GITHUB_TOKEN": "github-token",
        "aws_secret_access_key": "aws-secret",
        "DB_PASSWORD": "db-password",
        "DEBUG_KEY": "on",
        "PATH": "/usr/local/bin",
        "KEYBOARD": "us-international",
    }
    assert secrets_of(env) == ("openai-key", "github-token", "aws-secret", "db-password")
