"""The pictures: errors against the halo, ours and published, and the offsets of figure 7."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from exactile.reproduce.chart import Chart, Colour, Marker, Series
from exactile.reproduce.published import published_table
from exactile.reproduce.run import HaloResult, OffsetResult

OURS: Colour = (206, 74, 32)
EXACT: Colour = (34, 128, 62)
PUBLISHED: dict[str, tuple[Colour, Marker]] = {
    "JRES": ((38, 93, 171), "square"),
    "arXiv": ((122, 126, 140), "ring"),
}

MOST_TICKS = 10


def draw_halos(result: HaloResult, path: Path) -> None:
    """Write a PNG with the RMSE and the misclassified rate against the halo."""
    ours = [(max(row.halo.low, row.halo.high), row) for row in result.rows]
    rmse, mer = [], []
    for table in map(published_table, result.table.published):
        style = PUBLISHED[table.paper]
        name = f"published ({table.paper})"
        rmse.append(Series(name, *style, tuple((row.halo, row.rmse) for row in table.rows)))
        mer.append(Series(name, *style, tuple((row.halo, row.mer) for row in table.rows)))
    # Ours last: on top.
    rmse.append(Series("exactile", OURS, "disc", tuple((h, row.rmse) for h, row in ours)))
    mer.append(Series("exactile", OURS, "disc", tuple((h, row.mer) for h, row in ours)))
    step = result.table.halos[1] * (2 if len(ours) > MOST_TICKS else 1)
    label = "halo, px"
    title = result.table.title
    left = Chart(f"{title}: RMSE of the softmax", label, tuple(rmse), x_step=step).draw()
    right = Chart("Misclassified pixels / pixels (MER)", label, tuple(mer), x_step=step).draw()
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    both.save(path, optimize=True)


def draw_offsets(result: OffsetResult, path: Path) -> None:
    """Write a PNG like figure 7: the RMSE against the offset, multiples of F marked."""
    values = [(float(offset), found.rmse) for offset, found in enumerate(result.errors)]
    aligned = tuple(value for value in values if value[0] % result.alignment == 0)
    series = (
        Series("RMSE of the softmax", OURS, "disc", tuple(values)),
        Series(f"multiples of F = {result.alignment}", EXACT, "square", aligned, joined=False),
    )
    chart = Chart(
        result.curve.title, "offset, px", series, logarithmic=False, x_step=result.alignment // 4
    )
    chart.draw().save(path, optimize=True)
