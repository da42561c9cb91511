"""Every way to depend on the whole image is refused, with the operator, the module and a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from locality_brute import Function, single_thread  # noqa: F401
from torch import nn

from exactile.errors import ModelError
from exactile.locality import NotLocal, analyze


class Block(nn.Module):
    """The offender one level down, so that its path must be found."""

    def __init__(self, offender: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.before = nn.Conv2d(1, channels, 3, padding=1)
        self.offender = offender
        self.after = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.offender(self.before(x)))


def of(function: Callable[..., torch.Tensor], *parts: nn.Module) -> nn.Module:
    return Function(function, *parts)


def attention(x: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    scores = (tokens @ tokens.transpose(1, 2)).softmax(-1)
    return (scores @ tokens).transpose(1, 2).reshape(x.shape)


def fused_attention(x: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2)[:, None].contiguous()
    mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return mixed[:, 0].transpose(1, 2).reshape(x.shape)


def shifted_windows(x: torch.Tensor) -> torch.Tensor:
    side, (rows, columns) = 4, (x.shape[2] // 4, x.shape[3] // 4)
    parts = x.roll((-2, -2), (2, 3)).view(1, -1, rows, side, columns, side)
    tokens = parts.permute(0, 2, 4, 3, 5, 1).reshape(rows * columns, side * side, -1)
    mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
    back = mixed.reshape(1, rows, columns, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return back.reshape(x.shape).roll((2, 2), (2, 3))


def grid(x: torch.Tensor) -> torch.Tensor:
    rows = torch.linspace(-1, 1, x.shape[2])[:, None]
    return x + rows.expand(x.shape[2:])


def masked(x: torch.Tensor) -> torch.Tensor:
    return x * (2.0 if bool(x.sum(1).sum() > 0) else 1.0)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    return values + indices


REFUSED: dict[str, tuple[nn.Module, str, str]] = {
    "instance norm": (nn.InstanceNorm2d(4), "aten.native_batch_norm", "statistics of the image"),
    "group norm": (nn.GroupNorm(2, 4), "aten.native_group_norm", "group norm"),
    "batch norm without stored statistics": (
        nn.BatchNorm2d(4, track_running_stats=False),
        "aten.native_batch_norm",
        "statistics of the image",
    ),
    "layer norm over space": (nn.LayerNorm([4, 64, 64]), "aten.native_layer_norm", "any size"),
    "global average pooling": (
        of(lambda x: x * F.adaptive_avg_pool2d(x, 1)),
        "aten.mean",
        "global pooling",
    ),
    "global maximum": (of(lambda x: x - x.amax((2, 3), True)), "aten.amax", "global pooling"),
    "squeeze and excitation": (
        of(
            lambda x, a, b: x * torch.sigmoid(b(F.relu(a(F.adaptive_avg_pool2d(x, 1))))),
            nn.Conv2d(4, 2, 1),
            nn.Conv2d(2, 4, 1),
        ),
        "aten.mean",
        "squeeze-and-excitation",
    ),
    "pooling to a fixed size": (
        of(lambda x: F.interpolate(F.adaptive_avg_pool2d(x, 7), size=x.shape[2:])),
        "aten._adaptive_avg_pool2d",
        "any size",
    ),
    "resizing to a fixed size": (
        of(lambda x: F.interpolate(F.interpolate(x, size=(32, 32)), size=x.shape[2:])),
        "aten.upsample_nearest2d",
        "constant scale",
    ),
    "attention over positions": (of(attention), "aten.bmm", "attention over all positions"),
    "fused attention": (
        of(fused_attention),
        "aten._scaled_dot_product_flash_attention_for_cpu",
        "attention over all positions",
    ),
    "softmax over positions": (
        of(lambda x: x.flatten(2).softmax(-1).view(x.shape)),
        "aten._softmax",
        "softmax over all positions",
    ),
    "spatial standard deviation": (
        of(lambda x: x / x.std((2, 3), keepdim=True)),
        "aten.std",
        "all positions",
    ),
    "running sum": (of(lambda x: x.cumsum(3)), "aten.cumsum", "all positions"),
    "aligned corners": (
        nn.Sequential(nn.MaxPool2d(2), nn.UpsamplingBilinear2d(scale_factor=2)),
        "aten.upsample_bilinear2d",
        "align_corners=False",
    ),
    "Fourier transform": (
        of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x))),
        "aten._fft_r2c",
        "Fourier",
    ),
    "circular padding": (
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        "aten._pad_circular",
        "circular padding",
    ),
    "scripted circular padding": (
        torch.jit.script(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
        "aten._pad_circular",
        "opposite edge",
    ),
    "roll": (of(lambda x: x.roll(1, 2)), "aten.roll", "around the end"),
    "shifted windows": (of(shifted_windows), "aten.roll", "windows that are not shifted"),
    "flip": (of(lambda x: x.flip(2)), "aten.flip", "grows with the image"),
    "coordinates": (of(grid), "aten.add", "absolute position"),
    "positional embedding": (
        of(lambda x: x + torch.ones(4, 64, 64).cumsum(1)),
        "aten.add",
        "any size",
    ),
    "division by the size": (of(lambda x: x / x.shape[2]), "aten.div", "image's size"),
    "a decision on the data": (of(masked), "aten._local_scalar_dense", "reads values"),
    "a shape from the data": (
        of(lambda x: x.flatten(2)[:, :, x.flatten()[:4096] > 0]),
        "aten.index",
        "reads values",
    ),
    "random numbers": (of(lambda x: x + torch.rand_like(x)), "aten.rand_like", "random"),
    "pooling indices as numbers": (of(shuffled), "aten.add", "indices of a max-pooling"),
    "sampling by coordinates": (
        of(lambda x: F.grid_sample(x, torch.zeros(1, 64, 64, 2), align_corners=False)),
        "aten.grid_sampler_2d",
        "no bound",
    ),
    "an operator without a rule": (
        of(lambda x: torch.special.gammaln(x).renorm(2, 1, 1.0)),
        "aten.renorm",
        "no rule",
    ),
    "weights from the image": (
        of(lambda x: F.conv2d(x, x[:, :, :3, :3].transpose(0, 1) * torch.ones(1, 4, 1, 1))),
        "aten.convolution",
        "computed from the image",
    ),
    "a bias from the image": (
        of(lambda x: F.conv2d(x, torch.ones(4, 4, 1, 1), x[0, :, 0, 0])),
        "aten.convolution",
        "its bias depends on the image",
    ),
    "a mean from the image": (
        of(lambda x: F.batch_norm(x, x[0, :, 0, 0], torch.ones(4))),
        "aten.native_batch_norm",
        "what it depends on grows with the image",
    ),
    "a scale from the image": (
        of(
            lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), x[0, :, 0, 0].relu()).permute(
                0, 3, 1, 2
            )
        ),
        "aten.native_layer_norm",
        "what it depends on grows with the image",
    ),
    "flattened linear layer": (
        nn.Sequential(nn.Flatten(), nn.Linear(4 * 64 * 64, 4 * 64), nn.Unflatten(1, (4, 8, 8))),
        "aten.addmm",
        "flattened image",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_dependency_on_the_whole_image_is_refused_by_name(name: str) -> None:
    offender, operator, reason = REFUSED[name]
    with pytest.raises(NotLocal) as refused:
        analyze(Block(offender), 1)
    found = {refusal.operator: refusal for refusal in refused.value.refusals}
    assert operator in found, refused.value
    assert reason in found[operator].reason
    assert "offender" in found[operator].module
    assert operator in str(refused.value)


@pytest.mark.parametrize("name", ["squeeze and excitation", "shifted windows", "instance norm"])
def test_the_cause_comes_before_what_follows_from_it(name: str) -> None:
    offender, operator, _ = REFUSED[name]
    with pytest.raises(NotLocal) as refused:
        analyze(Block(offender), 1)
    assert refused.value.refusals[0].operator == operator


def test_all_offenders_are_listed_once_each() -> None:
    network = nn.Sequential(nn.InstanceNorm2d(1), nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2))
    with pytest.raises(NotLocal) as refused:
        analyze(network, 1)
    assert [(r.operator, r.module) for r in refused.value.refusals] == [
        ("aten.native_batch_norm", "0 (InstanceNorm2d)"),
        ("aten.native_group_norm", "2 (GroupNorm)"),
    ]


class Decision(nn.Module):
    """Looks at its values before it goes on; scripted, the decision is compiled in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x[0, 0, 0, 0] > 0):
            return x * 2
        return x


