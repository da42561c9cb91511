from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from partition_cases import Case, compared, whole_pass
from partition_networks import Chain
from partition_ranks import Ranks

numbers = st.integers


@st.composite
def layers(draw: st.DrawFn) -> str:
    kernel, stride = draw(numbers(1, 5)), draw(numbers(1, 3))
    dilation = draw(numbers(1, 3))
    padding = draw(numbers(0, kernel // 2))
    extra = draw(numbers(0, stride - 1))
    window = f"{kernel}, {stride}, {padding}"
    ceil, inside = draw(st.booleans()), draw(st.booleans())
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    factor = draw(st.sampled_from([2, 3, 1.7, 0.6]))
    corners = draw(st.booleans())
    return draw(
        st.sampled_from(
            [
                f"nn.Conv2d(2, 2, {window}, {dilation}, padding_mode={mode!r})",
                f"+nn.Conv2d(2, 2, {kernel}, padding='same', dilation={dilation})",
                f"nn.ConvTranspose2d(2, 2, {window}, {extra}, dilation={dilation})",
                f"nn.MaxPool2d({window}, ceil_mode={ceil})",
                f"nn.AvgPool2d({window}, {ceil}, {inside})",
                f"nn.Upsample(scale_factor={factor}, mode='bilinear', align_corners={corners})",
                f"nn.Upsample(scale_factor={factor}, mode='nearest')",
                "nn.InstanceNorm2d(2, affine=True)",
                "nn.GroupNorm(1, 2)",
                "nn.Sequential(nn.BatchNorm2d(2), nn.GELU())",
                "+nn.AdaptiveAvgPool2d(1)",
                "nn.AdaptiveMaxPool2d((None, None))",
                "nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2))",
                "nn.ReLU(inplace=True)",
            ]
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    network = Chain("nn.Conv2d(1, 2, 1)", *draw(st.lists(layers(), min_size=1, max_size=5)))
    extent = draw(numbers(5, 24)), draw(numbers(5, 24))
    mesh = draw(st.sampled_from([(1,), (2,), (3,), (4,), (2, 1), (4, 1), (2, 2)]))
    cuts = []
    for side, parts in zip(extent[-len(mesh) :], mesh, strict=True):
        inner = sorted(draw(st.lists(numbers(0, side), min_size=parts - 1, max_size=parts - 1)))
        cuts.append((0, *inner, side))
    return Case(network, extent, mesh, tuple(cuts), training=True)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
@given(case=cases())
def test_any_chain_of_layers_gives_the_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    try:
        expected = whole_pass(case)
    except (RuntimeError, ValueError):
        # Windows larger than the image, paddings larger than half the window.
        assume(False)
    assume(float(expected.output.abs().max()) < 1e6)
    assert max(compared(ranks, case, expected).values()) < 1e-11
