"""The words about each option of `exactile segment`: the one table that all manifests come from.

A new option is a field of the settings, a parameter of the command line, and an entry here;
`python -m exactile.manifests` does the rest. Whether it is required, its choices and its default
come from the settings and are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["images", "results", "model", "folder", "vector"]
"""What a path leads to: the folder of images, the folder of results, a model's folder or file, a
folder of another kind, or the folder or file of a stitching vector."""


@dataclass(frozen=True)
class Option:
    """What people and forms are told about one option."""

    name: str
    """As on the command line, without the dashes."""
    title: str
    """Its label in a form."""
    description: str
    """What it is, in one sentence without a full stop."""
    hint: str
    """What may be given, and what follows from it; shown beside the field."""
    role: Role | None = None
    """What it leads to, if it is a path; None for all other options."""
    hidden: bool = False
    """Whether forms leave it out: it is for the engine, not for people."""


OPTIONS = (
    Option(
        "inpDir",
        "Images",
        "Image collection to segment: OME-TIFF or OME-Zarr of any size",
        "The collection to segment. Each image may be larger than memory.",
        role="images",
    ),
    Option(
        "outDir",
        "Results",
        "The segmented images: the same names and sizes as the input's",
        "Folder for the results. Only images are written at its top.",
        role="results",
    ),
    Option(
        "filePattern",
        "File pattern",
        "Which files of the collection are segmented: a filepattern, matched against whole names",
        "A filepattern or regular expression on whole file names.",
    ),
    Option(
        "stitchingVector",
        "Stitching vector",
        "Segments the files that each vector places as one image, without assembling it",
        "Leave blank if the images are not the tiles of a mosaic.",
        role="vector",
    ),
    Option(
        "mosaicOutput",
        "Mosaic output",
        "What comes of a mosaic: one image, or files of the names and sizes of the input's",
        "Only with a stitching vector.",
    ),
    Option(
        "model",
        "Model",
        "The model: its folder or file; blank for the bundled model of stem-cell colonies",
        "A folder with model.json and weights, a bioimage.io description, or one TorchScript, "
        "torch.export or ONNX file. Leave blank for the bundled model (colonies of stem cells in "
        "phase contrast).",
        role="model",
    ),
    Option(
        "output",
        "Model output",
        "Which of the model's several outputs is segmented: its name, or its number from 0; blank "
        "if it has one",
        "Only for a model that returns several tensors. exactile inspect lists their names.",
    ),
    Option(
        "channels",
        "Model channels",
        "How many channels the model takes, where its file does not say; blank if it does",
        "A number such as 3. Which of the images' channels these are is said by Channel.",
    ),
    Option(
        "normalization",
        "Normalization",
        "How images are normalised, for a model that does not say so itself: none, zscore, "
        "minmax, percentile:lo:hi or scale:a:b",
        "Only for a model that does not say: none, zscore, minmax, percentile:1:99.8, "
        "scale:0.0039:0 (a * x + b). Always of the whole image.",
    ),
    Option(
        "statistics",
        "Statistics",
        "Statistics of the whole images, measured before; blank to measure each image",
        "The results of exactile statistics for these images; leave blank to measure them here.",
        role="folder",
    ),
    Option(
        "outputType",
        "Output",
        "What is written: uint8 labels, or float32 probabilities or logits with a channel for "
        "each class",
        "Labels for most next steps; probabilities or logits to go on computing.",
    ),
    Option(
        "outputMeaning",
        "Output meaning",
        "What the model's output means, for a model that does not say: auto is what its last "
        "operators prove",
        "logits are numbers of both signs, probabilities lie from 0 to 1, classes are numbers of "
        "classes in one channel.",
    ),
    Option(
        "strategy",
        "Strategy",
        "How large images are run: in tiles with halos, in parts that exchange theirs, or as costs "
        "less",
        "exchange also runs networks that look at the whole image, such as those with instance "
        "norm. The result is that of one pass.",
    ),
    Option(
        "tileSize",
        "Tile size",
        "Side in pixels of the windows that run through the network, halos included, or auto",
        "auto, or a number of pixels such as 1216. The result is the same for all sizes.",
    ),
    Option(
        "device",
        "Device",
        "Where the network runs: auto, cpu, cuda or cuda:N",
        "auto takes a GPU if the container has one.",
    ),
    Option(
        "precision",
        "Precision",
        "Arithmetic of the network",
        "bfloat16 is faster on recent processors; exact against a whole-image pass in bfloat16.",
    ),
    Option(
        "engine",
        "Engine",
        "What runs the network: eager PyTorch, torch.compile, OpenVINO, or the fastest that is "
        "there",
        "Each is exact against a whole-image pass of its own; auto takes the fastest.",
    ),
    Option(
        "memory",
        "Memory",
        "Memory that the run may use beyond its base, such as 8GB, or auto for what the device "
        "or the container has left",
        "auto, or a size such as 8GB; windows are made as large as is useful within it.",
    ),
    Option(
        "channel",
        "Channel",
        "Channels of the images that the network gets, numbered from 0, such as 1 or 0,2; blank "
        "for all",
        "Numbers from 0, separated by commas. Leave blank if the images have as many channels as "
        "the model takes.",
    ),
    Option(
        "verify",
        "Verify",
        "How many zones of each image are run again in larger windows, and compared bit by bit",
        "A number of zones to run again in larger windows as a check of exactness; 0 for none.",
    ),
    Option(
        "resume",
        "Resume",
        "Whether to go on with what an interrupted run left: where everything matches, always, "
        "or never",
        "auto goes on where settings, input and model match; true refuses where they do not; "
        "false begins anew.",
    ),
    Option(
        "shard",
        "Shard",
        "Only a part of the work, such as 0/3 for the first of three; blank for all of it",
        "Index and count, such as 0/3. The results are parts: exactile assemble joins them.",
    ),
    Option(
        "pyramid",
        "Pyramid",
        "Write smaller levels into the results too, each half the one before",
        "Viewers show a large result at once then. Probabilities grow by a third, labels by more.",
    ),
    Option(
        "zarrVersion",
        "OME-Zarr version",
        "Which version of OME-Zarr is written, where results are OME-Zarr",
        "0.4 is what every reader knows; 0.5 (Zarr 3) is known to the newer ones.",
    ),
    Option(
        "preview",
        "Preview",
        "Only write preview.json, the names of the results",
        "Only list the names of the results.",
        hidden=True,
    ),
)
