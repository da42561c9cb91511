"""An option as the manifests need it: the words of the table with the facts of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from exactile.manifests.options import OPTIONS, Option, Role
from exactile.settings import SegmentSettings

Kind = Literal["path", "flag", "number", "choice", "text"]


class DriftError(Exception):
    """The table of options is not that of the settings; the message names what is missing."""


@dataclass(frozen=True)
class Described:
    """One option of `exactile segment`, with all that a manifest may say about it."""

    words: Option
    """The entry of the table."""
    kind: Kind
    """What its value is."""
    required: bool
    """Whether a run needs it."""
    default: str | int | bool | None
    """What is taken where it is absent, as it would be given; None where that has no text."""
    choices: tuple[str, ...] = ()
    """The values there are, of a choice."""

    @property
    def name(self) -> str:
        """Return the option's name, without the dashes."""
        return self.words.name

    @property
    def role(self) -> Role | None:
        """Return what the path leads to; None for what is no path."""
        return self.words.role


def described_options() -> tuple[Described, ...]:
    """Return all options of `exactile segment`, in the order of the table.

    Raises:
        DriftError: if a setting has no entry in the table, or an entry no setting.
    """
    fields = {
        alias: field
        for name, field in SegmentSettings.model_fields.items()
        if not (alias := field.alias or name).isupper()  # those are environment variables
    }
    named = [option.name for option in OPTIONS]
    if missing := [name for name in fields if name not in named]:
        raise DriftError(
            f"exactile/manifests/options.py has no entry for the setting {', '.join(missing)}: "
            "add one, and write the manifests again with python -m exactile.manifests"
        )
    if foreign := [name for name in named if name not in fields]:
        raise DriftError(
            f"exactile/manifests/options.py has an entry for {', '.join(foreign)}, which is no "
            "setting: remove it, or add the field to exactile/settings.py"
        )
    return tuple(_describe(option, fields[option.name]) for option in OPTIONS)


def _describe(option: Option, field: FieldInfo) -> Described:
    kinds = _alternatives(field.annotation)
    if (Path in kinds) != (option.role is not None):
        raise DriftError(
            f"exactile/manifests/options.py: {option.name} is {'a' if Path in kinds else 'no'} "
            "path in the settings: its role must say what it leads to, and only there"
        )
    default = None if field.is_required() or isinstance(field.default, Path) else field.default
    literals = tuple(
        str(v) for kind in kinds if get_origin(kind) is Literal for v in get_args(kind)
    )
    kind: Kind
    if option.role:
        kind = "path"
    elif kinds == (bool,):
        kind = "flag"
    elif kinds == (int,) and default is not None:
        kind = "number"
    elif all(get_origin(kind) is Literal for kind in kinds):
        return Described(option, "choice", field.is_required(), default, literals)
    else:
        kind = "text"
    return Described(option, kind, field.is_required(), default)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a field may have, without None."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for kind in get_args(annotation) if kind is not type(None))
    return (annotation,)
