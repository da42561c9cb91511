"""A small picture of each image with what was found in it, for people: outDir/exactile/previews.

It is a picture, not a result: made of single pixels (`exactile.report.samples`) that are picked as
the image is decoded and the output is written, so that nothing is read for it alone. Only what an
earlier run had stored is read again, from the files.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.finishing import OutputType
from exactile.geometry import PLANES, Box, Locality
from exactile.images import Plane, Sink, Source, open_source
from exactile.images.links import fresh, make_own_folder
from exactile.images.work_folder import temporary_name
from exactile.report.preview_drawing import Style, draw
from exactile.report.samples import Lattice, Samples

REPORT_FOLDER = "exactile"
"""The sub-folder of the output folder for all that is neither an image nor a certificate."""

FOLDER = "previews"

COMPRESSION = 3
"""Level of deflate: 6 takes more than twice the time, for files a fifteenth smaller."""

THRESHOLD = {"labels": 0.0, "probabilities": 0.5, "logits": 0.0}
"""Above which a single channel is foreground."""


def preview_path(output: Path) -> Path:
    """Return the path of the preview of the image `output`."""
    return output.parent / REPORT_FOLDER / FOLDER / f"{output.name}.png"


def remove_preview(output: Path) -> None:
    """Remove the preview of an `output` that is to be replaced: it would show another one."""
    with suppress(OSError):
        preview_path(output).unlink(missing_ok=True)


def style_of(output_type: OutputType, channels: int) -> Style:
    """Return how an output of `channels` is drawn: probabilities of two classes as heat."""
    return "heat" if output_type == "probabilities" and channels <= 2 else "classes"


class Preview:
    """The picture of one image in the making; it shows the middle of a stack, at its first time.

    A network for volumes may leave planes out, or scale them: then it is the plane of the output
    that lies there, as near as there is one.

    Of an image whose network takes three channels these are red, green and blue, else the first
    is grey.
    """

    def __init__(
        self,
        source: Source,
        channels: tuple[int, ...],
        locality: Locality,
        output_type: OutputType,
    ) -> None:
        self._source = source
        self._plane = Plane(0, source.size_z // 2)
        self._locality = locality
        self._found_plane = self._plane
        self._type: OutputType = output_type
        lattice = Lattice.over(source.shape)
        shown = channels if len(channels) == 3 else channels[:1]
        self._image = {c: Samples(lattice, source.dtype, _first) for c in shown}
        self._found: Samples | None = None
        self._style: Style = "classes"

    def follow(self, sink: Sink) -> None:
        """Pick samples from the image as it is decoded, and from what is written to `sink`."""
        image = sink.image
        self._begin_output(image.shape, image.size_c, image.size_z)
        self._source.watch = self._see_chunk
        sink.watch = self._see_output

    def save(self, output: Path) -> None:
        """Write the picture, after what is missing has been read from the image and `output`.

        Raises:
            OSError: if it cannot be written; nothing has its name then.
            ImageError: if one of the two files cannot be read.
        """
        self._source.watch = None
        for channel, samples in self._image.items():
            samples.complete(self._source, self._plane, (channel,))
        if self._found is None or self._found.missing.any():
            with open_source(output) as source:
                found = self._found or self._begin_output(
                    source.shape, source.size_c, source.size_z
                )
                found.complete(source, self._found_plane, tuple(range(source.size_c)))
        assert self._found is not None
        picture = draw(
            [samples.values for samples in self._image.values()], self._found.values, self._style
        )
        path = preview_path(output)
        partial = path.with_name(temporary_name(path.name))
        make_own_folder(path.parent, output.parent)
        try:
            picture.save(fresh(partial), "PNG", compress_level=COMPRESSION)
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def fullest(self) -> tuple[int, float]:
        """Return the most frequent class among the samples of a finished picture, and its share.

        Class 0 and 0.0 where the picture does not show classes.
        """
        if self._found is None or self._style != "classes":
            return 0, 0.0
        values = self._found.values[self._found.lattice.inside]
        counts = np.bincount(values, minlength=1)
        number = int(counts.argmax())
        return number, float(counts[number] / max(values.size, 1))

    def _begin_output(self, shape: tuple[int, int], channels: int, size_z: int) -> Samples:
        for axis in self._locality.axes[:-PLANES]:
            z = int((self._plane.z - axis.crop.low) * axis.scale)
            self._found_plane = Plane(0, min(max(z, 0), size_z - 1))
        lattice = next(iter(self._image.values())).lattice.of_output(self._locality, shape)
        self._style = style_of(self._type, channels)
        reduce = _heat if self._style == "heat" else self._classes
        self._found = Samples(lattice, np.dtype(np.uint8), reduce)
        return self._found

    def _see_chunk(self, plane: Plane, channel: int, box: Box, pixels: NDArray[Any]) -> None:
        if plane == self._plane and channel in self._image:
            self._image[channel].add(box, pixels[None])

    def _see_output(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        if plane == self._found_plane and self._found is not None:
            self._found.add(box, pixels)

    def _classes(self, output: NDArray[Any]) -> NDArray[np.uint8]:
        """Return class numbers for samples (C, Y, X) of the output; those beyond 255 begin again.

        Class 0 alone is 0.
        """
        if len(output) > 1:
            classes = output.argmax(0)
        elif self._type == "labels":
            classes = output[0].astype(np.int64)
        else:
            classes = (output[0] > THRESHOLD[self._type]).astype(np.int64)
        numbers: NDArray[np.uint8] = np.where(
            classes > 255, (classes - 1) % 255 + 1, classes
        ).astype(np.uint8)
        return numbers


def _first(samples: NDArray[Any]) -> NDArray[Any]:
    first: NDArray[Any] = samples[0]
    return first


def _heat(probabilities: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the last channel, of a range from 0 to 1, as 0 to 255."""
    levels: NDArray[np.uint8] = np.rint(np.clip(probabilities[-1], 0, 1) * 255).astype(np.uint8)
    return levels
