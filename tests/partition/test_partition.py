from __future__ import annotations

import pytest
from partition_cases import Case, compared
from partition_ranks import Ranks

CASES = [
    Case("unet", (24, 20), (2,)),
    Case("unet", (24, 20), (2, 2), ((0, 13, 24), (0, 7, 20)), batch=2, training=True),
    Case("unet3d", (8, 12, 8), (2, 2, 1), training=True),
    Case("residual", (18, 14), (3,), ((0, 4, 9, 14),), batch=2),
    Case("residual", (18, 14), (2, 2)),
    Case("squeeze", (11, 13), (2, 2)),
    Case("mixed", (29, 31), (2, 2), training=True),
    Case("mixed", (29, 31), (4, 1), ((0, 1, 2, 25, 29), (0, 31)), training=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.network}-{c.mesh}")
def test_a_partitioned_network_gives_the_values_and_gradients_of_one_process(
    ranks: Ranks, case: Case
) -> None:
    assert max(compared(ranks, case).values()) < 1e-12
