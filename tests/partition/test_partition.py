from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from partition_cases import Case, compared, partitioned_pass, whole_pass
from partition_networks import Chain
from partition_ranks import Ranks


def named(case: Case) -> str:
    return f"{case.network}-{case.mesh}"


CASES = [
    Case("unet", (24, 20), (1,)),
    Case("unet", (24, 20), (2, 2), ((0, 13, 24), (0, 7, 20)), batch=2, training=True),
    Case("unet3d", (8, 12, 8), (2, 2, 1), training=True),
    Case("unet3d", (8, 8, 12), (3,), ((0, 1, 9, 12),)),
    Case("densenet", (32, 64), (2,), ((0, 45, 64),)),
    Case("residual", (18, 14), (3,), ((0, 4, 9, 14),), batch=2),
    Case("residual", (18, 14), (2, 2)),
    Case("squeeze", (11, 13), (2, 2)),
    Case("mixed", (29, 31), (2, 2), training=True),
    Case("mixed", (29, 31), (4, 1), ((0, 1, 2, 25, 29), (0, 31)), training=True),
    Case("volume", (5, 9, 7), (2, 1, 2), batch=2),
    Case("residual3d", (6, 9, 8), (2, 1, 2), ((0, 4, 6), (0, 9), (0, 3, 8))),
]


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_partitioned_network_gives_the_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    assert max(compared(ranks, case).values()) < 1e-12


@pytest.mark.parametrize("mode", ["Reflection", "Replication", "Circular", "Zero"])
def test_a_rank_with_an_empty_part_takes_part_in_padding_along_other_axes(
    ranks: Ranks, mode: str
) -> None:
    network = Chain("nn.Conv2d(1, 2, 1)", f"nn.{mode}Pad2d((2, 1, 0, 0))")
    case = Case(network, (6, 5), (3, 1), ((0, 0, 2, 6), (0, 5)))
    assert max(compared(ranks, case).values()) < 1e-12


@pytest.mark.parametrize(
    ("name", "extent", "mesh"),
    [("unet", (64, 96), (2, 2)), ("densenet", (64, 96), (2, 2)), ("unet3d", (16, 24, 32), (2, 2))],
)
def test_in_a_fixed_order_of_sums_the_bits_are_those_of_one_process(
    ranks: Ranks, name: str, extent: tuple[int, ...], mesh: tuple[int, ...]
) -> None:
    case = Case(name, extent, mesh, dtype=torch.float32, gradients=False, fixed=True)
    assert compared(ranks, case)["output"] == 0


@pytest.mark.parametrize("name", ["unet", "residual", "squeeze"])
def test_in_float32_labels_are_those_of_one_process(ranks: Ranks, name: str) -> None:
    float32_agrees(ranks, Case(name, (64, 48), (2, 2), dtype=torch.float32))


def float32_agrees(ranks: Ranks, case: Case) -> None:
    """Require the bounds that docs/design/partition.md states, and the same labels."""
    differences = compared(ranks, case)
    assert differences["output"] < 2e-6
    assert max(differences.values()) < 2e-5
    expected = whole_pass(case).output.argmax(1, keepdim=True)
    for part in ranks.run(partitioned_pass, torch.Size(case.mesh).numel(), case):
        assert torch.equal(part.output.argmax(1, keepdim=True), expected[part.box])


PLANES = ["unet", "densenet", "residual", "squeeze", "mixed"]
VOLUMES = ["unet3d", "residual3d", "volume"]
# Of even and of uneven parts; some are shorter than the halo beside them.
ON_PLANES = [
    ((1,), None),
    ((2, 1), ((0, 45, 64), (0, 96))),
    ((3,), ((0, 32, 33, 96),)),
    ((1, 3), None),
    ((2, 2), ((0, 19, 64), (0, 64, 96))),
    ((4,), ((0, 1, 40, 90, 96),)),
    ((4, 1), None),
]
ON_VOLUMES = [
    ((1, 1, 1), None),
    ((2, 1, 1), ((0, 5, 8), (0, 12), (0, 16))),
    ((3, 1), None),
    ((2, 2), ((0, 3, 12), (0, 9, 16))),
    ((2, 1, 2), None),
    ((1, 4), ((0, 12), (0, 1, 7, 12, 16))),
]
ON_EIGHT = [((8, 1), None), ((2, 4), ((0, 21, 64), (0, 30, 48, 80, 96)))]
VOLUMES_ON_EIGHT = [((2, 2, 2), None), ((2, 4), ((0, 5, 12), (0, 3, 8, 12, 16)))]


def matrix(
    planes: list[tuple[tuple[int, ...], Any]], volumes: list[tuple[tuple[int, ...], Any]]
) -> list[Case]:
    """Return every network on every mesh, in training where it has batch normalisation."""
    made = [Case(n, (64, 96), m, c, training=n != "densenet") for n in PLANES for m, c in planes]
    made += [Case(n, (8, 12, 16), m, c, training=True) for n in VOLUMES for m, c in volumes]
    return made


@pytest.mark.slow
@pytest.mark.parametrize("case", matrix(ON_PLANES, ON_VOLUMES), ids=named)
def test_every_network_gives_the_same_on_every_mesh(ranks: Ranks, case: Case) -> None:
    assert max(compared(ranks, case).values()) < 1e-12
    float32_agrees(ranks, replace(case, dtype=torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize("case", matrix(ON_EIGHT, VOLUMES_ON_EIGHT), ids=named)
def test_every_network_gives_the_same_on_eight_ranks(eight_ranks: Ranks, case: Case) -> None:
    assert max(compared(eight_ranks, case).values()) < 1e-12
    float32_agrees(eight_ranks, replace(case, dtype=torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        Case("unet3d", (12, 16, 12), (2, 2, 2), training=True),
        Case("volume", (7, 9, 11), (2, 2, 2)),
        Case("unet", (64, 24), (8, 1)),
    ],
    ids=named,
)
def test_eight_ranks_and_three_split_axes_give_the_same(eight_ranks: Ranks, case: Case) -> None:
    assert max(compared(eight_ranks, case).values()) < 1e-12
