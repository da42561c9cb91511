"""Networks in ONNX as torch modules: a graph of nodes becomes calls of torch's own operators.

What is known of an operator stands in one function (`operators`); sizes are computed with whole
numbers beside the tensors (`numbers`), as exporters write them into the graph. A node without a
function, or with an attribute that none of them knows, is refused by name. Nothing here believes
itself: `exactile.models.formats.onnx` compares each network with ONNX Runtime before it is used.

Over the door: `build` and `Unsupported`. It imports torch, numpy and onnx, and nothing of exactile.
"""

from exactile.models.onnx.build import build
from exactile.models.onnx.registry import Unsupported

__all__ = ["Unsupported", "build"]
