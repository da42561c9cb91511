"""TorchScript: a file that `torch.jit.save` wrote, with the network's code and its weights.

The code in such a file is of TorchScript's own language, which torch interprets. Its code and its
pickles are judged before torch reads them (`script_archive`), the graph that torch makes of them
before it is run, and the first run is one in a process that can do no harm (`trial`).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.locality.scriptlists import settle_lists
from exactile.models.formats.content import (
    LOADING_ERRORS,
    digest_of,
    first_line,
    prepared,
    read_content,
)
from exactile.models.formats.operators import PRIMITIVES, is_operator
from exactile.models.formats.script_archive import harmless_script
from exactile.models.formats.script_outputs import choose_output
from exactile.models.formats.trial import try_out
from exactile.models.network_file import NetworkFile

CONVOLUTIONS = {
    "aten::conv2d": 6,
    "aten::conv3d": 6,
    "aten::_convolution": 8,
    "aten::_convolution_mode": 6,
}
"""Convolutions, with the place of their number of groups among the arguments."""

KEEPS_CHANNELS = (
    "aten::add",
    "aten::sub",
    "aten::mul",
    "aten::div",
    "aten::clamp",
    "aten::to",
    "aten::contiguous",
    "aten::float",
    "aten::pad",
    "aten::reflection_pad2d",
    "aten::reflection_pad3d",
    "aten::replication_pad2d",
    "aten::replication_pad3d",
    "aten::constant_pad_nd",
)
"""Operators whose result has the channels of their first argument."""


def load_torchscript(path: Path, output: str | None = None) -> NetworkFile:
    """Load the TorchScript module at `path`; of several outputs, that called `output`.

    Channels and dimensions are those of the convolution that takes the image; where none does so
    directly, they are not known.

    Raises:
        ModelError: if it cannot be loaded, or has not one input, or not the output.
    """
    content = read_content(path)
    network, outputs, chosen = torchscript_network(content, str(path), output)
    channels, dimensions = input_of(network)
    return NetworkFile(
        name=path.stem,
        version="",
        format="TorchScript",
        network=network,
        sha256=digest_of(content),
        channels=channels,
        dimensions=dimensions,
        outputs=outputs,
        output=chosen,
    )


def torchscript_network(
    content: bytes, what: str, output: str | None = None
) -> tuple[nn.Module, tuple[str, ...], str]:
    """Return the module in `content`, ready to run; `what` names the file in a refusal.

    It returns the output `output`, whose own name and those of all come with it where they are
    several.

    Raises:
        ModelError: as `load_torchscript` does.
    """
    checked = harmless_script(content, what)
    try_out(lambda _: _described_network(checked, output, what), len(checked), what)
    return _loaded(checked, output, what)


def _described_network(
    checked: bytes, output: str | None, what: str
) -> tuple[nn.Module, int | None, int | None]:
    network, *_ = _loaded(checked, output, what)
    return network, *input_of(network)


def _loaded(
    checked: bytes, output: str | None, what: str
) -> tuple[nn.Module, tuple[str, ...], str]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            network: Any = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(checked), map_location="cpu"
            )
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{what}: cannot be loaded as TorchScript: {_reason(error)}; copy it again, or save "
            "it again with torch.jit.save"
        ) from error
    _check_signature(network, what)
    _refuse_other_operators(network.inlined_graph, what)
    try:
        settle_lists(network)
    except ModelError as error:
        raise ModelError(f"{what}: {error}") from error
    chosen, outputs, name = choose_output(network, output, what)
    return prepared(chosen, what), outputs, name


def input_of(network: nn.Module) -> tuple[int | None, int | None]:
    """Return channels and spatial dimensions of the convolution that takes the image itself.

    Element-wise arithmetic with it, casts and padding may come before. Both are None where there
    is no such convolution.
    """
    graph: Any = network.inlined_graph
    image = list(graph.inputs())[1].debugName()
    same = {image}
    for node in graph.nodes():
        kind, inputs = node.kind(), list(node.inputs())
        if not inputs or inputs[0].debugName() not in same:
            continue
        if kind in KEEPS_CHANNELS:
            same.update(output.debugName() for output in node.outputs())
        elif kind in CONVOLUTIONS:
            weight = _tensor(network, inputs[1])
            groups = inputs[CONVOLUTIONS[kind]].toIValue()
            transposed = kind == "aten::_convolution" and inputs[6].toIValue() is not False
            if weight is None or not isinstance(groups, int) or transposed:
                return None, None
            return weight.shape[1] * groups, weight.ndim - 2
    return None, None


def _tensor(network: nn.Module, value: Any) -> torch.Tensor | None:
    """Return the weight that a value of the graph stands for: a constant, or an attribute."""
    node, names = value.node(), []
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = next(node.inputs()).node()
    found: Any = network if names else value.toIValue()
    for name in reversed(names):
        found = getattr(found, name, None)
    return found if isinstance(found, torch.Tensor) else None


def _refuse_other_operators(block: Any, what: str) -> None:
    """Refuse what is not listed in the graph that torch made of the code, before it is run."""
    for node in block.nodes():
        space, _, name = node.kind().partition("::")
        if not (name in PRIMITIVES if space == "prim" else space == "aten" and is_operator(name)):
            raise ModelError(
                f"{what}: its graph calls {node.kind()}, which is no operator of torch's networks; "
                "export the network without it"
            )
        for inner in node.blocks():
            _refuse_other_operators(inner, what)


def _check_signature(network: Any, what: str) -> None:
    """Refuse a module that does not take one tensor."""
    if not callable(getattr(network, "forward", None)):
        raise ModelError(f"{what}: has no method forward; save the network itself")
    schema = network.forward.schema
    needed = [a.name for a in schema.arguments[1:] if not a.has_default_value()]
    if len(needed) != 1:
        raise ModelError(
            f"{what}: takes {len(needed)} inputs ({', '.join(needed)}), but networks of one image "
            "are run here; wrap it so that it takes the image alone, and export that"
        )


def _reason(error: BaseException) -> str:
    """Return what torch says, without the place in its C++ code."""
    said = first_line(error)
    for line in str(error).splitlines():
        if "Unknown builtin op" in line:
            said = line.strip()
    return said
