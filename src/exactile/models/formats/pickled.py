"""What a pickle would do, from its operations alone: nothing in it is ever executed."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

HARMLESS = ("collections", "torch", "torch._utils", "torch._tensor", "torch.serialization")
"""Modules that the pickle of a state dict takes its constructors from."""

STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


@dataclass(frozen=True, slots=True)
class Pickle:
    """What a file holds that `torch.save` or `pickle.dump` wrote."""

    classes: tuple[str, ...]
    """Whatever else than tensors and plain containers it would construct or call."""
    complete: bool
    """Whether it was read to its end."""


def inspect(content: bytes) -> Pickle:
    """Return what the pickles at the start of `content` would construct.

    A file of torch before 1.6 holds several, and the bytes of its tensors after them.
    """
    found: dict[str, None] = {}
    position, complete = 0, False
    while position < len(content) and content[position : position + 1] == b"\x80":
        strings: list[str] = []
        length = 0
        try:
            for operation, argument, at in pickletools.genops(content[position:]):
                length = (at or 0) + 1
                if operation.name in STRINGS:
                    strings.append(str(argument))
                elif operation.name == "GLOBAL":
                    found[str(argument)] = None
                elif operation.name == "STACK_GLOBAL" and len(strings) > 1:
                    found[f"{strings[-2]} {strings[-1]}"] = None
        except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
            # The bytes of tensors, or a file that ends too early.
            break
        complete = True
        position += length
    classes = (name.rpartition(" ")[::2] for name in found)
    return Pickle(
        tuple(f"{module}.{name}" for module, name in classes if module not in HARMLESS), complete
    )
