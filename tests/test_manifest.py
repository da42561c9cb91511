"""plugin.json against the program: the same options, the same version, valid, and every default."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from exactile import __version__
from exactile.cli import BOOLEAN_OPTIONS, app
from exactile.settings import SegmentSettings

ROOT = Path(__file__).parents[1]
MANIFEST = json.loads((ROOT / "plugin.json").read_text(encoding="utf-8"))
INPUTS = {entry["name"]: entry for entry in MANIFEST["inputs"]}
UI = {entry["key"].removeprefix("inputs."): entry for entry in MANIFEST["ui"]}


def options() -> dict[str, Any]:
    command = typer.main.get_command(app)
    parameters = command.commands["segment"].params  # type: ignore[attr-defined]
    return {p.opts[0].removeprefix("--"): p for p in parameters}


def test_the_manifest_is_valid(shared: Path) -> None:
    name = "polus-tools-wipp-plugin-manifest-schema.json"
    schema = json.loads((shared / "schemas" / name).read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(MANIFEST)


def test_what_the_schema_of_2020_does_not_know_is_generic_data_alone(shared: Path) -> None:
    """It has no kind for a model's folder; all else is valid under it too."""
    name = "wipp-plugin-manifest-schema.json"
    schema = json.loads((shared / "schemas" / name).read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(MANIFEST))
    generic = [i for i, entry in enumerate(MANIFEST["inputs"]) if entry["type"] == "genericData"]
    assert [error.json_path for error in errors] == [f"$.inputs[{i}].type" for i in generic]


def test_inputs_and_outputs_are_the_options_of_the_same_names_and_no_others() -> None:
    outputs = {entry["name"] for entry in MANIFEST["outputs"]}
    assert set(INPUTS) | outputs == set(options())
    assert outputs == {"outDir"}


def test_inputs_are_required_where_the_options_are() -> None:
    assert {name: entry["required"] for name, entry in INPUTS.items()} == {
        name: option.required for name, option in options().items() if name != "outDir"
    }


def test_every_setting_is_an_option_or_an_environment_variable() -> None:
    fields = SegmentSettings.model_fields
    aliases = {field.alias or name for name, field in fields.items()}
    assert aliases - {"POLUS_IMG_EXT"} == set(options())


def test_every_input_has_a_place_in_the_form() -> None:
    assert set(UI) == set(INPUTS)


def test_defaults_in_the_form_are_those_of_the_settings() -> None:
    settings = SegmentSettings.from_options({"inpDir": "a", "outDir": "b"})
    used = settings.model_dump(mode="json", by_alias=True)
    for name, entry in UI.items():
        if "default" in entry:
            assert entry["default"] == used[name], name


def test_choices_are_those_that_the_settings_take() -> None:
    for name, entry in INPUTS.items():
        if entry["type"] != "enum":
            continue
        values = entry["options"]["values"]
        for value in values:
            SegmentSettings.from_options({"inpDir": "a", "outDir": "b", name: value})
        field = next(f for f in SegmentSettings.model_fields.values() if f.alias == name)
        assert set(values) == set(field.annotation.__args__)  # type: ignore[union-attr]


def test_booleans_are_the_options_that_take_text_or_none() -> None:
    booleans = {f"--{name}" for name, entry in INPUTS.items() if entry["type"] == "boolean"}
    assert booleans == set(BOOLEAN_OPTIONS)


def test_versions_agree() -> None:
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    assert version == __version__ == MANIFEST["version"]
    assert MANIFEST["containerId"].endswith(f":{version}")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, flags=re.MULTILINE)[1] == version  # type: ignore[index]


@pytest.mark.parametrize("word", ["USER 1000:1000", 'ENTRYPOINT ["exactile", "segment"]'])
def test_the_container_runs_segment_as_nobody_special(word: str) -> None:
    assert word in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
