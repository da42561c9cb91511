"""Every rule, called by every signature of its functions, against PyTorch on the whole.

A call is an expression of a plane x (2, 4, 12, 16) and one y like it, a volume z, or a line l,
whose last dimensions are split; of w, which is whole and broadcasts; and of weights k, t, b and r.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from partition_ranks import parts_of
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

from exactile.partition import NotPartitioned, SplitTensor, distribute
from exactile.partition.nested import tensors_in
from exactile.partition.registry import RULES, name_of, takes_all
from exactile.partition.signature import overload_of, overloads_of
from exactile.partition.virtual import VirtualMesh, run_in_turns

SHAPE = (2, 4, 12, 16)

CALLS: dict[str, list[str]] = {
    "permute": [
        "x.permute(0, 2, 3, 1)",
        "x.permute((0, 3, -2, 1))",
        "x.permute(dims=(1, 0, 2, 3))",
        "torch.permute(x, (0, 2, 1, -1))",
    ],
    "transpose": ["x.transpose(1, -1)", "torch.transpose(x, dim0=2, dim1=3)"],
    "swapaxes": ["x.swapaxes(axis0=0, axis1=-2)", "torch.swapaxes(x, 1, 2)"],
    "swapdims": ["x.swapdims(-1, 0)"],
    "movedim": ["x.movedim(1, -1)", "torch.movedim(x, (0, -1), (1, 0))"],
    "moveaxis": [
        "torch.moveaxis(x, 1, 3)",
        "x.moveaxis(source=-1, destination=1)",
        "x.moveaxis((1, 2), (2, 1))",
    ],
    "unsqueeze": ["x.unsqueeze(-1)", "torch.unsqueeze(x, dim=2)", "x.unsqueeze(0)"],
    "squeeze": [
        "x[:, :1].squeeze(1)",
        "x[:1, :1].squeeze((0, -3))",
        "torch.squeeze(x[:1])",
        "x[:, :1].squeeze(dim=-3)",
    ],
    "reshape": [
        "x.reshape(8, 12, 16)",
        "x.reshape((2, 2, 2, 12, -1))",
        "torch.reshape(x, (-1, 12, 16))",
        "x.reshape(shape=[2, 4, 12, 16])",
    ],
    "view": ["x.view(8, 12, 16)", "x.view((2, 2, 2, 12, 16))", "x.view(size=(8, 12, 16))"],
    "flatten": ["x.flatten(0, 1)", "x.flatten(end_dim=-3)", "torch.flatten(x, 0, 1)"],
    "__getitem__": ["x[:, 1]", "x[..., 3:11:2, 1:]", "x[:, None, -1]", "x[0]"],
    "narrow": [
        "x.narrow(1, 1, 2)",
        "x.narrow(-1, -9, 5)",
        "x.narrow(dim=2, start=3, length=8)",
        "x.narrow(2, torch.tensor(3), 8)",
    ],
    "select": ["x.select(1, -1)", "torch.select(x, dim=0, index=1)"],
    "chunk": ["x.chunk(3, 1)", "x.chunk(2, dim=-3)", "x.chunk(chunks=2)"],
    "split": [
        "x.split(3, 1)",
        "x.split([1, 3], dim=-3)",
        "torch.split(x, 1)",
        "x.split(split_size=2, dim=1)",
        "torch.ops.aten.split.default(x, [3, 1], 1)",
    ],
    "unsafe_chunk": ["torch.unsafe_chunk(x, 2, dim=1)"],
    "unsafe_split": ["torch.unsafe_split(x, 3, 1)"],
    "split_with_sizes": ["x.split_with_sizes([1, 3], dim=-3)"],
    "unsafe_split_with_sizes": ["torch.unsafe_split_with_sizes(x, [3, 1], 1)"],
    "unbind": ["x.unbind(1)", "x.unbind()", "torch.unbind(x, dim=-3)"],
    "cumsum": ["x.cumsum(1)", "torch.cumsum(x, dim=-3)", "x.cumsum(0, dtype=torch.float32)"],
    "cumprod": ["x.cumprod(dim=1)", "torch.cumprod(x, -4)"],
    "glu": ["F.glu(x, 1)", "F.glu(x, dim=-3)"],
    "flip": [
        "x.flip(2, 3)",
        "x.flip((1, -1))",
        "x.flip(2)",
        "x.flip([])",
        "torch.flip(x, dims=(-2,))",
        "torch.flip(x, [0, 1, 2, 3])",
    ],
    "fliplr": ["x.fliplr()", "torch.fliplr(x.permute(2, 3, 0, 1))"],
    "flipud": ["x.flipud()", "torch.flipud(x.permute(2, 3, 0, 1))"],
    "rot90": [
        "x.rot90(1, (2, 3))",
        "torch.rot90(x, dims=(3, 2))",
        "x.rot90(-1, [-2, -1])",
        "x.rot90(2, dims=(1, -1))",
        "x.rot90(k=3)",
        "x.rot90(4, (2, 3))",
    ],
    "cat": ["torch.cat([x, y], 1)", "torch.cat((x, y), dim=-3)", "torch.cat(tensors=[x, y])"],
    "concat": ["torch.concat([x, y], dim=1)"],
    "concatenate": ["torch.concatenate((x, y), 1)"],
    "stack": ["torch.stack([x, y])", "torch.stack((x, y), dim=-1)", "torch.stack([x, y], -3)"],
    "expand": [
        "x[:, :1].expand(2, 5, 12, 16)",
        "x[:, :1].expand((-1, 5, -1, -1))",
        "x.expand(size=(3, 2, 4, 12, 16))",
    ],
    "broadcast_to": ["torch.broadcast_to(x[:, :1], (2, 5, 12, 16))"],
    "expand_as": ["x[:, :1].expand_as(y)", "w.expand_as(x)", "x[:1].expand_as(other=x)"],
    "pixel_shuffle": ["F.pixel_shuffle(x, 2)", "torch.pixel_shuffle(x, upscale_factor=2)"],
    "pixel_unshuffle": ["F.pixel_unshuffle(x, 2)", "F.pixel_unshuffle(x, downscale_factor=4)"],
    "channel_shuffle": ["F.channel_shuffle(x, 2)", "torch.channel_shuffle(x, groups=2)"],
    "sum": [
        "x.sum()",
        "x.sum(2)",
        "x.sum((-1, 1))",
        "torch.sum(x, dim=(2, 3), keepdim=True)",
        "x.sum(axis=-2, keepdims=True)",
        "x.sum(1, True, dtype=torch.float32)",
        "x.sum(dtype=torch.float32)",
        "(x > 0).sum((2, 3))",
        "(x > 0).sum()",
    ],
    "mean": [
        "x.mean()",
        "x.mean(-1)",
        "x.mean((2, 3), True)",
        "torch.mean(x, dim=[1, 2], keepdim=False)",
        "x.float().mean((0, -1), dtype=torch.float64)",
        "x.mean(dtype=torch.float32)",
    ],
    **{
        name: [
            f"x.{name}()" if name in ("var", "std") else f"torch.{name}(x)",
            f"torch.{name}(x, False)",
            f"torch.{name}(x, 2)",
            f"torch.{name}(x, (1, -1), False)",
            f"torch.{name}(x, dim=(2, 3), unbiased=False, keepdim=True)",
            f"torch.{name}(x, dim=-1, correction=0)",
            f"torch.{name}(x, correction=2)",
            f"torch.{name}(x, (2, 3), correction=1.5, keepdim=True)",
        ]
        for name in ("var", "std", "var_mean", "std_mean")
    },
    "norm": [
        "torch.ops.aten.norm.Scalar(x, 1)",
        "torch.ops.aten.norm.ScalarOpt_dim(x, None, [2, 3], True)",
        "torch.ops.aten.norm.ScalarOpt_dim_dtype(x, 3, [1], False, dtype=torch.float64)",
        "torch.ops.aten.norm.ScalarOpt_dtype(x, 2, dtype=torch.float64)",
        "x.norm()",
        "x.norm(2, 1)",
        "x.norm(p=2, dim=1)",
        "x.norm(3, (2, 3), True)",
        "x.norm(dim=(1, -1), p=1)",
        "torch.norm(x, p='fro', dim=(2, 3))",
        "torch.norm(x, p=float('inf'), dim=-1, keepdim=True)",
        "x.norm(p=-float('inf'), dim=(2, 3))",
        "x.norm(0, 3)",
        "torch.norm(x.float(), 2, dtype=torch.float64)",
        "torch.norm(x.float(), 2, 1, True, dtype=torch.float64)",
    ],
    "linalg_vector_norm": [
        "torch.linalg.vector_norm(x)",
        "torch.linalg.vector_norm(x, 1, (2, 3))",
        "torch.linalg.vector_norm(x, ord=2.5, dim=-1, keepdim=True)",
        "torch.linalg.vector_norm(x.float(), dim=1, dtype=torch.float64)",
    ],
    "logsumexp": ["x.logsumexp(1)", "torch.logsumexp(x, dim=(2, -1), keepdim=True)"],
    "softmax": [
        "x.softmax(1)",
        "F.softmax(x, -1)",
        "torch.softmax(x, dim=2, dtype=torch.float32)",
        "F.softmax(x, dim=3, dtype=torch.float32)",
        "F.softmax(x[:, :, :, :], 2, 3)",
    ],
    "log_softmax": ["x.log_softmax(-2)", "F.log_softmax(x, dim=1)", "torch.log_softmax(x, 3)"],
    "normalize": [
        "F.normalize(x)",
        "F.normalize(x, 1, -1)",
        "F.normalize(x, p=3, dim=(2, 3))",
        "F.normalize(x, dim=2, eps=1.0)",
    ],
    "amax": ["x.amax()", "x.amax((2, -1))", "torch.amax(x, dim=1, keepdim=True)"],
    "amin": ["x.amin(-2)", "x.amin(dim=(1, 3), keepdim=True)", "torch.amin(x, ())"],
    "max": [
        "x.max()",
        "x.max(1)",
        "x.max(dim=-3, keepdim=True).values",
        "x.max(1, True)[1]",
        "x.max(y)",
        "torch.max(x, other=w)",
        "torch.max(w, x)",
    ],
    "min": ["x.min()", "torch.min(x, 1).indices", "x.min(y)", "x.min(dim=1, keepdim=True)"],
    "argmax": ["x.argmax(1)", "torch.argmax(x, dim=-3, keepdim=True)"],
    "argmin": ["x.argmin(dim=1)", "x.argmin(-4, True)"],
    "prod": ["x.prod(1)", "torch.prod(x, dim=-3, keepdim=True)", "x.prod(1, dtype=torch.float32)"],
    "any": [
        "(x > 1).any()",
        "(x > 2).any(-1)",
        "x.any(1)",
        "(x > 1).any(dim=(0, 1))",
        "torch.any(x > 1, -3, True)",
    ],
    "all": ["(x > -9).all()", "(x > 0).all(2)", "(x > -1).all(dim=(0, -3), keepdim=True)"],
    "median": ["x.median(1)", "torch.median(x, dim=-3, keepdim=True).values"],
    "conv1d": ["F.conv1d(l, k[..., 0], None, 1, 'same')", "F.conv1d(l, k[..., 1], stride=2)"],
    "conv2d": [
        "F.conv2d(x, k)",
        "F.conv2d(x, k, b, 2, 1)",
        "F.conv2d(x, k, padding='same')",
        "F.conv2d(x, k, bias=b, stride=(1, 2), padding=(1, 0), dilation=2, groups=1)",
        "F.conv2d(input=x, weight=k, padding='valid')",
        "torch.ops.aten.conv2d.padding(x, k, None, [1, 1], 'same')",
        "torch.ops.aten.conv2d.default(x, k, padding=[1, 1])",
    ],
    "conv3d": [
        "F.conv3d(z, k[:, :2, None], padding=(0, 1, 1))",
        "F.conv3d(z, k[:, :2, None], None, 1, 'same')",
    ],
    "conv_transpose1d": ["F.conv_transpose1d(l, t[..., 0], None, 2)"],
    "conv_transpose2d": [
        "F.conv_transpose2d(x, t, None, 2)",
        "F.conv_transpose2d(x, t, stride=2, padding=1, output_padding=1, dilation=1)",
        "F.conv_transpose2d(x, t, None, 2, 0, 0, 1, 2)",
    ],
    "conv_transpose3d": ["F.conv_transpose3d(z, t[:2, :, None], stride=(1, 2, 2))"],
    "max_pool1d": ["F.max_pool1d(l, 2)", "torch.max_pool1d(l, kernel_size=3, padding=1)"],
    "avg_pool1d": ["F.avg_pool1d(l, 3, 2, 1)", "F.avg_pool1d(l, kernel_size=(16,))"],
    "adaptive_avg_pool1d": ["F.adaptive_avg_pool1d(l, 5)", "F.adaptive_avg_pool1d(l, 1)"],
    "adaptive_max_pool1d": [
        "F.adaptive_max_pool1d(l, output_size=4)",
        "torch.ops.aten.adaptive_max_pool1d.default(l, [2])[0]",
    ],
    "max_pool2d": [
        "F.max_pool2d(x, 2)",
        "F.max_pool2d(x, (2, 3), 2, 1)",
        "F.max_pool2d(x, kernel_size=3, stride=1, padding=1, dilation=1, ceil_mode=True)",
        "torch.ops.aten.max_pool2d.default(x, [2, 2], [2, 2])",
        "torch.ops.aten.max_pool2d_with_indices.default(x, [2, 2], padding=[1, 1])[0]",
    ],
    "max_pool3d": [
        "F.max_pool3d(z, (1, 2, 2))",
        "torch.max_pool3d(z, (1, 2, 2), stride=1)",
        "torch.ops.aten.max_pool3d_with_indices.default(z, [1, 2, 2])[0]",
    ],
    "avg_pool2d": [
        "F.avg_pool2d(x, 2)",
        "F.avg_pool2d(x, 3, 1, 1, False, False)",
        "F.avg_pool2d(x, kernel_size=(2, 4), stride=2, divisor_override=3)",
        "F.avg_pool2d(x, x.shape[2:])",
        "F.avg_pool2d(x, (12, 16), ceil_mode=True)",
    ],
    "avg_pool3d": ["F.avg_pool3d(z, (1, 2, 2))", "F.avg_pool3d(z, 2, divisor_override=5)"],
    "adaptive_avg_pool2d": [
        "F.adaptive_avg_pool2d(x, 1)",
        "F.adaptive_avg_pool2d(x, (None, 4))",
        "F.adaptive_avg_pool2d(x, output_size=(5, 7))",
        "torch.ops.aten.adaptive_avg_pool2d.default(x, [3, 5])",
    ],
    "adaptive_avg_pool3d": ["F.adaptive_avg_pool3d(z, (4, 5, 1))"],
    "adaptive_max_pool2d": [
        "F.adaptive_max_pool2d(x, 1)",
        "F.adaptive_max_pool2d(x, output_size=(6, None))",
        "torch.ops.aten.adaptive_max_pool2d.default(x, [3, 4])[0]",
    ],
    "adaptive_max_pool3d": [
        "F.adaptive_max_pool3d(z, (3, 6, 4))",
        "torch.ops.aten.adaptive_max_pool3d.default(z, [2, 3, 4])[0]",
    ],
    "sym_size": ["x + torch.ops.aten.sym_size.int(x, -1)"],
    "slice": ["torch.ops.aten.slice.Tensor(x, -1, 2, 11, 3)", "torch.ops.aten.slice.Tensor(x)"],
    "interpolate": [
        "F.interpolate(x, (24, 40))",
        "F.interpolate(x, scale_factor=1.5, mode='bilinear')",
        "F.interpolate(x, None, 2, 'bilinear', True)",
        "F.interpolate(x, size=7, mode='area')",
        "F.interpolate(x, scale_factor=(0.5, 1.3), mode='nearest-exact')",
        "F.interpolate(x, scale_factor=0.7, recompute_scale_factor=True, mode='bilinear')",
    ],
    "pad": [
        "F.pad(x, (1, 2, 3, 0))",
        "F.pad(x, [1, 1, 0, 2], 'reflect')",
        "F.pad(x, (2, 2, 1, 0), mode='circular')",
        "F.pad(x, pad=(0, -1, -2, 1), value=3.0)",
        "torch.ops.aten.pad.default(x, [2, 1, 1, 0], 'replicate')",
    ],
    "constant_pad_nd": [
        "torch.constant_pad_nd(x, (1, 2), 4.0)",
        "torch.ops.aten.constant_pad_nd.default(x, [0, 1, 1, 0], value=2)",
    ],
    "batch_norm": [
        "F.batch_norm(x, r, r, weight=r, bias=r)",
        "F.batch_norm(x, None, None, r, r, True, 0.1, 1e-3)",
        "torch.ops.aten.batch_norm.default(x, r, r + 1, r + 2, r, False, 0.1, 1e-5, False)",
        "torch.batch_norm(x, r, r + 1, r, r + 2, False, 0.1, 1e-5, True)",
    ],
    "instance_norm": [
        "F.instance_norm(x)",
        "F.instance_norm(x, weight=r, eps=1e-2)",
        "torch.ops.aten.instance_norm.default(x, r, r + 1, None, None, True, 0.1, 1e-5, False)",
    ],
    "group_norm": [
        "F.group_norm(x, 2)",
        "F.group_norm(x, num_groups=1, weight=r, bias=r, eps=1e-2)",
        "torch.group_norm(x, 4, r, r, 1e-3, False)",
        "torch.ops.aten.group_norm.default(x, 2, r)",
    ],
    "layer_norm": [
        "F.layer_norm(x, (4, 12, 16))",
        "F.layer_norm(x, [16], torch.ones(16).double() * 2, eps=1e-2)",
        "F.layer_norm(x.permute(0, 2, 3, 1), (4,), r, r)",
        "torch.layer_norm(x, (12, 16), None, None, 1e-3)",
    ],
    "dropout": ["F.dropout(x, 0.5, False)", "F.dropout(x, p=0.0)", "torch.dropout(x, 0.3, False)"],
    "dropout2d": ["F.dropout2d(x, 0.5, training=False)"],
    "alpha_dropout": [
        "F.alpha_dropout(x, p=0.5, training=False)",
        "torch.alpha_dropout(x, 0.5, train=False)",
    ],
    "dropout1d": ["F.dropout1d(l, 0.5, False)"],
    "dropout3d": ["F.dropout3d(z, training=False)"],
    "feature_alpha_dropout": [
        "F.feature_alpha_dropout(x, 0.5, False)",
        "torch.feature_alpha_dropout(x, 0.5, False)",
    ],
    "requires_grad_": ["x.requires_grad_(False)"],
    "prelu": ["F.prelu(x, r)", "torch.prelu(x, weight=r[:1])"],
    "linear": [
        "F.linear(x.movedim(1, -1), torch.ones(3, 4).double(), torch.ones(3).double())",
        "F.linear(input=x.movedim(1, -1), weight=torch.ones(2, 4).double())",
    ],
}

for _axes, _name, _side in ((1, "l", [24]), (2, "x", [18, 24]), (3, "z", [9, 18, 24])):
    _linear = {1: "upsample_linear1d", 2: "upsample_bilinear2d", 3: "upsample_trilinear3d"}[_axes]
    _factors = [1.5] * _axes
    for _kind in (f"upsample_nearest{_axes}d", f"_upsample_nearest_exact{_axes}d", _linear):
        _corners = ", False" * (_kind == _linear)
        _plain, _vec = f"torch.ops.aten.{_kind}.default", f"torch.ops.aten.{_kind}.vec"
        CALLS[_kind] = [
            f"{_plain}({_name}, {_side}{_corners})",
            f"{_plain}({_name}, {_side}{_corners}, {', '.join(map(str, _factors))})",
            f"{_vec}({_name}, {_side}{_corners}, None)",
            f"{_vec}({_name}, None{_corners}, {_factors})",
        ]
    CALLS[_linear].append(f"{_plain}({_name}, {_side}, align_corners=True)")

REFUSED = ["x.prod()", "x.median()", "x.view(torch.int64)", "x.argmax(-1)", "x.cumsum(2)"]
"""What is refused, being of all positions of what is split, or of another type."""


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "x": noise(*SHAPE),
        "y": noise(*SHAPE),
        "z": noise(1, 2, 6, 12, 16),
        "l": noise(2, 4, 16),
        "w": noise(1, 4, 1, 1),
        "k": noise(3, 4, 3, 3),
        "t": noise(4, 2, 2, 2),
        "b": noise(3),
        "r": noise(4).abs(),
    }


SPLIT = "xyzl"


def called(call: str, named: dict[str, Tensor]) -> Any:
    return eval(call, {"torch": torch, "F": F, **named})


def cuts_of(call: str, seed: int) -> dict[int, tuple[int, ...]]:
    """Cuts of the dimensions of extent 12 and 16: any, a width of 1 and none among them."""
    drawn = random.Random(f"{call}{seed}")
    parts = (3,) if "l" in names_in(call) else (2, 3)
    made = {}
    for side, count in zip((12, 16)[-len(parts) :], parts, strict=True):
        made[side] = (0, *sorted(drawn.randint(0, side) for _ in range(count - 1)), side)
    return made


def names_in(call: str) -> set[str]:
    return set(compile(call, "call", "eval").co_names)


def in_parts(call: str, seed: int) -> Any:
    """Return what a call gives in parts, put together; also where it gives several tensors."""
    cuts = cuts_of(call, seed)
    mesh_shape = tuple(len(c) - 1 for c in cuts.values())
    axes = tuple(range(-len(cuts), 0))

    def act(mesh: VirtualMesh) -> Any:
        def part(tensor: Tensor) -> Tensor:
            cut = (..., *parts_of(list(cuts.values()), mesh.coordinate))
            return distribute(tensor[cut].clone(), mesh, axes)

        named = {
            name: part(tensor) if name in SPLIT and name in names_in(call) else tensor
            for name, tensor in inputs().items()
        }
        return called(call, named)

    ranks = run_in_turns(mesh_shape, act)
    leaves = [tensors_in(made) for made in ranks]
    return [put_together(list(parts)) for parts in zip(*leaves, strict=True)]


def put_together(parts: list[Tensor]) -> Tensor:
    if not isinstance(parts[0], SplitTensor):
        assert all(torch.equal(part, parts[0]) for part in parts), "whole, but not the same"
        return parts[0]
    made = torch.empty(parts[0].shape, dtype=parts[0].dtype)
    seen = torch.zeros(parts[0].shape, dtype=torch.int64)
    for part in parts:
        assert isinstance(part, SplitTensor)
        made[part.box.slices] = part.local
        seen[part.box.slices] += 1
    # Ranks along an axis that it is not split along hold the same.
    assert bool((seen == seen.flatten()[0]).all())
    assert bool((seen > 0).all())
    return made


EVERY_CALL = [(name, call) for name, calls in CALLS.items() for call in calls]


def same(given: Iterable[Tensor], wanted: Iterable[Tensor]) -> None:
    for one, other in zip(given, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        tolerance = 1e-5 if other.dtype == torch.float32 else 1e-10
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "call"), EVERY_CALL)
def test_a_rule_gives_what_torch_gives_however_its_function_is_called(name: str, call: str) -> None:
    wanted = tensors_in(called(call, inputs()))
    same(in_parts(call, 0), wanted)


@pytest.mark.parametrize("call", REFUSED)
def test_what_needs_all_of_a_split_axis_is_refused(call: str) -> None:
    with pytest.raises(NotPartitioned, match=r"split|another type"):
        in_parts(call, 0)


class Watching(TorchFunctionMode):
    """Notes what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def bound_rules() -> dict[str, list[Any]]:
    """The functions by name that have rules of named arguments."""
    made: dict[str, list[Any]] = {}
    for func, rule in RULES.items():
        if not takes_all(rule):
            made.setdefault(name_of(func), []).append(func)
    return made


def test_every_rule_of_named_arguments_is_called_by_every_overload_of_its_functions() -> None:
    called_for: dict[str, set[Any]] = {}
    for call in [*(call for _, call in EVERY_CALL), *REFUSED]:
        with Watching() as watching:
            called(call, inputs())
        for func, args, kwargs in watching.calls:
            if func in RULES or isinstance(func, OpOverload):
                found = called_for.setdefault(name_of(func), set())
                found.add(overload_of(func, args, kwargs))
    missing = {}
    for name, functions in bound_rules().items():
        wanted: set[Any] = {
            overload
            for func in functions
            for overload in ([func] if isinstance(func, OpOverload) else overloads_of(func))
        } or {None}
        left = {str(o) for o in wanted - called_for.get(name, set())}
        if left:
            missing[name] = left
    assert missing == {}
