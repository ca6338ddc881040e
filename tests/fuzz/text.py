"""Any text on its way to a screen, a file or a log: nothing in it drives a terminal, and no key is left in it."""

import re
import sys
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is started as a script, too

from tests.fuzz.target import fuzz, instrumented

with instrumented(__name__):
    from swarmcli.adapters.model_errors import one_line as error_line
    from swarmcli.adapters.redact import Redactor
    from swarmcli.ui.clean import clean, clean_result, one_line

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
KEY = "sk-fuzz0Zq7Xw2Lk9Vb4Np6"
REDACT = Redactor([KEY, "s3cret+/=word"])


def read(data: bytes) -> None:
    """Clean and redact a text, in which the key stands where the input has `KEY`."""
    text = data.decode("utf-8", "surrogateescape").replace("KEY", KEY)
    for shown in (clean(text), clean(text, joiners=True), clean_result(text)):
        assert CONTROL.search(shown) is None, repr(shown)
    assert clean(clean(text)) == clean(text)
    assert clean_result(clean_result(text)) == clean_result(text)
    row = one_line(text)
    assert not any(c in "\n\r\t" or unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in row)
    assert len(error_line(text, 50)) <= 50
    for kept in (REDACT(text), REDACT.strict(text)):
        assert KEY not in kept, repr(kept)


if __name__ == "__main__":
    fuzz(read)
