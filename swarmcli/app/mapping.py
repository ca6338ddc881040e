"""`swarm map`: one agent per item, `{}` in the prompt is the item."""

from typing import cast

from swarmcli.app.intake import Intake
from swarmcli.core.plan import Task
from swarmcli.recipe.template import render
from swarmcli.recipe.values import Json

PLACE = "{}"
GROUP = "map"


def map_tasks(intake: Intake) -> tuple[Task, ...]:
    """One task per item, or per offered file where files were given. The prompt is no template."""
    prompt = str(intake.params.get("prompt") or "")
    items = list(intake.files) or cast("list[Json]", intake.params.get("items") or [])
    return tuple(_task(prompt, index, item) for index, item in enumerate(items))


def _task(prompt: str, index: int, item: Json) -> Task:
    placed = PLACE in prompt
    text = item if isinstance(item, str) else render("{{ item }}", {"item": item})
    return Task(
        id=f"{GROUP}[{index}]",
        prompt=prompt.replace(PLACE, text) if placed else prompt,
        group=GROUP,
        index=index,
        item_name=None if placed else "item",
        item=item,
    )
