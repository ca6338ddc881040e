"""`swarm schema`: the document that editors use."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from swarmcli.data import data_dir
from swarmcli.recipe.schema import RecipeFile, to_json_schema
from swarmcli.recipe.yaml_source import parse

DOCUMENT = to_json_schema()
VALIDATOR = jsonschema.Draft7Validator(DOCUMENT)
EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text("utf-8")


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(parse(text, "r").data)


def test_it_is_draft_07():
    """Editors read up to draft-07: `definitions`, no `$defs`."""
    jsonschema.Draft7Validator.check_schema(DOCUMENT)

    assert DOCUMENT["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in json.dumps(DOCUMENT)


def test_every_reference_leads_somewhere_and_stands_alone():
    """draft-07 ignores what stands beside `$ref`, so nothing may."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert list(node) == ["$ref"]
                assert node["$ref"].removeprefix("#/definitions/") in DOCUMENT["definitions"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(DOCUMENT)


def test_a_recipe_with_everything_is_valid():
    """The editor has nothing to say about the largest good recipe."""
    assert list(VALIDATOR.iter_errors(parse(EVERYTHING, "r").data)) == []


def test_editors_that_read_yaml_1_1_accept_it_too():
    """`hedge: off` is false to them; a duration is text to all."""
    assert valid("version: 1\ntask: x\nhedge: 'off'\nlimits: {timeout: 1h30m}\n")


@pytest.mark.parametrize(
    "path", sorted(data_dir("recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_recipes_are_valid(path: Path):
    """What is in the box passes its own schema."""
    assert valid(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "moed: auto", "mode: no", "limits: {timeout: 5}", "limits: {timeout: soon}", "limits: {parallel: '5'}",
        "limits: {reserve: 0.1}", "hedge: false", "cache: off", "params: {a-b: {}}", "params: {a: {type: int}}",
        "tasks: []", "tasks: [{id: a}]", "tasks: [{id: a b, prompt: x}]", "models: {a: 5}", "name: ~",
        "tasks: [{id: a, prompt: x, for_each: {}}]", "tools: {mcp: {a: {command: x, url: y}}}", "vote: {samples: 0}",
    ],
)  # fmt: skip
def test_editors_mark_what_the_loader_refuses(line: str):
    """The two agree on every mistake that a schema can express."""
    assert valid("version: 1\ntask: x\n")
    assert not valid(f"version: 1\ntask: x\n{line}\n")


@pytest.mark.parametrize("text", ["task: x\n", "version: 2\ntask: x\n", "version: 1\n"])
def test_version_and_job_are_required(text: str):
    """An empty recipe is marked, too."""
    assert not valid(text)


def test_every_key_has_a_description():
    """Hovering over a key says what it is for."""

    def described(schema: dict[str, Any]) -> bool:
        if "$ref" in schema:
            return "description" in DOCUMENT["definitions"][schema["$ref"].split("/")[-1]]
        return "description" in schema

    models = [DOCUMENT, *DOCUMENT["definitions"].values()]
    bare = [
        key
        for m in models
        for key, value in m.get("properties", {}).items()
        if not described(value)
    ]
    assert bare == []


def test_no_key_offers_null():
    """`key:` without a value is an error, so no editor should complete it."""
    assert '"null"' not in json.dumps(DOCUMENT)


def test_defaults_are_shown_as_they_are_written():
    """A percentage's default is `15%`, as a user would type it."""
    limits = DOCUMENT["definitions"]["LimitsEntry"]["properties"]

    assert (limits["reserve"]["default"], limits["max_calls"]["default"]) == ("15%", 10000)


def test_the_keys_of_the_design_are_all_there():
    """Recipe v1 is a contract: no key may get lost."""
    keys = (
        "version name description params files task mode models agents tasks plan vote verify merge"
    )
    more = "limits rate retry hedge cache on_error min_success tools output"

    assert set(RecipeFile.model_fields) == {*keys.split(), *more.split()}


def test_pyyaml_reads_the_example_too():
    """The example uses nothing that only our reader understands."""
    assert yaml.safe_load(EVERYTHING)["tasks"][0]["id"] == "scan"
