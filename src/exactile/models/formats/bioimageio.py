"""Models of bioimage.io: a description with weights, as a folder or as a zip archive.

The description is read by bioimageio.spec, which is kept from reading anything else: no address is
fetched, no other file is opened. TorchScript weights are taken, else ONNX. Weights that need the
code of their architecture are refused, for that code would have to be run.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

from exactile.errors import ModelError
from exactile.models.formats.bioimageio_steps import steps_after, steps_before
from exactile.models.formats.bioimageio_tensor import Tensor as Described
from exactile.models.formats.bioimageio_tensor import tensor_of
from exactile.models.formats.content import (
    EXPORT,
    digest_of,
    first_line,
    open_archive,
    read_content,
    read_member,
)
from exactile.models.formats.onnx import onnx_network
from exactile.models.formats.reordered import Reordered
from exactile.models.formats.selection import listed, place_of
from exactile.models.formats.torchscript import input_of, torchscript_network
from exactile.models.network_file import NetworkFile

DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml")
"""Names of a description, the usual one first."""

RUN = ("torchscript", "onnx")
"""Kinds of weights that are run, the preferred first."""

MOST_LETTERS, MOST_VALUES, MOST_NESTED = 1 << 22, 100_000, 50
"""Of a description; real ones have some thousand letters, some hundred values, and ten levels."""


class _Package:
    """Where a description lies, and the files that it may name: those beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive: ZipFile | None = None
        if path.is_dir():
            found = described(sorted(entry.name for entry in path.iterdir()))
            if found is None:
                raise ModelError(f"{path}: holds no {DESCRIPTIONS[0]}; name a model's folder")
            self.folder, self.name = path, found
        elif path.suffix.lower() in (".yaml", ".yml"):
            self.folder, self.name = path.parent, path.name
        else:
            self.archive = open_archive(read_content(path), str(path))
            self.folder, self.name = path.parent, described(self.archive.namelist()) or ""
            if not self.name:
                raise ModelError(f"{path}: holds no {DESCRIPTIONS[0]}; name a model's archive")

    def read(self, name: str, what: str) -> bytes:
        """Return the bytes of the file `name`, which is relative to the description."""
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
            raise ModelError(f"{self.path}: {what} lies outside of the model ({name}); move it in")
        if self.archive is None:
            return read_content(self.folder / relative)
        member = str(PurePosixPath(self.name).parent / relative)
        if member not in self.archive.namelist():
            raise ModelError(f"{self.path}: {what} is missing from the archive ({name})")
        return read_member(self.archive, member, str(self.path))


def described(names: list[str]) -> str | None:
    """Return which of the members of an archive is a description, at its top or one folder down."""
    for depth in (1, 2):
        for wanted in DESCRIPTIONS:
            for name in names:
                parts = PurePosixPath(name).parts
                if len(parts) == depth and f".{parts[-1]}".endswith(f".{wanted}"):
                    return name
    return None


def load_bioimageio(path: Path, output: str | None = None) -> NetworkFile:
    """Load the model at `path`: a folder with a description, a description, or a zip archive.

    Of several outputs, that called `output` is taken.

    Raises:
        ModelError: if description or weights are missing or damaged, or if the model cannot be
            run exactly; the message names what prevents it.
    """
    package = _Package(path)
    description = _description(package)
    source = _only_input(description.inputs, str(path))
    described_outputs = tuple(_name(tensor) for tensor in description.outputs)
    place = place_of(
        described_outputs,
        output,
        str(path),
        f"{len(described_outputs)} tensors ({listed(described_outputs)})",
    )
    result = tensor_of(description.outputs[place], f"{path}: output {described_outputs[place]}")
    several = len(described_outputs) > 1
    kind, content = _weights(package, description.weights)
    weights = f"{path}: its {kind} weights"
    wanted = str(place) if several else None
    if kind == "onnx":
        folder = None if package.archive is not None else package.folder
        converted = onnx_network(content, weights, folder, wanted)
        network, digest, returned = converted.network, converted.sha256, converted.outputs
        channels: int | None = converted.shape[1]
        dimensions: int | None = len(converted.shape) - 2
    else:
        network, returned, _ = torchscript_network(content, weights, wanted)
        digest = digest_of(content)
        channels, dimensions = input_of(network)
    if several and len(returned) != len(described_outputs):
        raise ModelError(
            f"{path}: describes {len(described_outputs)} outputs, but its weights return "
            f"{max(len(returned), 1)}; correct the description"
        )
    usual = "bc" + source.space
    if (source.axes, result.axes) != (usual, usual):
        network = Reordered(network, source.axes, result.axes).eval()
    elif None not in (channels, source.channels) and channels != source.channels:
        raise ModelError(
            f"{path}: describes an input of {source.channels} channel(s), but its weights take "
            f"{channels}; correct the description"
        )
    elif dimensions not in (None, len(source.space)):
        raise ModelError(
            f"{path}: describes an input of {len(source.space)} spatial axes, but its weights take "
            f"{dimensions}; correct the description"
        )
    version = getattr(description, "version", None)
    return NetworkFile(
        name=str(description.name),
        version="" if version is None else str(version),
        format="bioimage.io",
        network=network,
        sha256=digest,
        channels=channels if source.channels is None else source.channels,
        dimensions=len(source.space),
        classes=result.channel_names,
        before=steps_before(source),
        after=steps_after(result),
        outputs=described_outputs if several else (),
        output=described_outputs[place] if several else "",
        declared_halo=(
            tuple(result.halo.get(letter, 0) for letter in source.space) if result.halo else None
        ),
    )


