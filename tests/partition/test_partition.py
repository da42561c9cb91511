from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from partition_cases import Case, compared, partitioned_pass, whole_pass
from partition_ranks import Ranks

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
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.network}-{c.mesh}")
def test_a_partitioned_network_gives_the_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    assert max(compared(ranks, case).values()) < 1e-12


@pytest.mark.parametrize("name", ["unet", "densenet"])
def test_in_a_fixed_order_of_sums_the_bits_are_those_of_one_process(
    ranks: Ranks, name: str
) -> None:
    case = Case(name, (64, 96), (2, 2), dtype=torch.float32, gradients=False, fixed=True)
    assert compared(ranks, case)["output"] == 0


@pytest.mark.parametrize("name", ["unet", "residual", "squeeze"])
def test_in_float32_labels_are_those_of_one_process(ranks: Ranks, name: str) -> None:
    case = Case(name, (64, 48), (2, 2), dtype=torch.float32)
    differences = compared(ranks, case)
    assert differences["output"] < 2e-6
    assert max(differences.values()) < 2e-5
    expected = whole_pass(case).output.argmax(1, keepdim=True)
    for part in ranks.run(partitioned_pass, 4, case):
        assert torch.equal(part.output.argmax(1, keepdim=True), expected[part.box])


@pytest.fixture(scope="module")
def eight_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    made = Ranks(8, tmp_path_factory.mktemp("ranks"))
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        Case("unet3d", (12, 16, 12), (2, 2, 2), training=True),
        Case("volume", (7, 9, 11), (2, 2, 2)),
        Case("unet", (64, 24), (8, 1)),
    ],
    ids=lambda c: f"{c.network}-{c.mesh}",
)
def test_eight_ranks_and_three_split_axes_give_the_same(eight_ranks: Ranks, case: Case) -> None:
    assert max(compared(eight_ranks, case).values()) < 1e-12
