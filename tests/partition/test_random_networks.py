"""Networks that nobody thought of: chains and branches of any layers, on one to three axes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from partition_cases import Case, compared, whole_pass
from partition_networks import Chain
from partition_ranks import Ranks

numbers = st.integers
EXTENTS = {1: (5, 48), 2: (5, 24), 3: (4, 11)}
"""Least and greatest extents of images by their number of axes."""
MESHES = {
    1: [(1,), (2,), (3,), (4,)],
    2: [(1,), (2,), (3,), (4,), (2, 1), (4, 1), (1, 3), (2, 2)],
    3: [(2,), (3, 1), (2, 2), (4, 1, 1), (2, 1, 2), (1, 2, 2), (3, 1, 1)],
}
EIGHT = {1: [(8,)], 2: [(8, 1), (2, 4), (7,)], 3: [(2, 2, 2), (2, 4), (1, 2, 3), (8, 1, 1)]}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@st.composite
def layers(draw: st.DrawFn, axes: int) -> str:
    """A layer that gives as many channels as it gets, which are two."""
    kernel, stride = draw(numbers(1, 5)), draw(numbers(1, 3))
    dilation = draw(numbers(1, 3))
    padding = draw(numbers(0, kernel // 2))
    wide = draw(numbers(0, 7))
    extra = draw(numbers(0, stride - 1))
    groups = draw(st.sampled_from([1, 2]))
    window = f"{kernel}, {stride}, {padding}"
    ceil, inside = draw(st.booleans()), draw(st.booleans())
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    factor = draw(st.sampled_from([2, 3, 1.7, 0.6]))
    corners = draw(st.booleans())
    sides = tuple(draw(numbers(0, 3)) for _ in range(2 * axes))
    n = f"{axes}d"
    choices = [
        f"nn.Conv{n}(2, 2, {window}, {dilation}, {groups}, padding_mode={mode!r})",
        f"nn.Conv{n}(2, 2, {kernel}, {stride}, {wide}, {dilation})",
        f"+nn.Conv{n}(2, 2, {kernel}, padding='same', dilation={dilation}, padding_mode={mode!r})",
        f"nn.ConvTranspose{n}(2, 2, {window}, {extra}, {groups}, dilation={dilation})",
        f"nn.MaxPool{n}({window}, ceil_mode={ceil})",
        f"nn.AvgPool{n}({window}, {ceil}, {inside})",
        f"nn.Upsample(scale_factor={factor}, mode={LINEAR[axes]!r}, align_corners={corners})",
        f"nn.Upsample(scale_factor={factor}, mode='nearest')",
        f"nn.InstanceNorm{n}(2, affine=True)",
        "nn.GroupNorm(1, 2)",
        f"nn.Sequential(nn.BatchNorm{n}(2), nn.GELU())",
        f"+nn.AdaptiveAvgPool{n}(1)",
        f"nn.ReplicationPad{n}({sides})",
        f"nn.ReflectionPad{n}({sides})",
        f"nn.ConstantPad{n}({sides}, 0.5)",
        "Shortened()",
        "nn.ReLU(inplace=True)",
    ]
    if axes == 2:
        choices.append("nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2))")
        choices.append("nn.AdaptiveMaxPool2d((None, None))")
    return draw(st.sampled_from(choices))


@st.composite
def blocks(draw: st.DrawFn, axes: int, deep: int) -> str:
    """A layer, or branches of layers that are joined."""
    if deep == 0 or draw(numbers(0, 2)):
        return draw(layers(axes))
    how = draw(st.sampled_from(["add", "times", "cat"]))
    branches = [
        f"Chain({', '.join(map(repr, draw(st.lists(blocks(axes, deep - 1), max_size=2))))})"
        for _ in range(draw(numbers(2, 3)))
    ]
    joined = f"Joined({how!r}, {', '.join(branches)})"
    # One more convolution brings what is side by side back to two channels.
    channels = 2 * len(branches)
    mixed = f"nn.Sequential({joined}, nn.Conv{axes}d({channels}, 2, 1))"
    return mixed if how == "cat" else joined


@st.composite
def cases(draw: st.DrawFn, meshes: dict[int, list[tuple[int, ...]]]) -> Case:
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    body = draw(st.lists(blocks(axes, 2), min_size=1, max_size=5))
    network = Chain(f"nn.Conv{axes}d(1, 2, 1)", *body)
    extent = tuple(draw(numbers(*EXTENTS[axes])) for _ in range(axes))
    mesh = draw(st.sampled_from(meshes[axes]))
    cuts = []
    for side, parts in zip(extent[-len(mesh) :], mesh, strict=True):
        inner = sorted(draw(st.lists(numbers(0, side), min_size=parts - 1, max_size=parts - 1)))
        cuts.append((0, *inner, side))
    return Case(network, extent, mesh, tuple(cuts), training=True, batch=draw(numbers(1, 2)))


def agrees(ranks: Ranks, case: Case) -> None:
    """Compare forward and backward with one process, where that has an answer."""
    try:
        expected = whole_pass(case)
    except (RuntimeError, ValueError):
        # Windows larger than the image, paddings larger than half the window.
        assume(False)
    assume(expected.output.numel() <= 10**6)
    assume(float(expected.output.abs().max()) < 1e6)
    assert max(compared(ranks, case, expected).values()) < 1e-11


SUPPRESSED = list(HealthCheck)


@settings(max_examples=60, suppress_health_check=SUPPRESSED, derandomize=True)
@given(case=cases(MESHES))
def test_any_network_of_layers_and_branches_gives_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    agrees(ranks, case)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=SUPPRESSED, derandomize=True)
@given(case=cases(MESHES))
def test_many_random_networks_give_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    agrees(ranks, case)


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=SUPPRESSED, derandomize=True)
@given(case=cases(EIGHT))
def test_many_random_networks_on_up_to_eight_ranks_give_those_of_one_process(
    eight_ranks: Ranks, case: Case
) -> None:
    agrees(eight_ranks, case)
