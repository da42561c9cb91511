"""Which one of a network's outputs is segmented."""

from __future__ import annotations

from collections.abc import Sequence

from exactile.errors import ModelError
from exactile.models.network_file import NetworkFile

NAMES_SHOWN = 12
"""How many outputs a refusal names."""


def place_of(
    names: Sequence[str], output: str | None, what: str, returned: str, *, more: bool = False
) -> int:
    """Return which of the outputs called `names` is segmented: the only one, or `output`.

    `output` is a name, or a place from 0. `what` is the file, and `returned` its outputs in words.
    There may be `more` outputs, whose names are not known.

    Raises:
        ModelError: if there are several and none is said, or there is no such output.
    """
    if output is None:
        if len(names) == 1 and not more:
            return 0
        if not names:
            raise ModelError(
                f"{what}: returns {returned}, but one tensor is segmented; say which with --output "
                "PLACE or NAME, or wrap it so that it returns the one you want"
            )
        raise ModelError(
            f"{what}: returns {returned}, but one tensor is segmented; say which with --output "
            f"NAME, such as --output {names[0]}"
        )
    if output in names:
        return list(names).index(output)
    if output.isdecimal() and int(output) < len(names):
        return int(output)
    raise ModelError(
        f"--output {output}: {what} has no such output; it returns {returned}: use one of "
        f"{listed(names)}"
    )


def listed(names: Sequence[str]) -> str:
    """Return the names of outputs, the first ones of very many."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def the_only_output(file: NetworkFile, output: str | None) -> NetworkFile:
    """Return `file`, whose network has one output, which is the one that may be asked for.

    Raises:
        ModelError: if another one is.
    """
    if output not in (None, "0", file.output):
        raise ModelError(
            f"--output {output}: {file.name} returns one tensor, which is taken without being "
            "asked for: leave --output out"
        )
    return file
