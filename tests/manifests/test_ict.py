"""ict.yaml: valid, closed, and in the words that ICT's tools take."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from schemas import load, problems, strict

from exactile import __version__
from exactile.settings import SegmentSettings

TEXT = (Path(__file__).parents[2] / "ict.yaml").read_text(encoding="utf-8")
DESCRIPTION = yaml.safe_load(TEXT)


def test_the_description_is_valid_and_has_no_unknown_field(shared: Path) -> None:
    schema = load(shared, "ict-schema.json")
    assert problems(schema, DESCRIPTION) == []
    assert problems(strict(schema), DESCRIPTION) == []
    assert problems(strict(schema), DESCRIPTION | {"entryPoint": "x"}) != []


def test_names_have_the_forms_that_its_tools_ask_for() -> None:
    assert re.fullmatch(r"\w+/\w+", DESCRIPTION["name"])
    assert DESCRIPTION["container"] == f"exactile/exactile:{__version__}"
    assert DESCRIPTION["version"] == __version__
    assert all(len(author.split()) == 2 for author in DESCRIPTION["author"])
    assert DESCRIPTION["entrypoint"] == "exactile segment"


def test_every_input_has_a_field_of_its_kind() -> None:
    fields = {field["key"].removeprefix("inputs."): field for field in DESCRIPTION["ui"]}
    fitting = {
        "path": {"path"},
        "boolean": {"checkbox"},
        "number": {"number"},
        "string": {"text", "select"},
    }
    for entry in DESCRIPTION["inputs"]:
        assert fields[entry["name"]]["type"] in fitting[entry["type"]]


def test_defaults_in_the_form_are_those_of_the_settings() -> None:
    settings = SegmentSettings.from_options({"inpDir": "a", "outDir": "b"})
    used = settings.model_dump(mode="json", by_alias=True)
    defaults = {f["key"].removeprefix("inputs."): f.get("default") for f in DESCRIPTION["ui"]}
    given = {name: value for name, value in defaults.items() if value is not None}
    assert given
    assert given == {name: used[name] for name in given}
