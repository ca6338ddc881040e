"""What `swarm eval` compares: each configuration is a recipe that is given the questions, all at once or one a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarmcli.app.intake import Intake, Stdin, take_in
from swarmcli.app.options import RunOptions
from swarmcli.app.prepare import Prepared, prepare, require_models
from swarmcli.app.preview import no_roles
from swarmcli.app.source import read_recipe
from swarmcli.app.workspace import Note, Workspace
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.plan import final_tasks
from swarmcli.core.routing import Roles, choose_mode
from swarmcli.core.scoring import Question, Scorer
from swarmcli.core.tally import with_vote
from swarmcli.errors import RecipeError, UsageError
from swarmcli.recipe.load import unsupported
from swarmcli.recipe.values import ROLES, ForEach, Json, Param, Recipe, TaskSpec

SWARM = "swarm"
"""The name of the recipe that `--recipe` names."""
ALL, EACH = "questions", "question"

_INSTRUCTIONS: dict[Scorer, str] = {
    "number": "Work it out step by step. Then write the result as a number, alone on the last line.",
    "choice": "Think it through. Then write the letter of the right choice, alone on the last line.",
    "exact": "Give the answer alone, without a sentence around it.",
}
"""How the configurations that are one model's single call are asked; a recipe words its own prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to answer all questions, checked as far as it can be before anything is asked."""

    name: str
    description: str
    roles: Roles
    first: Prepared
    """The run that answers all questions, or the first one."""
    param: str
    at_once: bool
    """One run answers all questions, an agent (or a pipeline) each; False: one run a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all configurations of one evaluation share."""

    ws: Workspace
    options: RunOptions
    blocks: DataBlocks
    questions: Sequence[Question]

    def take_in(self, recipe: Recipe, param: str, value: Json, note: Note) -> Intake:
        """The recipe with a question, or with all of them, as its parameter."""
        params = self.options.params if recipe.source else ()
        return take_in(
            recipe,
            replace(self.options, params=(*params, f"{param}:={json.dumps(value)}")),
            blocks=self.blocks,
            stdin=Stdin(forbidden=True, note=note),
            cwd=self.ws.cwd,
            note=note,
        )


def configurations(
    setting: Setting, recipe: str | None, wanted: Sequence[str]
) -> list[Configuration]:
    """What is to be compared, the reference first.

    Args:
        setting: what they share.
        recipe: of `--recipe`; its models, rates and limits are those of the single calls, too.
        wanted: `NAME=...` or `NAME`, where `...` is a role, a model or a recipe; without any: small, large (unless it
            is the same model) and the recipe.

    Raises:
        UsageError, RecipeError, NoModelError: one of them cannot be carried out.
    """
    loaded = _read(setting.ws, recipe) if recipe is not None else None
    if not wanted:
        default = ["small", "large", *([SWARM] if loaded else [])]
        made = [_configuration(setting, name, name, loaded) for name in default]
        roles = made[0].roles
        if roles.resolve("small") == roles.resolve("large"):
            made.pop(1)
        return made
    pairs = [_named(text) for text in wanted]
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"there are two configurations named {twice[0]!r}")
    return [_configuration(setting, name, target, loaded) for name, target in pairs]


def _named(text: str) -> tuple[str, str]:
    name, equals, target = (part.strip() for part in text.partition("="))
    if not name or (equals and not target):
        raise UsageError(
            f"--config {text!r} is no NAME=WHAT", hint="--config small --config vote=vote.yaml"
        )
    return name, target or name


def _read(ws: Workspace, name: str) -> Recipe:
    recipe = read_recipe(name, ws.cwd, ws.recipe_path)
    problems = unsupported(recipe)
    if problems:
        raise RecipeError(recipe.source, recipe.text, problems)
    return recipe


