"""Manifests as text: the same bytes for the same content."""

from __future__ import annotations

import json
from typing import Any

import yaml

WIDTH = 88
"""Lines are broken after the word that passes it."""


class _Indented(yaml.SafeDumper):
    """Lists are indented below their key, as people write them, and nothing is an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(content: Any, header: str = "") -> str:
    """Return `content` as YAML in its own order, after `header` as comment lines."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    body = yaml.dump(content, Dumper=_Indented, sort_keys=False, width=WIDTH, allow_unicode=True)
    return comment + body


def to_json(content: Any) -> str:
    """Return `content` as JSON in its own order, indented by two."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
