"""No manifest falls behind the program: each has every option, and is as it is generated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo
from typer.main import get_command

from exactile.cli import app
from exactile.manifests import described
from exactile.manifests.argo import GIVEN
from exactile.manifests.described import DriftError, described_options
from exactile.manifests.files import FILES, write_manifests
from exactile.settings import SegmentSettings

ROOT = Path(__file__).parents[2]


def options(command: str = "segment") -> set[str]:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return {p.opts[0].removeprefix("--") for p in commands[command].params}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def in_plugin_json() -> set[str]:
    manifest = json.loads(text("plugin.json"))
    inputs = {entry["name"] for entry in manifest["inputs"]}
    forms = {entry["key"].removeprefix("inputs.") for entry in manifest["ui"]}
    return (inputs & forms) | {entry["name"] for entry in manifest["outputs"]}


def in_ict_yaml() -> set[str]:
    description = yaml.safe_load(text("ict.yaml"))
    inputs = {entry["name"] for entry in description["inputs"]}
    forms = {entry["key"].removeprefix("inputs.") for entry in description["ui"]}
    return (inputs & forms) | {entry["name"] for entry in description["outputs"]}


def in_cwl() -> set[str]:
    tool = yaml.safe_load(text("exactile.cwl"))
    prefixes = {entry["inputBinding"]["prefix"] for entry in tool["inputs"].values()}
    return {prefix.removeprefix("--") for prefix in prefixes}


def arguments_of_argo(step: str) -> dict[str, str]:
    template = yaml.safe_load(text("argo/exactile.yaml"))
    [found] = [entry for entry in template["spec"]["templates"] if entry["name"] == step]
    words = found["container"]["args"]
    return {
        name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }


def in_argo() -> set[str]:
    return set(arguments_of_argo("segment"))


def in_readme() -> set[str]:
    return set(re.findall(r"^\| `--(\w+)`", text("README.md"), flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "mentioned"),
    [
        ("plugin.json", in_plugin_json),
        ("ict.yaml", in_ict_yaml),
        ("exactile.cwl", in_cwl),
        ("argo/exactile.yaml", in_argo),
        ("README.md", in_readme),
    ],
)
def test_every_option_of_segment_is_in_every_manifest(
    name: str, mentioned: Callable[[], set[str]]
) -> None:
    there = mentioned()
    assert options() - there == set(), f"{name} has forgotten an option of exactile segment"
    assert there - options() == set(), f"{name} has an option that exactile segment does not have"


@pytest.mark.parametrize("name", FILES)
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    assert text(name) == FILES[name](), f"{name}: run python -m exactile.manifests"


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    assert {path.relative_to(tmp_path).as_posix() for path in write_manifests(tmp_path)} == set(
        FILES
    )
    assert write_manifests(tmp_path) == []


@pytest.mark.parametrize("command", ["segment", "statistics", "assemble"])
def test_argo_calls_a_command_with_its_own_options(command: str) -> None:
    known = options(command)
    assert set(arguments_of_argo(command)) <= known


def test_argo_gives_each_option_by_its_own_parameter_or_by_itself() -> None:
    template = yaml.safe_load(text("argo/exactile.yaml"))
    parameters = {entry["name"] for entry in template["spec"]["arguments"]["parameters"]}
    for name, value in arguments_of_argo("segment").items():
        if name in GIVEN:
            assert name not in parameters
        else:
            assert value == f"{{{{workflow.parameters.{name}}}}}"


def test_values_that_argo_starts_with_are_the_defaults() -> None:
    template = yaml.safe_load(text("argo/exactile.yaml"))
    values = {e["name"]: e["value"] for e in template["spec"]["arguments"]["parameters"]}
    given = {o.name: values[o.name] for o in described_options() if o.name in values}
    folders = {"inpDir": "a", "outDir": "b"}
    given["preview"] = False  # the command line reads the text
    assert SegmentSettings.from_options(folders | given) == SegmentSettings.from_options(folders)


def test_a_setting_without_words_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "OPTIONS", described.OPTIONS[:-1])
    with pytest.raises(DriftError, match=r"no entry for the setting preview"):
        described_options()


def test_words_without_a_setting_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, FieldInfo] = dict(SegmentSettings.model_fields)
    del fields["verify"]
    monkeypatch.setattr(SegmentSettings, "__pydantic_fields__", fields)
    with pytest.raises(DriftError, match=r"an entry for verify, which is no setting"):
        described_options()
