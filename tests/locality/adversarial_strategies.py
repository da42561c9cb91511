"""Random networks that would deceive a tracing: honest ones with a place or two that are not."""

from __future__ import annotations

from adversarial import Recipe
from adversarial_networks import BY_NUMBERS, BY_PIXELS, EFFECTS, STATES
from hypothesis import strategies as st

ROWS, COLUMNS = "x.size(2)", "x.size(3)"

HONEST = (
    "y = torch.relu(self.b(y))",
    "y = self.n(y)",
    "y = F.pad(y, [0, -y.size(3) % 8, 0, -y.size(2) % 8])[:, :, : x.size(2), : x.size(3)]",
    "y = y + F.interpolate(F.max_pool2d(y, 2, 2, 0, 1, True), size=[y.size(2), y.size(3)])",
    "y = F.layer_norm(y.permute(0, 2, 3, 1), [4]).permute(0, 3, 1, 2)",
    "y = self.b(F.pad(y, [2, 2, 2, 2], mode='reflect'))[:, :, 2:-2, 2:-2]",
    "y = F.avg_pool2d(y, 3, 1, 1)",
)
"""What honest networks do."""

NUMBERS = st.integers(60, 420)
SIDES = st.sampled_from((ROWS, COLUMNS, "x.shape[-1]", "y.size(2)", "len(x[0, 0])", "x.stride(2)"))


@st.composite
def looks(draw: st.DrawFn) -> str:
    """A look at the size, true for some sizes."""
    side, other, number = draw(SIDES), draw(SIDES), draw(NUMBERS)
    return draw(
        st.sampled_from(
            (
                f"{side} > {number}",
                f"{side} + {other} > {2 * number}",
                f"{side} * {other} > {number * number}",
                f"{side} % {2 + number % 11} == {number % 2}",
                f"{side} // {number} == 1",
                f"{side} > {other}",
                f"x.numel() > {number * number}",
                f"{side} == {other}",
            )
        )
    )


@st.composite
def amounts(draw: st.DrawFn) -> str:
    """A small whole number that follows from the size."""
    side, number = draw(SIDES), draw(NUMBERS)
    return draw(
        st.sampled_from(
            (f"({side} // {number})", f"({side} % {1 + number % 4})", f"int({side} > {number})")
        )
    )


@st.composite
def by_amounts(draw: st.DrawFn) -> tuple[str, ...]:
    """What a number that follows from the size can be used for."""
    n = draw(amounts())
    return draw(
        st.sampled_from(
            (
                (f"y = y * float(1 + {n})",),
                (f"y = F.pad(y, [{n}, -{n}, 0, 0])",),
                (f"y = F.pad(y, [0, 0, {n}, -{n}])",),
                (f"y = self.b(F.pad(y, [0, 0, 0, {n}]))[:, :, : x.size(2)]",),
                (f"y = F.conv2d(y, self.b.weight, None, 1, 1 + {n}, 1 + {n})",),
                (f"y = y * self.table[{n}]",),
                (f"y = y + torch.ones(1 + {n}).sum()",),
                (f"y = y + torch.tensor(float({n}))",),
                (f"y = y.repeat(1, 1 + {n}, 1, 1).unflatten(1, (1 + {n}, 4)).sum(1)",),
                (f"y = torch.roll(y, {n}, 1)",),
                (f"for i in range({n}):", "    y = torch.tanh(y)"),
                (f"y = F.interpolate(F.max_pool2d(y, 1 + {n}), size=[x.size(2), x.size(3)])",),
                (f"y = y[:, :, {n}:]", f"y = F.pad(y, [0, 0, 0, {n}])"),
            )
        )
    )


@st.composite
def deceiving(draw: st.DrawFn) -> tuple[str, ...]:
    """Lines that make a network depend on its size or on pixels far away."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(by_amounts())
    if kind == 1:
        return (draw(st.sampled_from((*BY_PIXELS, *BY_NUMBERS))),)
    return (f"if {draw(looks())}:", f"    {draw(st.sampled_from(EFFECTS))}")


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A network that is honest but for one or two places, or that keeps a state."""
    honest = st.sampled_from(HONEST).map(lambda line: (line,))
    before, after = draw(st.lists(honest, max_size=2)), draw(st.lists(honest, max_size=1))
    if draw(st.integers(0, 9)) == 0:
        state = draw(st.sampled_from(list(STATES.values())))
        lines = (*sum(before, ()), *state.forward, *sum(after, ()))
        return Recipe(lines, state.init, state.methods, state.before)
    middle = draw(st.lists(deceiving(), min_size=1, max_size=2))
    return Recipe(sum((*before, *middle, *after), ()))
