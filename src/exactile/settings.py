"""Everything a user can set, validated once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from exactile.engine import EngineName, Precision
from exactile.errors import SettingsError
from exactile.finishing import OutputType
from exactile.images import DEFAULT_PATTERN
from exactile.images.zarr_layout import DEFAULT_VERSION, NgffVersion, is_zarr_name
from exactile.memory.size import parse_size_in_bytes
from exactile.models.loading import BUNDLED
from exactile.models.told import Told, parse_channel_count
from exactile.normalization import parse_normalization
from exactile.processing import Before
from exactile.shard import Shard, parse_shard

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class SegmentSettings(BaseModel):
    """The options of `exactile segment`; each field is the option of the same name in camelCase.

    Workflow engines send text, and an empty text for what was left blank: both are understood.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    inp_dir: Path
    """Folder of the images; its sub-folder `images` if that is where they are."""
    out_dir: Path
    """Folder for the results; made if it is missing. Only images are written at its top."""
    file_pattern: str = DEFAULT_PATTERN
    """Which files of `inp_dir` are segmented: a filepattern, matched against whole names."""
    stitching_vector: Path | None = None
    """A stitching vector, or a folder of some: the files of each are segmented as one image."""
    mosaic_output: Literal["image", "files"] = "image"
    """What comes of a mosaic: one image named after the vector, or files as those of the input."""
    model: Path = BUNDLED
    """The model: a folder with a card, a bioimage.io description, or a file of a known format."""
    output: str | None = None
    """Which of a model's several outputs is segmented: its name, or its place from 0."""
    channels: int | None = None
    """How many channels the model takes, where its file does not say and several run."""
    normalization: tuple[Before, ...] | None = None
    """How images are normalised, for a model that does not say so itself."""
    statistics: Path | None = None
    """Folder of statistics that `exactile statistics` measured; else each image is measured."""
    output_type: OutputType = "labels"
    """uint8 class numbers, or float32 probabilities or logits with one channel for each class."""
    output_meaning: Literal["auto", "logits", "probabilities", "classes"] = "auto"
    """What the model's output means: auto is what its last operators prove."""
    strategy: Literal["auto", "tile", "exchange"] = "auto"
    """Tiles with halos, parts that exchange theirs, or what is predicted to cost less."""
    tile_size: Literal["auto"] | int = "auto"
    """Side of the windows that run through the network, in pixels, halos included."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, or cuda:N."""
    precision: Precision = "float32"
    """Arithmetic of the network."""
    engine: EngineName = "auto"
    """What runs the network: eager PyTorch, torch.compile, OpenVINO, or the fastest there is."""
    memory: Literal["auto"] | int = "auto"
    """Bytes that the run may use beyond its base; auto: what the device or the machine has left."""
    channel: tuple[int, ...] | None = None
    """Channels of the images that the network gets, from 0; by default all of them."""
    verify: int = 0
    """How many zones of each image are run again, in larger windows, and compared."""
    resume: Literal["auto", "true", "false"] = "auto"
    """What an earlier run left: auto goes on with it where everything matches and else begins anew;
    true refuses where something differs; false begins anew and does all again."""
    shard: Shard | None = None
    """Which part of the work is this worker's, such as 0/3; each result is then parts, which
    `exactile assemble` puts together."""
    pyramid: bool = False
    """Write smaller levels into the results, each half the one before, for viewers."""
    zarr_version: NgffVersion = DEFAULT_VERSION
    """Which version of OME-Zarr is written, where results are OME-Zarr."""
    preview: bool = False
    """Only write outDir/preview.json, the names of the results, and stop."""
    extension: str | None = Field(default=None, alias="POLUS_IMG_EXT")
    """Extension of the results (environment POLUS_IMG_EXT); by default the input's."""

    @model_validator(mode="before")
    @classmethod
    def _blank_is_absent(cls, values: Any) -> Any:
        return {key: value for key, value in values.items() if value not in ("", None)}

    @field_validator("tile_size", mode="before")
    @classmethod
    def _tile_from_text(cls, value: Any) -> Any:
        text = str(value).strip()
        if text == "auto":
            return text
        if not text.isdecimal() or int(text) < 1:
            raise ValueError("is not a window side in pixels; use auto, or a number such as 1216")
        return int(text)

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes_from_text(cls, value: Any) -> Any:
        text = str(value).strip()
        return text if text == "auto" else parse_size_in_bytes(text)

    @field_validator("verify", mode="before")
    @classmethod
    def _count_from_text(cls, value: Any) -> Any:
        if not str(value).strip().isdecimal():
            raise ValueError("is not a number of zones; use 0 for none, or a number such as 5")
        return int(value)

    @field_validator("channels", mode="before")
    @classmethod
    def _channel_count_from_text(cls, value: Any) -> Any:
        return parse_channel_count(value)

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("is not a device; use auto, cpu, cuda, or cuda:N")
        return value

    @field_validator("normalization", mode="before")
    @classmethod
    def _steps_from_text(cls, value: Any) -> Any:
        return parse_normalization(value) if isinstance(value, str) else value

    @field_validator("shard", mode="before")
    @classmethod
    def _shard_from_text(cls, value: Any) -> Any:
        return parse_shard(value) if isinstance(value, str) else value

    @field_serializer("shard")
    def _shard_as_text(self, value: Shard | None) -> str | None:
        return None if value is None else str(value)

    @field_validator("channel", mode="before")
    @classmethod
    def _channels_from_text(cls, value: Any) -> Any:
        parts = (
            [part.strip() for part in str(value).split(",")] if isinstance(value, str) else value
        )
        if isinstance(parts, list) and not all(part.isdecimal() for part in parts):
            raise ValueError("is not a channel; use a number from 0, or several such as 0,2")
        return parts

    @property
    def told(self) -> Told:
        """What is said of the model, where its file leaves it open."""
        return Told(self.normalization, self.channels, self.output, self.output_meaning)

    def zarr_version_of(self, output: str) -> NgffVersion | None:
        """Return the version in which the result `output` is written; None for an OME-TIFF."""
        return self.zarr_version if is_zarr_name(output) else None

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Return the settings for `options`, named as on the command line.

        Raises:
            SettingsError: naming the option, what was given, and what is allowed.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(e, options) for e in error.errors())) from error


def _explain(problem: Any, options: dict[str, Any]) -> str:
    name = str(problem["loc"][0])
    option = name if name.isupper() else f"--{name}"
    if problem["type"] == "missing":
        return f"{option} is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "literal_error":
        message = f"is not one of {problem['ctx']['expected']}"
    return f"{option} {options.get(name)!r} {message}"
