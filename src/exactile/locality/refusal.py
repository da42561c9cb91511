"""Why a network has no locality: the operator, the module and the reason."""

from __future__ import annotations

from dataclasses import dataclass

from exactile.errors import ModelError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One operator that keeps a network from being run in exact tiles."""

    operator: str
    """Name of the ATen operator, such as `aten.mean`."""
    module: str
    """Path of the innermost module that called it, with its class; `model` is the network."""
    reason: str
    """Which rule it breaks and what to do instead, one sentence."""

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}: {self.reason}"


class NotLocal(ModelError):  # noqa: N818 - a verdict on the network, named like `Locality`
    """The network's output depends on more than a bounded neighbourhood, or may do so."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        self.refusals = refusals
        super().__init__(
            "this network cannot be run in exact tiles: " + "; ".join(map(str, refusals))
        )


class KeepsState(ModelError):  # noqa: N818 - a verdict on the network
    """A pass of the network may depend on those before it: it is not run in any way."""


class Refused(Exception):  # noqa: N818 - carries a reason from a rule to the tracer
    """A rule's refusal of one call; the tracer adds the operator and the module."""

    def __init__(self, reason: str, *, uneven: bool = False, operator: str | None = None) -> None:
        self.reason = reason
        self.uneven = uneven
        """The extents tried may be at fault: they do not divide by the network's strides."""
        self.operator = operator
        """The operator to name, where the call is only a part of it."""
        super().__init__(reason)
