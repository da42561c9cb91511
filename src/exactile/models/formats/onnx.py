"""ONNX: the graph becomes calls of torch's operators, which are traced as those of any network.

Nothing is believed of that: the network must agree with ONNX Runtime on noise, at several sizes,
before it is used (`onnx_agreement`). All of that is first done in a process that can do no harm
(`trial`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from exactile.errors import ModelError
from exactile.isolation import Tell, can_confine
from exactile.models.formats.content import digest_of, first_line, prepared, read_content
from exactile.models.formats.onnx_agreement import compare
from exactile.models.formats.onnx_external import load_external
from exactile.models.formats.onnx_outputs import choose_output
from exactile.models.formats.reordered import Reordered
from exactile.models.formats.trial import try_out
from exactile.models.network_file import NetworkFile

ADVICE = "export the network as TorchScript or with torch.export"

TO_CHANNELS_FIRST = {4: [0, 3, 1, 2], 5: [0, 4, 1, 2, 3]}
TO_CHANNELS_LAST = {4: [0, 2, 3, 1], 5: [0, 2, 3, 4, 1]}
"""Orders of a Transpose by which networks of channels-last frameworks begin and end."""

SECONDS = 120
"""What conversion and comparison may take."""

AXES = {4: ("bcyx", "byxc"), 5: ("bczyx", "bzyxc")}
"""Letters of the axes by their number, with the channels first and last."""


@dataclass(frozen=True)
class OnnxNetwork:
    """A network in the axes of its file."""

    network: nn.Module
    shape: tuple[int | None, ...]
    """Of the input, as declared; None for sides that are free."""
    axes: tuple[str, str]
    """Letters of the axes of input and output."""
    sha256: str
    """Digest of the file, and of those beside it that hold its tensors."""
    outputs: tuple[str, ...]
    """Names of the outputs, where there are several."""
    output: str
    """Which of them it returns."""


def load_onnx(path: Path, output: str | None = None) -> NetworkFile:
    """Load the ONNX model at `path`; tensors in files beside it are read as well.

    Of several outputs, that called `output` is taken.

    Raises:
        ModelError: if it cannot be loaded or converted, has not one input, or not the output, or
            if the packages of the extra `onnx` are missing.
    """
    content = read_content(path)
    loaded = onnx_network(content, str(path), path.parent, output)
    return NetworkFile(
        name=path.stem,
        version="",
        format="ONNX",
        network=in_usual_axes(loaded.network, loaded.axes),
        sha256=loaded.sha256,
        channels=loaded.shape[loaded.axes[0].index("c")],
        dimensions=len(loaded.shape) - 2,
        outputs=loaded.outputs,
        output=loaded.output,
    )


def onnx_network(
    content: bytes, what: str, folder: Path | None, wanted: str | None = None
) -> OnnxNetwork:
    """Return the network of the model in `content`, in the axes of the model.

    It returns the output `wanted`, which must be named where there are several.

    `what` names the file in a refusal; `folder` is where files with tensors lie, if anywhere.

    Raises:
        ModelError: as `load_onnx` does.
    """
    try:
        onnx = importlib.import_module("onnx")
        importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ModelError(
            f"{what}: is an ONNX model, which needs packages that are not installed "
            f"({first_line(error)}); run: pip install 'exactile[onnx]'"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ModelError(
            f"{what}: is not an ONNX model, or a damaged one ({first_line(error)}); copy or "
            "export it again"
        ) from error
    parts = load_external(onnx, model, what, folder)
    image = _only_input(model, what)
    outputs, chosen = choose_output(model, wanted, what)
    output = model.graph.output[0]
    shape = _shape_of(image, what)
    result = _declared(output) if len(_declared(output)) == len(shape) else (None,) * len(shape)
    axes = (
        _axes(shape, _movers(model, image.name, taken=True), TO_CHANNELS_FIRST),
        _axes(result, _movers(model, output.name, taken=False), TO_CHANNELS_LAST),
    )

    def compared() -> nn.Module:
        network = _convert(model, image.name, output.name, what)
        compare(model, network, image.name, output.name, shape, axes[0], what)
        return network

    def tried(tell: Tell) -> tuple[nn.Module, int | None, int]:
        tell("it was converted to torch and compared with ONNX Runtime")
        channels = shape[axes[0].index("c")]
        return in_usual_axes(compared(), axes), channels, len(shape) - 2

    try_out(tried, len(content) + sum(map(len, parts)), what, SECONDS)
    network = _convert(model, image.name, output.name, what) if can_confine() else compared()
    digest = digest_of(content, *parts)
    return OnnxNetwork(prepared(network, what), shape, axes, digest, outputs, chosen)


def in_usual_axes(network: nn.Module, axes: tuple[str, str]) -> nn.Module:
    """Return a network that takes and returns (N, channels, *extent)."""
    usual = AXES[len(axes[0])][0]
    return network if axes == (usual, usual) else Reordered(network, *axes).eval()


def _only_input(model: Any, what: str) -> Any:
    """Return the declaration of the one input."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(
            f"{what}: takes {len(inputs)} inputs ({names}), but networks of one image are run "
            "here; export it so that it takes the image alone"
        )
    return inputs[0]


def _declared(value: Any) -> tuple[int | None, ...]:
    return tuple(side.dim_value or None for side in value.type.tensor_type.shape.dim)


def _shape_of(image: Any, what: str) -> tuple[int | None, ...]:
    kind = image.type.tensor_type.elem_type
    if kind != 1:  # TensorProto.FLOAT
        name = importlib.import_module("onnx").TensorProto.DataType.Name(kind)
        raise ModelError(
            f"{what}: takes {name}, but networks run in float32 here; export one that takes FLOAT"
        )
    shape = _declared(image)
    if len(shape) not in AXES:
        raise ModelError(
            f"{what}: declares an input of {len(shape)} dimensions; export a network that takes "
            "(N, channels, Y, X), or (N, channels, Z, Y, X)"
        )
    return shape


def _movers(model: Any, name: str, taken: bool) -> list[Any]:
    """Return the nodes that take the value `name`, or the one that makes it."""
    return [node for node in model.graph.node if name in (node.input if taken else node.output)]


def _axes(shape: tuple[int | None, ...], nodes: list[Any], order: dict[int, list[int]]) -> str:
    """Return the letters of a value's axes: the channels are where a number is declared.

    Where that leaves it open, the Transpose beside it tells; else the channels come first.
    """
    dims = len(shape)
    moved = any(
        node.op_type == "Transpose"
        and any(list(entry.ints) == order[dims] for entry in node.attribute)
        for node in nodes
    )
    if (shape[1] is None) != (shape[-1] is None):
        return AXES[dims][int(shape[1] is None)]
    return AXES[dims][int(moved)]


def _convert(model: Any, image: str, output: str, what: str) -> nn.Module:
    from exactile.models.onnx import Unsupported, build

    try:
        return build(model, image, output)
    except Unsupported as error:
        raise ModelError(f"{what}: cannot be converted to torch: {error}; {ADVICE}") from error
