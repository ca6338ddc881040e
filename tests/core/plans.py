"""Plans as planners write them, and the two ways to read them."""

import json_repair
import pytest

from swarmcli.core.plan import TaskDraft
from swarmcli.core.planstream import PlanStream
from swarmcli.core.plantext import parse_plan
from swarmcli.errors import PlanError

PLAN = '{"tasks": [{"id": "t1", "prompt": "one"}, {"id": "t2", "prompt": "two", "depends_on": ["t1"]}]}'
DRAFTS = (
    TaskDraft(id="t1", prompt="one"),
    TaskDraft(id="t2", prompt="two", depends_on=("t1",)),
)


def streamed(text, size):
    """The drafts that come out when the text arrives in pieces of `size` characters."""
    stream = PlanStream()
    return tuple(d for i in range(0, len(text), size) for d in stream.feed(text[i : i + size]))


def fault(text, repair=json_repair.loads):
    """Why this text is no plan."""
    with pytest.raises(PlanError) as caught:
        parse_plan(text, repair=repair)
    return caught.value.message