def test_a_scripted_module_is_refused_like_an_eager_one() -> None:
    for module in (Decision(), torch.jit.script(Decision())):
        with pytest.raises(NotLocal) as refused:
            analyze(module, 1)
        assert "reads values" in refused.value.refusals[0].reason
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)).eval())
    with pytest.raises(NotLocal) as refused:
        analyze(scripted, 1)
    assert refused.value.refusals[0].operator == "aten.native_batch_norm"


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, -1, 8, x.shape[2] // 8, x.shape[3]).sum(2).repeat(1, 1, 8, 1) + x


def test_a_graph_traced_at_one_size_is_refused() -> None:
    traced = torch.jit.trace(Fixed(), torch.zeros(1, 1, 64, 64))
    with pytest.raises(NotLocal):
        analyze(traced, 1)


def test_wrong_channels_are_an_error_and_no_verdict() -> None:
    with pytest.raises(ModelError, match="1 channel") as raised:
        analyze(nn.Conv2d(3, 1, 3), 1)
    assert not isinstance(raised.value, NotLocal)


def test_swapped_axes_are_refused() -> None:
    with pytest.raises(NotLocal, match=r"aten\.transpose.*no period"):
        analyze(Function(lambda x: x.transpose(2, 3)), 1)


def test_several_outputs_are_an_error() -> None:
    with pytest.raises(ModelError, match="2 tensors"):
        analyze(Function(lambda x: (x, x)), 1)  # type: ignore[arg-type,return-value]


def test_an_output_without_the_image_axes_is_refused() -> None:
    with pytest.raises(NotLocal, match="without one position"):
        analyze(Function(lambda x: x.sum(1)), 1)
    with pytest.raises(NotLocal, match="does not depend on the image"):
        analyze(Function(torch.zeros_like), 1)


def test_what_comes_after_a_refusal_does_not_end_in_a_defect() -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        return torch.quantile(x.flatten(), 0.5) + x

    with pytest.raises(NotLocal):
        analyze(Function(shifted), 1)
