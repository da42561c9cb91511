"""What one run, or two, say against a network: the refusals that no rule raises by itself."""

from __future__ import annotations

from exactile.locality.refusal import NotLocal, Refusal
from exactile.locality.run import Record, Run, words


def refuse(run: Run) -> None:
    """Raise `NotLocal` with all that the run refused."""
    if run.refusals:
        raise NotLocal(run.refusals)


def parted(
    operator: str,
    module: str,
    extent: tuple[int, ...],
    earlier: tuple[int, ...],
    there: Record | None,
) -> Refusal:
    """Refuse a network that leaves the path of an earlier run, which called `there`."""
    same = there is not None and there.operator == operator
    what = "is given other numbers" if same else "does not run in the same place"
    return Refusal(
        operator,
        module,
        f"it {what} at extent {words(extent)} as at {words(earlier)}, so a tile is not treated as "
        "the whole image is: the network looks at the image's size; make its code independent of "
        "that",
    )


def check_output(run: Run, spatial_dims: int) -> None:
    """Refuse an output without the image's axes, or without any dependency on the image."""
    if run.reach is not None and run.reach.constant:
        reason = "the output does not depend on the image; use a network that reads its input"
        raise NotLocal((Refusal(run.records[-1].operator, run.records[-1].module, reason),))
    if run.shape is None or len(run.shape) != 2 + spatial_dims:
        last = run.records[-1]
        raise NotLocal(
            (
                Refusal(
                    last.operator,
                    last.module,
                    f"the output has shape {run.shape}, without one position for each part of the "
                    "image; use a network that segments",
                ),
            )
        )


def unbounded(runs: list[Run]) -> Refusal:
    """Name the operator whose reach first grew along with the image."""
    if len(runs) < 2:
        return Refusal("model", "model", "no extent shows a period; give it fixed strides")
    small, large = runs[-2], runs[-1]
    growth = large.extent[large.axis] - small.extent[small.axis]
    for before, after in zip(small.records, large.records, strict=False):
        if after.drift - before.drift > growth / 4:
            return Refusal(
                after.operator,
                after.module,
                f"what it depends on grows with the image ({before.drift:.0f} px at extent "
                f"{small.extent[small.axis]}, {after.drift:.0f} px at {large.extent[large.axis]}); "
                "use operators that reach a fixed distance",
            )
    last = next(
        (
            after
            for before, after in zip(small.records, large.records, strict=False)
            if after.origin != before.origin
        ),
        large.records[-1],
    )
    return Refusal(
        last.operator,
        last.module,
        f"the output shows no period up to extent {large.extent[large.axis]}: it depends on the "
        "absolute position or on the image's size; remove what makes it so",
    )
