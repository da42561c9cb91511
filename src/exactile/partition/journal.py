"""What is exchanged, by which operator of which module: counted, and named in messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from exactile.locality.modulepath import ModulePath


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one rank received for one call of an operator."""

    module: str
    """Path and class of the innermost module that called it."""
    operator: str
    """Name of the operator; `backward of ...` on the way back."""
    received: int
    """Bytes from other ranks."""
    messages: int
    """Messages from other ranks."""


@dataclass
class Journal:
    """What runs now, and what was exchanged so far."""

    path: ModulePath = field(default_factory=lambda: ModulePath({}))
    """The module that is running."""
    operator: str = ""
    """The operator that is running."""
    earlier: tuple[str, str] | None = None
    """On the way back, the module and operator whose gradient is computed."""
    exchanges: list[Exchange] = field(default_factory=list)
    """Exchanges between neighbours, in order; reductions are not among them."""

    @property
    def place(self) -> tuple[str, str]:
        """Module and operator that are running."""
        return self.earlier or (self.path.current, self.operator)

    @contextmanager
    def back_at(self, place: tuple[str, str]) -> Iterator[None]:
        """Take what runs inside for the way back of `place`."""
        module, operator = place
        before, self.earlier = self.earlier, (module, f"backward of {operator}")
        try:
            yield
        finally:
            self.earlier = before

    def add(self, received: int, messages: int) -> None:
        """Note one exchange; several in a row of the same call are added up."""
        place = self.place
        last = self.exchanges[-1] if self.exchanges else None
        if last is not None and (last.module, last.operator) == place:
            received, messages = received + last.received, messages + last.messages
            self.exchanges.pop()
        self.exchanges.append(Exchange(*place, received, messages))
