"""The product's own prompts: `prompts/*.md`, loaded and rendered; a missing variable is an error.

A file has one or two sections, headed by a line `# system` or `# user`. Variables are written `{{ name }}` and
replaced once, so that text which is put in is never read as a template.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from swarmcli.data import data_dir
from swarmcli.errors import SwarmError

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_SECTION = re.compile(r"^# (system|user)[ \t]*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PromptText:
    """A rendered prompt; `system` is empty when the file has no such section."""

    system: str
    user: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A loaded prompt file."""

    name: str
    system: str
    user: str

    @property
    def variables(self) -> frozenset[str]:
        """The names that `render` needs."""
        return frozenset(_VARIABLE.findall(self.system + self.user))

    def render(self, **values: str) -> PromptText:
        """Fill in the variables.

        Raises:
            SwarmError: a variable of the file has no value, or a value no variable.
        """
        if values.keys() != self.variables:
            missing = ", ".join(sorted(self.variables ^ values.keys()))
            raise SwarmError(
                f"prompts/{self.name}.md and the program differ in their variables: {missing}"
            )
        return PromptText(_fill(self.system, values), _fill(self.user, values))


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values[match[1]], text).strip()


@functools.cache
def load_prompt(name: str) -> Prompt:
    """The prompt file `prompts/<name>.md`.

    Raises:
        SwarmError: the file is missing or has no section.
    """
    path = data_dir("prompts") / f"{name}.md"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SwarmError(
            f"cannot read the prompt {path}: {error.strerror}", hint="reinstall swarmcli"
        ) from error
    parts = _SECTION.split(text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if "user" not in sections:
        raise SwarmError(f"the prompt {path} has no '# user' section")
    return Prompt(name, sections.get("system", ""), sections["user"])