def _description(package: _Package) -> Any:
    """Return the description, checked by bioimageio.spec, of format 0.4 or 0.5."""
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description
    from bioimageio.spec.utils import read_yaml

    text = package.read(PurePosixPath(package.name).name, "its description")
    if len(text) > MOST_LETTERS:
        raise ModelError(f"{package.path}: its description is larger than any; copy it again")
    try:
        content = read_yaml(text.decode("utf-8"))
    except Exception as error:
        raise ModelError(
            f"{package.path}: its description is not YAML ({first_line(error)}); copy it again"
        ) from error
    if not isinstance(content, dict) or content.get("type", "model") != "model":
        raise ModelError(
            f"{package.path}: its description is not one of a model; name the folder of a model"
        )
    _refuse_growth(content, package.path)
    _refuse_references(content, package.path)
    root = package.folder if package.archive is None else package.archive
    with ValidationContext(
        root=root, file_name=package.name, perform_io_checks=False, log_warnings=False
    ) as context:
        description = build_description(
            {str(key): value for key, value in content.items()},
            context=context,
            format_version="discover",
        )
    if isinstance(description, InvalidDescr):
        errors = [e for detail in description.validation_summary.details for e in detail.errors]
        first = errors[0] if errors else None
        where = ".".join(filter(None, map(str, first.loc))) if first else "format_version"
        said = first.msg if first else "is not known"
        raise ModelError(
            f"{package.path}: its description is not valid: {where or 'the whole'}: {said}; "
            "correct it (bioimageio validate-format shows all errors)"
        )
    return description


def _refuse_growth(content: dict[Any, Any], path: Path) -> None:
    """Refuse a description that aliases make endless, or far larger than its text.

    A value that YAML names twice is one value here, and would be two to all that look at it.
    """
    level: list[Any] = [content]
    count = 0
    for _ in range(MOST_NESTED):
        containers = (each for each in level if isinstance(each, dict | list))
        values = (
            value
            for each in containers
            for value in (each.values() if isinstance(each, dict) else each)
        )
        level = list(islice(values, MOST_VALUES + 1 - count))
        count += len(level)
        if not level:
            return
        if count > MOST_VALUES:
            break
    raise ModelError(
        f"{path}: its description has more than {MOST_VALUES} values, or more than {MOST_NESTED} "
        "levels of them, as aliases in YAML make them; write it without aliases"
    )


def _refuse_references(content: dict[Any, Any], path: Path) -> None:
    """Refuse a description that names another: bioimageio.spec would fetch that one."""
    inputs = content.get("inputs")
    for tensor in inputs if isinstance(inputs, list) else []:
        other = tensor.get("output_of") if isinstance(tensor, dict) else None
        if other is not None:
            raise ModelError(
                f"{path}: takes the output of another model ({other}), and nothing is fetched; "
                "name a model that takes images"
            )


def _only_input(tensors: Any, what: str) -> Described:
    if len(tensors) != 1:
        names = ", ".join(map(_name, tensors))
        raise ModelError(
            f"{what}: describes {len(tensors)} inputs ({names}), but networks of one input are run "
            "here; wrap the network and describe that"
        )
    return tensor_of(tensors[0], f"{what}: input {_name(tensors[0])}")


def _name(tensor: Any) -> str:
    return str(getattr(tensor, "id", None) or tensor.name)


def _weights(package: _Package, described_weights: Any) -> tuple[str, bytes]:
    """Return kind and bytes of the preferred weights that are there, and check their digest."""
    entries = {
        kind: entry
        for kind in type(described_weights).model_fields
        if (entry := getattr(described_weights, kind)) is not None
    }
    reasons = []
    for kind in RUN:
        if kind not in entries:
            continue
        source = str(entries[kind].source)
        if "://" in source:
            reasons.append(f"its {kind} weights are an address ({source}), and nothing is fetched")
            continue
        content = package.read(source, f"the file of its {kind} weights")
        said = entries[kind].sha256
        if said is not None and digest_of(content) != str(said):
            raise ModelError(
                f"{package.path}: {source} has SHA-256 {digest_of(content)}, but the description "
                f"says {said}; the file is damaged or belongs to another model: copy it again"
            )
        return kind, content
    if reasons:
        raise ModelError(
            f"{package.path}: {reasons[0]}; download the whole model, with its weights, as a zip"
        )
    kinds = ", ".join(entries)
    why = (
        "a state dict needs the code of its architecture, which is never executed here"
        if "pytorch_state_dict" in entries
        else "they are of another framework"
    )
    raise ModelError(
        f"{package.path}: has weights as {kinds} only, and {why}; add TorchScript weights to the "
        f"description: {EXPORT}"
    )
