"""The experiments of the two papers as values: network, images, tile, halos and published tables.

A form is a set of them. The published form has the tiles, halos and image sizes of the papers; the
quick form is small enough for minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from exactile.errors import SettingsError
from exactile.geometry import floor_to
from exactile.reproduce.published import IMAGES
from exactile.reproduce.recipes import (
    BundledUNet,
    ImageKind,
    RandomFCDenseNet56,
    RandomUNet,
    Recipe,
)

PUBLISHED_WIDTH = 64
"""Base width of the papers' U-Nets."""

COARSEST_GRID = 32
"""The largest F of all experiments: rows that are asked for are rounded down to it."""


@dataclass(frozen=True, slots=True)
class HaloTable:
    """Errors of tiled passes with given halos, as the papers tabulate them."""

    name: str
    """Of the files that are written."""
    title: str
    network: Recipe
    image: ImageKind
    shape: tuple[int, int]
    """Of every image, (Y, X) in pixels; multiples of F."""
    tile: int
    """Side of the windows: zone + 2 halos."""
    halos: tuple[int, ...]
    published: tuple[str, ...]
    """Names of the published tables."""


@dataclass(frozen=True, slots=True)
class OffsetCurve:
    """Figure 7 of the arXiv paper: passes over parts of an image that start 0 to 32 px further."""

    name: str
    title: str
    network: Recipe
    side: int
    """Of the square parts, in pixels."""
    largest: int = 32
    """Largest offset, on both axes."""
    inset: int = 96
    """What is left out on all sides of the common area, in pixels."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A network whose published radius, rounded up to F, is smaller than what it needs."""

    network: Recipe
    shape: tuple[int, int]
    """Of the image, (Y, X) in pixels: enough for a window that no edge moves inwards."""
    tile: int
    """Side of the windows: zone + 2 halos."""


@dataclass(frozen=True, slots=True)
class Form:
    """All that is run."""

    images: int
    """Images for each row of the tables; K in the papers."""
    tables: tuple[HaloTable, ...]
    offsets: OffsetCurve
    shortfalls: tuple[Shortfall, ...]


def choose_form(
    quick: bool, images: int | None = None, width: int | None = None, rows: int | None = None
) -> Form:
    """Return the quick or the published form; None stands for its own default.

    Raises:
        SettingsError: if there is nothing left to do with such values, or a quick form is to have
            other rows.
    """
    given = {"images": images, "width": width} | ({} if quick else {"rows": rows})
    if quick and rows is not None:
        raise SettingsError("--rows goes with the published form alone; leave out --quick")
    chosen = {name: value for name, value in given.items() if value is not None}
    return quick_form(**chosen) if quick else published_form(**chosen)


def published_form(
    images: int = IMAGES, width: int = PUBLISHED_WIDTH, rows: int | None = None
) -> Form:
    """Return the experiments with the papers' tiles and halos.

    `width` is the base width of the untrained U-Nets. With `rows`, images have at most so many
    pixels along Y, and the papers' along X: several tiles in a row, for less memory and time.

    Raises:
        SettingsError: if there is nothing left to do with such values.
    """
    if rows is not None:
        rows = floor_to(_at_least(256, rows, "--rows"), COARSEST_GRID)
    return Form(
        images=_at_least(1, images, "--images"),
        tables=_tables(
            _at_least(1, width, "--width"),
            trained=_strip(3584, rows),
            untrained=_strip(3584, rows),
            modified=_strip(3824, rows),
            dense=_strip(2304, rows),
        ),
        offsets=_offsets(_strip(2048, rows)[0]),
        shortfalls=(
            Shortfall(_random_unet(1, 1), (256, 256), 128),
            Shortfall(_random_unet(1, 3), (256, 256), 128),
            Shortfall(_random_unet(2, 2), (384, 384), 128),
            Shortfall(_random_unet(2, 3), (384, 384), 128),
            Shortfall(_random_unet(3, 4), (768, 768), 384),
            Shortfall(_random_unet(4, 8), (128, 2048), 1024),
            Shortfall(RandomFCDenseNet56("noise"), (128, 1536), 1152),
        ),
    )


def quick_form(images: int = 1, width: int = 8) -> Form:
    """Return the experiments with small images, for a first look.

    Strips of three tiles keep a window that no edge moves inwards: only there is a halo as given.

    Raises:
        SettingsError: if there is nothing left to do with such values.
    """
    return Form(
        images=_at_least(1, images, "--images"),
        tables=_tables(
            _at_least(1, width, "--width"),
            trained=(512, 1536),
            untrained=(512, 2560),
            modified=(512, 2560),
            dense=(128, 2304),
            dense_step=128,
        ),
        offsets=_offsets(512),
        shortfalls=(
            Shortfall(_random_unet(1, 1), (256, 256), 128),
            Shortfall(_random_unet(2, 2), (384, 384), 128),
        ),
    )


def _tables(
    width: int,
    trained: tuple[int, int],
    untrained: tuple[int, int],
    modified: tuple[int, int],
    dense: tuple[int, int],
    dense_step: int = 32,
) -> tuple[HaloTable, ...]:
    return (
        HaloTable(
            "unet_trained_tile512",
            "Trained U-Net, tile 512",
            BundledUNet(),
            "slide",
            trained,
            512,
            tuple(range(0, 129, 16)),
            ("jres_unet_trained_tile512", "arxiv_unet_trained_tile512"),
        ),
        HaloTable(
            "unet_untrained_tile1024",
            "Untrained 4-class U-Net on noise, tile 1024",
            RandomUNet(width, depth=4, convolutions=2, classes=4),
            "noise",
            untrained,
            1024,
            tuple(range(0, 97, 16)),
            ("jres_unet_untrained_tile1024", "arxiv_unet_untrained_tile1024"),
        ),
        HaloTable(
            "modified_unet_tile1032",
            "Modified U-Net (depth 3, n = 3), tile 1032",
            RandomUNet(width, depth=3, convolutions=3, calibrated="slide"),
            "slide",
            modified,
            1032,
            tuple(range(0, 73, 8)),
            ("arxiv_modified_unet_tile1032",),
        ),
        HaloTable(
            "fcdensenet56_tile1152",
            "FC-DenseNet-56, tile 1152",
            RandomFCDenseNet56(),
            "slide",
            dense,
            1152,
            tuple(range(0, 385, dense_step)),
            ("jres_fcdensenet56_tile1152",),
        ),
    )


def _offsets(side: int) -> OffsetCurve:
    return OffsetCurve("offsets", "Offsets of 0 to 32 px (figure 7)", BundledUNet(), side)


def _random_unet(depth: int, convolutions: int) -> RandomUNet:
    return RandomUNet(8, depth, convolutions, calibrated="noise")


def _strip(side: int, rows: int | None) -> tuple[int, int]:
    return side if rows is None else min(side, rows), side


def _at_least(least: int, value: int, option: str) -> int:
    if value < least:
        raise SettingsError(f"{option} {value}: use at least {least}")
    return value
