"""Statistics of a plane or a volume, of which each rank reads some rows of blocks.

What the ranks find is merged in the order of the blocks, on every rank: the bits are those of one
process that reads all (`exactile.normalization.gathering`).
"""

from __future__ import annotations

from typing import Any

from exactile.distributed.team import Team
from exactile.images import Source, Whole
from exactile.normalization.blocks import pixels_of
from exactile.normalization.fitting import fit_by
from exactile.normalization.gathering import Found, Pass
from exactile.processing import Before, Pointwise
from exactile.shard import Shard


def fit_together(
    team: Team, steps: tuple[Before, ...], source: Source, whole: Whole, channels: tuple[int, ...]
) -> tuple[Pointwise, ...]:
    """Return `steps` with the numbers of `channels` of `whole`, the same on all ranks.

    Raises:
        RankError: if a rank cannot read its rows, or finds pixels that are not finite.
    """
    rows = Shard(team.rank, team.size).part(source.rows_of(whole.dimensions))
    own = pixels_of(source, whole, channels, rows)

    def read(wanted: Pass[Found]) -> Found:
        def gather() -> list[Any]:
            # With more ranks than rows, some have nothing to look at.
            return [wanted.gather.encode(wanted.over(own))] if rows else []

        told = team.share(team.together(gather))
        return wanted.gather.merge([wanted.gather.decode(v) for rank in told for v in rank])  # type: ignore[attr-defined]

    return fit_by(steps, own, read)
