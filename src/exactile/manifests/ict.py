"""ict.yaml and ict-cuda.yaml: the descriptions of an Image Computing Tool (ICT).

Its kinds are string, number, array, boolean and path; `format` says what the value is, in WIPP's
words. Defaults are given in `ui` only: the type that the schema has for a defaultValue, "any", is
none that validators know.
"""

from __future__ import annotations

from typing import Any, assert_never

from exactile import __version__
from exactile.manifests import facts
from exactile.manifests.described import Described, described_options
from exactile.manifests.text import to_yaml
from exactile.manifests.wipp import COLLECTIONS

SPECIFICATION = "0.1.0"


def ict_yaml(*, cuda: bool = False) -> str:
    """Return the text of ict.yaml, or of that for the image with `cuda`."""
    options = described_options()
    inputs = [option for option in options if option.role != "results"]
    outputs = [option for option in options if option.role == "results"]
    description = {
        "specVersion": SPECIFICATION,
        "name": facts.NAME + "-cuda" * cuda,
        "version": __version__,
        "container": facts.CUDA_CONTAINER if cuda else facts.CONTAINER,
        "entrypoint": " ".join(facts.ENTRYPOINT),
        "title": facts.TITLE + " (GPU)" * cuda,
        "description": facts.DESCRIPTION,
        "author": [facts.AUTHOR_OF_TWO_WORDS],
        "contact": facts.HOME,
        "repository": facts.HOME,
        "citation": facts.DOI,
        "inputs": [_value(option) for option in inputs],
        "outputs": [_value(option) for option in outputs],
        "ui": [_field(option) for option in inputs],
        "hardware": {
            "cpu": {"min": str(facts.CORES)},
            "memory": {"min": f"{facts.MEMORY_MIB}Mi"},
            "gpu": {"enabled": cuda, "required": False} | ({"type": "cuda"} if cuda else {}),
        },
    }
    return to_yaml(description, facts.GENERATED)


def _value(option: Described) -> dict[str, Any]:
    kind, form = _kind_and_format(option)
    return {
        "name": option.name,
        "type": kind,
        "description": option.words.description,
        "required": option.required,
        "format": [form],
    }


def _kind_and_format(option: Described) -> tuple[str, str]:
    match option.kind:
        case "path":
            assert option.role is not None, "a path has a role"
            return "path", COLLECTIONS[option.role]
        case "flag":
            return "boolean", "boolean"
        case "choice":
            return "string", "enum"
        case "number":
            return "number", "integer"
        case "text":
            return "string", "string"
        case _:
            assert_never(option.kind)


def _field(option: Described) -> dict[str, Any]:
    field: dict[str, Any] = {
        "key": f"inputs.{option.name}",
        "title": option.words.title,
        "description": option.words.hint,
    }
    match option.kind:
        case "path":
            return field | {"type": "path"}
        case "flag":
            return field | {"type": "checkbox", "default": option.default}
        case "choice":
            return field | {"type": "select", "fields": list(option.choices)}
        case "number":
            return field | {"type": "number", "integer": True, "default": option.default}
        case "text":
            default = {} if option.default is None else {"default": option.default}
            return field | {"type": "text"} | default
        case _:
            assert_never(option.kind)
