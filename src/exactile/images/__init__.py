"""Images on disk: finding them, reading them a box at a time, writing them a box at a time."""

from exactile.images.collection import (
    DEFAULT_PATTERN,
    collect,
    output_name,
    output_names,
    part_stem,
)
from exactile.images.metadata import ImageMetadata, PhysicalSize
from exactile.images.mosaic import Mosaic, read_mosaic
from exactile.images.mosaic_source import MosaicSource
from exactile.images.ome_tiff_sink import OmeTiffSink
from exactile.images.open import image_files, open_source, read_sizes
from exactile.images.open_sink import open_sink
from exactile.images.sink import CoverageError, OutputImage, Sink
from exactile.images.source import Plane, Source, Volume, Whole
from exactile.images.stitching_vector import find_vectors

__all__ = [
    "DEFAULT_PATTERN",
    "CoverageError",
    "ImageMetadata",
    "Mosaic",
    "MosaicSource",
    "OmeTiffSink",
    "OutputImage",
    "PhysicalSize",
    "Plane",
    "Sink",
    "Source",
    "Volume",
    "Whole",
    "collect",
    "find_vectors",
    "image_files",
    "open_sink",
    "open_source",
    "output_name",
    "output_names",
    "part_stem",
    "read_mosaic",
    "read_sizes",
]