def _configuration(
    setting: Setting, name: str, target: str, loaded: Recipe | None
) -> Configuration:
    if target == SWARM and loaded is not None:
        return _prepared(setting, name, loaded)
    is_role = target in ROLES or (loaded is not None and target in loaded.models)
    is_id = "/" in target and not target.endswith((".yaml", ".yml"))
    if is_role or is_id:
        return _prepared(setting, name, _single(target, loaded), target=target)
    return _prepared(setting, name, _read(setting.ws, target))


def _single(model: str, beside: Recipe | None) -> Recipe:
    """One call of one model for each question, with the models and limits of the recipe that stands beside it."""
    base = beside or Recipe(name="", source="", text="")
    return Recipe(
        name=model,
        source="",
        text="",
        params=(Param(name=ALL, type="list"),),
        tasks=(
            TaskSpec(
                id="answer",
                prompt="{{ item }}",
                for_each=ForEach(expression=f"{{{{ {ALL} }}}}"),
                model=model,
            ),
        ),
        models=base.models,
        limits=base.limits,
        rate=base.rate,
        retry_attempts=base.retry_attempts,
        cache=base.cache,
    )


def _prepared(
    setting: Setting, name: str, recipe: Recipe, target: str | None = None
) -> Configuration:
    param = _question_param(recipe)
    at_once = param.type == "list"
    value: Json = setting.questions[0].text
    if at_once:
        value = [q.text if target is None else _worded(q) for q in setting.questions]
    intake = setting.take_in(recipe, param.name, value, setting.ws.note)
    first = prepare(setting.ws, intake, setting.options)
    without_models = setting.options.dry_run and first.roles is None
    roles = no_roles(first) if without_models else require_models(first, setting.ws)
    if at_once:
        _check_leaves(recipe, first, len(setting.questions))
    model = None if target is None else roles.resolve(target).id
    return Configuration(
        name=name,
        description=model or f"recipe {recipe.name}",
        roles=roles,
        first=first,
        param=param.name,
        at_once=at_once,
    )


def _worded(question: Question) -> str:
    """The question with our instruction how to end the answer."""
    return f"{question.text}\n\n{_INSTRUCTIONS[question.scorer]}"


def _question_param(recipe: Recipe) -> Param:
    """The parameter that takes the question (text), or all of them (a list)."""
    named = [p for p in recipe.params if p.name in {ALL, EACH}]
    required = [p for p in recipe.params if p.required]
    found = named or (required if len(required) == 1 else [])
    if len(found) != 1 or found[0].type not in {"string", "list"}:
        raise UsageError(
            f"recipe '{recipe.name}' takes no question",
            hint=f"give it a parameter '{EACH}' (text), or '{ALL}' (list) to get all of them in one run",
        )
    return found[0]


def _check_leaves(recipe: Recipe, prepared: Prepared, questions: int) -> None:
    """With all questions in one run, agent i of the last fan-out must answer question i."""
    leaves = final_tasks(prepared.tasks or ())
    if [leaf.index for leaf in leaves] != list(range(questions)):
        raise UsageError(
            f"recipe '{recipe.name}' takes all questions at once, but has {len(leaves)} final agents for {questions} "
            "of them",
            hint=f"end it with one fan-out over '{ALL}', or give it a parameter '{EACH}'",
        )


def prepared_for(config: Configuration, setting: Setting, question: Question) -> Prepared:
    """The run of one question: as the first one's, with another parameter.

    Raises:
        UsageError: the recipe's templates do not fit this question.
    """
    first = config.first
    intake = setting.take_in(first.recipe, config.param, question.text, _silent)
    mode = first.mode
    if intake.tasks is None:
        material = bool(intake.materials or intake.files)
        mode = choose_mode(
            first.recipe, intake.job_outline, setting.options.mode, has_material=material
        )
    tasks = None if intake.tasks is None else with_vote(intake.tasks, first.recipe.vote)
    return replace(first, intake=intake, tasks=tasks, mode=mode)


def _silent(_text: str) -> None:
    pass
