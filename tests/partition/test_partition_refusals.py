from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from partition_ranks import Ranks
from torch import Tensor, nn

from exactile.partition import Mesh, NotPartitioned, PartitionError, SplitTensor, partition


class Calling(nn.Module):
    """Calls one expression of x."""

    def __init__(self, expression: str) -> None:
        super().__init__()
        self.expression = expression

    def forward(self, x: Tensor) -> Any:
        names = {"x": x, "torch": torch, "F": F, "whole": torch.zeros(1, 2, 8, 12)}
        return eval(self.expression, names)


REFUSED = [
    ("torch.fft.fft2(x)", "torch.fft.fft2", "has no rule"),
    ("F.grid_sample(x, whole)", "torch.nn.functional.grid_sample", "has no rule"),
    ("x @ x.transpose(2, 3)", "torch.Tensor.matmul", "has no rule"),
    ("F.scaled_dot_product_attention(x, x, x)", "scaled_dot_product_attention", "has no rule"),
    ("x.item()", "torch.Tensor.item", "has no rule"),
    ("x.numpy()", "torch.Tensor.numpy", "has no rule"),
    ("F.dropout(x, 0.5)", "torch.nn.functional.dropout", "draws random numbers"),
    ("F.max_pool2d(x, 2, return_indices=True)", "max_pool2d_with_indices", "has no rule"),
    ("F.adaptive_max_pool2d(x, 5)", "adaptive_max_pool2d", "windows are unequal"),
    ("F.interpolate(x, scale_factor=2, mode='bicubic')", "interpolate", "bicubic"),
    ("x.flatten(1)", "torch.Tensor.flatten", "split axes together"),
    ("x[:, :, 0]", "torch.Tensor.__getitem__", "one position of a split axis"),
    ("x[x > 0]", "torch.Tensor.__getitem__", "selects by values"),
    ("torch.cat([x, x], 2)", "torch.cat", "joins tensors along dimension 2"),
    ("x + x.transpose(2, 3)", "torch.Tensor.add", "combines"),
    ("x + x[:, :, :1]", "torch.Tensor.add", "extents 8 and 1 of a split axis"),
    ("x.argmax(2)", "torch.Tensor.argmax", "along dimension 2, which is split"),
    ("F.linear(x, torch.zeros(4, 12))", "linear", "all positions of a split axis"),
    ("torch.add(x, x, out=whole)", "torch.add", "writes into a given tensor"),
    ("whole.add_(x)", "torch.Tensor.add_", "split tensor into a whole one"),
    ("F.conv2d(x, torch.zeros(1, 2, 20, 1))", "conv2d", "larger than the whole volume"),
    ("torch.ops.aten.roll.default(x, [1], [2])", "aten.roll.default", "no rule"),
]


def said(group: dist.ProcessGroup, expression: str) -> str:
    run = partition(nn.Sequential(nn.Identity(), Calling(expression)), Mesh((2, 2), group))
    with pytest.raises(NotPartitioned) as caught:
        run(torch.zeros(1, 2, 4, 6))
    return str(caught.value)


@pytest.mark.parametrize(("expression", "operator", "reason"), REFUSED)
def test_what_has_no_rule_is_refused_by_operator_and_module_on_every_rank(
    ranks: Ranks, expression: str, operator: str, reason: str
) -> None:
    for message in ranks.run(said, 4, expression):
        assert operator in message
        assert reason in message
        assert "in 1 (Calling)" in message


def scripted(group: dist.ProcessGroup) -> list[str]:
    network = nn.Sequential(torch.jit.script(nn.Conv2d(1, 1, 3)))
    messages = []
    with pytest.raises(NotPartitioned) as caught:
        partition(network, Mesh((2,), group))(torch.zeros(1, 1, 4, 4))
    messages.append(str(caught.value))
    with pytest.raises(PartitionError) as refused:
        partition(network[0], Mesh((2,), group))
    return [*messages, str(refused.value)]


def test_torchscript_is_refused_and_never_run_on_the_parts_alone(ranks: Ranks) -> None:
    for inside, itself in ranks.run(scripted, 2):
        assert "no rule" in inside
        assert "TorchScript" in itself


def misfit(group: dist.ProcessGroup, mesh: tuple[int, ...], shapes: list[tuple[int, ...]]) -> str:
    with pytest.raises(PartitionError) as caught:
        partition(nn.ReLU(), Mesh(mesh, group))(torch.zeros(shapes[group.rank()]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("mesh", "shapes", "reason"),
    [
        ((3,), [(1, 1, 4)] * 4, "mesh (3,) has 3 ranks but the process group has 4"),
        ((0, 4), [(1, 1, 4)] * 4, "at least 1 rank"),
        ((2, 2), [(1, 4)] * 3 + [(1, 5)], "rank 3 gives a part of (1, 5)"),
        ((4,), [(1, 4, 4)] * 3 + [(2, 4, 4)], "rank 3 gives a part of (2, 4, 4)"),
        ((4,), [(1, 4)] * 3 + [(1, 4, 4)], "give all equally many"),
        ((2, 2), [(4,)] * 4, "has no dimensions (-2, -1)"),
    ],
)
def test_meshes_and_parts_that_do_not_fit_are_refused_on_every_rank(
    ranks: Ranks, mesh: tuple[int, ...], shapes: list[tuple[int, ...]], reason: str
) -> None:
    for message in ranks.run(misfit, 4, mesh, shapes):
        assert reason in message


def test_without_a_process_group_the_message_says_what_to_call() -> None:
    with pytest.raises(PartitionError, match=r"torchrun and call torch\.distributed"):
        Mesh((1,))


def shapes_seen(group: dist.ProcessGroup) -> tuple[Any, ...]:
    seen: list[Any] = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((tuple(x.shape), x.size(2), x.numel(), x.dim(), len(x), x.dtype))
            return x

    run = partition(Looking(), Mesh((2, 2), group))
    part = run(torch.zeros(1, 2, 4, 6))
    return (*seen, type(part) is Tensor, isinstance(part, SplitTensor))


def test_a_network_sees_the_shape_of_the_whole_and_gives_parts(ranks: Ranks) -> None:
    for seen in ranks.run(shapes_seen, 4):
        assert seen == (((1, 2, 8, 12), 8, 192, 4, 1, torch.float32), True, False)


def test_axes_may_be_any_dimensions(ranks: Ranks) -> None:
    assert ranks.run(along_first_axis, 2) == [True, True]


def along_first_axis(group: dist.ProcessGroup) -> bool:
    torch.manual_seed(0)
    image, network = torch.randn(1, 1, 8, 6), nn.Conv2d(1, 1, 3, padding=1)
    rows = slice(0, 3) if group.rank() == 0 else slice(3, 8)
    with torch.no_grad():
        part = partition(network, Mesh((2,), group), axes=(2,))(image[:, :, rows])
        return bool((part - network(image)[:, :, rows]).abs().max() < 1e-6)
