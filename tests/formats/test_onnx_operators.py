"""Operators of ONNX: each gives what ONNX Runtime gives, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_networks import refuse

from exactile.locality import analyze
from exactile.models.formats import open_network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CHANNELS = 4
INT64 = onnx.TensorProto.INT64
FLOAT = onnx.TensorProto.FLOAT


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return onnx.helper.make_node(kind, names, output.split(), **attributes)


def on(kind: str, more: str = "", **attributes: Any) -> list[Any]:
    """One operator between two convolutions, on the tensor `a`, whose result is `b`."""
    return [node(kind, f"a {more}", "b", **attributes)]


def write(
    path: Path,
    nodes: list[Any],
    constants: dict[str, Any],
    opset: int = 17,
    channels: int = CHANNELS,
    shape: tuple[Any, ...] = ("n", 1, "y", "x"),
    result: tuple[Any, ...] = ("n", None, "p", "q"),
) -> Path:
    """Write a network: a convolution to `a`, `nodes`, and a convolution of `b`."""
    random = np.random.default_rng(3)
    weights = {
        "first": random.standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32),
        "last": random.standard_normal((2, channels, 3, 3)).astype(np.float32),
        **{name: np.asarray(value) for name, value in constants.items()},
    }
    graph = onnx.helper.make_graph(
        [
            node("Conv", "image first", "a", pads=[1] * 4),
            *nodes,
            node("Conv", "b last", "output", pads=[1] * 4),
        ],
        "network",
        [onnx.helper.make_tensor_value_info("image", FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("output", FLOAT, result)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def agree(path: Path, side: tuple[int, int] = (44, 52)) -> torch.nn.Module:
    """Check a network against ONNX Runtime, at a size at which it was not compared before."""
    network = open_network(path).network
    image = np.random.default_rng(9).standard_normal((1, 1, *side), dtype=np.float32)
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"image": image})[0]
    with torch.inference_mode():
        found = network(torch.from_numpy(image)).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    return network


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


ONES = floats(1.2, 0.7, 1.1, 0.9)
TWICE = {"scales": floats(1, 1, 2, 2)}
HALF = {"scales": floats(1, 1, 0.5, 0.5)}
SAME = {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]}

ALONE = [
    *["Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Mish", "Neg", "Relu"],
    *["Round", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "Elu", "Celu", "Selu"],
    *["LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Shrink", "Identity", "Dropout"],
]

NODES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    **{kind: (on(kind), {}, 20 if kind in ("Mish", "HardSwish") else 17) for kind in ALONE},
    "Gelu": (on("Gelu"), {}, 20),
    "Gelu by tanh": (on("Gelu", approximate="tanh"), {}, 20),
    "Add": (on("Add", "k"), {"k": floats(0.5)}, 17),
    "Pow": (
        [node("Abs", "a", "c"), node("Pow", "c k", "b")],
        {"k": floats(2.5)},
        17,
    ),
    "Max of several": (on("Max", "a k"), {"k": floats(0.1)}, 17),
    "Mean of several": (on("Mean", "a k"), {"k": floats(0.1)}, 17),
    "Clip with inputs": (on("Clip", "k -"), {"k": np.float32(-0.2)}, 17),
    "Clip with attributes": (on("Clip", min=-0.2, max=0.3), {}, 6),
    "Where": (
        [node("Greater", "a k", "c"), node("Where", "c a k", "b")],
        {"k": floats(0.1)},
        17,
    ),
    "PRelu of channels": (on("PRelu", "k"), {"k": ONES.reshape(4, 1, 1)}, 17),
    "batch norm below opset 14": (
        on("BatchNormalization", "k k k v"),
        {"k": ONES, "v": ONES * 2},
        9,
    ),
    "batch norm": (on("BatchNormalization", "k k k v"), {"k": ONES, "v": ONES * 2}, 15),
    "layer norm over channels": (
        [
            node("Transpose", "a", "c", perm=[0, 2, 3, 1]),
            node("LayerNormalization", "c k k", "d", axis=-1),
            node("Transpose", "d", "b", perm=[0, 3, 1, 2]),
        ],
        {"k": ONES},
        17,
    ),
    "LpNormalization": (on("LpNormalization", axis=1), {}, 17),
    "LRN": (on("LRN", size=3), {}, 17),
    "softmax over channels": (on("Softmax", axis=1), {}, 17),
    "log-softmax over channels": (on("LogSoftmax", axis=1), {}, 17),
    "SAME_UPPER": ([node("Conv", "a k", "b", **SAME)], {"k": np.ones((4, 4, 3, 3), "f4")}, 17),
    "SAME_LOWER of an even kernel": (
        [node("Conv", "a k", "b", auto_pad="SAME_LOWER")],
        {"k": np.arange(64, dtype="f4").reshape(4, 4, 2, 2) / 64},
        17,
    ),
    "SAME_UPPER with strides": (
        [
            node("Conv", "a k", "c", strides=[2, 2], **SAME),
            node("Resize", "c - scales", "b", mode="nearest"),
        ],
        {"k": np.arange(144, dtype="f4").reshape(4, 4, 3, 3) / 144, **TWICE},
        17,
    ),
    "margins of a convolution that differ": (
        [node("Conv", "a k", "b", pads=[0, 1, 2, 1], dilations=[1, 1])],
        {"k": np.arange(144, dtype="f4").reshape(4, 4, 3, 3) / 144},
        17,
    ),
    "weights behind an identity": (
        [node("Identity", "k", "w"), node("Conv", "a w", "b", pads=[1] * 4)],
        {"k": np.ones((4, 4, 3, 3), "f4")},
        17,
    ),
    "weights that are computed": (
        [node("Mul", "k s", "w"), node("Conv", "a w", "b", pads=[1] * 4)],
        {"k": np.ones((4, 4, 3, 3), "f4"), "s": floats(0.3)},
        17,
    ),
    "transposed convolution": (
        [
            node("MaxPool", "a", "c", kernel_shape=[2, 2], strides=[2, 2]),
            node("ConvTranspose", "c k", "b", strides=[2, 2], output_padding=[1, 1], pads=[1] * 4),
        ],
        {"k": np.arange(144, dtype="f4").reshape(4, 4, 3, 3) / 144},
        17,
    ),
    "transposed convolution, SAME_UPPER": (
        [
            node("MaxPool", "a", "c", kernel_shape=[2, 2], strides=[2, 2]),
            node("ConvTranspose", "c k", "b", strides=[2, 2], auto_pad="SAME_UPPER"),
        ],
        {"k": np.arange(144, dtype="f4").reshape(4, 4, 3, 3) / 144},
        17,
    ),
    "largest of margins that differ": (
        on("MaxPool", kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
        {},
        17,
    ),
    "mean in which margins count": (
        on("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        {},
        17,
    ),
    "mean in which margins do not count": (
        on("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
        {},
        17,
    ),
    "mean of margins that differ": (
        [
            node("AveragePool", "a", "c", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]),
            node("Resize", "c - scales", "b", mode="nearest"),
        ],
        TWICE,
        17,
    ),
    "reflected margins": (
        [
            node("Pad", "a pads", "c", mode="reflect"),
            node("AveragePool", "c", "b", kernel_shape=[3, 3]),
        ],
        {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        17,
    ),
    "repeated margins on axes": (
        [
            node("Pad", "a pads - axes", "c", mode="edge"),
            node("AveragePool", "c", "b", kernel_shape=[3, 3]),
        ],
        {"pads": ints(1, 1, 1, 1), "axes": ints(2, 3)},
        18,
    ),
    "halves and back": (
        [
            node("SpaceToDepth", "a", "c", blocksize=2),
            node("Sigmoid", "c", "d"),
            node("DepthToSpace", "d", "b", blocksize=2),
        ],
        {},
        17,
    ),
    "pixel shuffle": (
        [
            node("SpaceToDepth", "a", "c", blocksize=2),
            node("DepthToSpace", "c", "b", blocksize=2, mode="CRD"),
        ],
        {},
        17,
    ),
    "parts of channels": (
        [node("Split", "a parts", "c d", axis=1), node("Concat", "d c", "b", axis=1)],
        {"parts": ints(1, 3)},
        17,
    ),
    "channels by number": (on("Gather", "places", axis=1), {"places": ints(3, -3, 0, 1)}, 17),
    "mean of channels": (
        [node("ReduceMean", "a", "c", axes=[1]), node("Sub", "a c", "b")],
        {},
        17,
    ),
    "sum of channels": (
        [node("ReduceSum", "a axes", "c"), node("Sub", "a c", "b")],
        {"axes": ints(1)},
        17,
    ),
    "length of vectors": (
        [node("ReduceL2", "a axes", "c"), node("Div", "a c", "b")],
        {"axes": ints(1)},
        18,
    ),
    "steps of a scale": (
        [node("QuantizeLinear", "a s z", "c"), node("DequantizeLinear", "c s z", "b")],
        {"s": np.float32(0.25), "z": np.uint8(100)},
        17,
    ),
    "choice by a constant": (
        [
            onnx.helper.make_node(
                "If",
                ["yes"],
                ["b"],
                then_branch=onnx.helper.make_graph(
                    [node("Relu", "a", "t")],
                    "then",
                    [],
                    [onnx.helper.make_tensor_value_info("t", FLOAT, None)],
                ),
                else_branch=onnx.helper.make_graph(
                    [node("Neg", "a", "e")],
                    "else",
                    [],
                    [onnx.helper.make_tensor_value_info("e", FLOAT, None)],
                ),
            )
        ],
        {"yes": np.array(True)},
        17,
    ),
    "image in the size of a skip": (
        [
            node("MaxPool", "a", "low", kernel_shape=[2, 2], strides=[2, 2]),
            node("Shape", "a", "whole"),
            node("Slice", "whole two four zero", "sides"),
            node("Shape", "low", "own"),
            node("Slice", "own zero two zero", "front"),
            node("Concat", "front sides", "sizes", axis=0),
            node("Resize", "low - - sizes", "b", mode="linear"),
        ],
        {"two": ints(2), "four": ints(4), "zero": ints(0)},
        17,
    ),
    "margins by a difference of sizes": (
        [
            node("MaxPool", "a", "low", kernel_shape=[2, 2], strides=[2, 2]),
            node("Resize", "low - scales", "up", mode="nearest"),
            node("Shape", "a", "whole"),
            node("Shape", "up", "own"),
            node("Sub", "whole own", "missing"),
            node("Mul", "missing zero", "none"),
            node("Concat", "none missing", "both", axis=0),
            # As torch's older exporter writes it: the pairs of both sides, last axis first.
            node("Reshape", "both pairs", "table"),
            node("Transpose", "table", "turned", perm=[1, 0]),
            node("Reshape", "turned flat", "long"),
            node("Reshape", "long table_of", "again"),
            node("Transpose", "again", "back", perm=[1, 0]),
            node("Reshape", "back flat", "pads"),
            node("Pad", "up pads", "b"),
        ],
        {
            **TWICE,
            "zero": ints(0),
            "pairs": ints(2, -1),
            "flat": ints(-1),
            "table_of": ints(-1, 2),
        },
        17,
    ),
    "shape of a view": (
        [
            node("Shape", "a", "whole"),
            node("Gather", "whole zero", "count", axis=0),
            node("Unsqueeze", "count zeros", "front"),
            node("Concat", "front rest", "shape", axis=0),
            node("Reshape", "a shape", "flat"),
            node("Relu", "flat", "up"),
            node("Reshape", "up whole", "b"),
        ],
        {"zero": np.int64(0), "zeros": ints(0), "rest": ints(4, -1)},
        17,
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_an_operator_gives_what_the_runtime_gives(tmp_path: Path, name: str) -> None:
    nodes, constants, opset = NODES[name]
    agree(write(tmp_path / "network.onnx", nodes, constants, opset))


PLACES = ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", ["linear", "cubic", *ROUNDINGS])
def test_a_resized_image_is_that_of_the_runtime_or_refused(
    tmp_path: Path, mode: str, place: str, scale: float
) -> None:
    given = {"mode": mode} if mode in ("linear", "cubic") else {"nearest_mode": mode}
    nodes = on("Resize", "- scales", coordinate_transformation_mode=place, **given)
    path = write(tmp_path / "network.onnx", nodes, {"scales": floats(1, 1, scale, scale)})
    known = (
        (mode == "linear" and (place != "asymmetric" or scale > 1))
        or (mode == "cubic" and place != "asymmetric")
        or (mode in ROUNDINGS and "half" in place and (scale < 1 or "round" in mode))
        or (mode in ROUNDINGS and place == "asymmetric" and (scale < 1 or mode == "floor"))
        or (mode == "round_prefer_floor" and place == "asymmetric" and scale == 2)
    )
    if known:
        agree(path)
    else:
        refuse(path, "cannot be converted to torch: operator Resize")


def test_upsample_of_older_opsets_is_known(tmp_path: Path) -> None:
    agree(write(tmp_path / "network.onnx", on("Upsample", "scales"), TWICE, 9))


def test_channels_last_is_seen_and_turned(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    graph = onnx.helper.make_graph(
        [
            node("Transpose", "image", "turned", perm=[0, 3, 1, 2]),
            node("Conv", "turned weight", "done", pads=[1] * 4),
            node("Transpose", "done", "output", perm=[0, 2, 3, 1]),
        ],
        "network",
        [onnx.helper.make_tensor_value_info("image", FLOAT, ["n", "y", "x", 3])],
        [onnx.helper.make_tensor_value_info("output", FLOAT, ["n", "y", "x", 2])],
        [onnx.numpy_helper.from_array(random.standard_normal((2, 3, 3, 3)).astype("f4"), "weight")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "network.onnx"
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    loaded = open_network(path)
    assert loaded.channels == 3
    image = np.random.default_rng(9).standard_normal((1, 3, 20, 30), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path))
    expected = session.run(None, {"image": image.transpose(0, 2, 3, 1)})[0].transpose(0, 3, 1, 2)
    with torch.inference_mode():
        found = loaded.network(torch.from_numpy(image)).numpy()
    assert np.abs(found - expected).max() < 1e-5


def test_a_size_that_is_declared_and_used_nowhere_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "network.onnx", on("Relu"), {}, shape=(4, 1, 256, 256), result=(4,))
    assert analyze(open_network(path).network, 1).locality.halo[0].low == 2


BACKWARDS = {"start": ints(9), "end": ints(1), "axis": ints(2), "step": ints(-2)}

UNKNOWN: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "operator NonZero (c) is not known here": (
        [node("NonZero", "a", "c"), node("Shape", "c", "d"), node("Expand", "a d", "b")],
        {},
    ),
    "it casts to FLOAT16": (
        [node("Cast", "a", "c", to=onnx.TensorProto.FLOAT16), node("Cast", "c", "b", to=FLOAT)],
        {},
    ),
    "it takes 9:1:-2": (on("Slice", "start end axis step"), BACKWARDS),
    "coordinate_transformation_mode is 'tf_crop_and_resize'": (
        on(
            "Resize",
            "region scales",
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        {**TWICE, "region": floats(0, 0, 0, 0, 1, 1, 1, 1)},
    ),
    "its input 1 is to be sizes, but follows from pixels": (
        [
            node("ReduceMin", "a", "least", keepdims=0),
            node("Cast", "least", "whole", to=INT64),
            node("Mul", "whole zero", "none"),
            node("Add", "none one", "times"),
            node("Tile", "a times", "b"),
        ],
        {"zero": np.int64(0), "one": ints(1, 1, 1, 1)},
    ),
}


@pytest.mark.parametrize("said", UNKNOWN)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, said: str) -> None:
    nodes, constants = UNKNOWN[said]
    refuse(write(tmp_path / "network.onnx", nodes, constants), said)


def test_what_the_output_does_not_follow_from_is_left_out(tmp_path: Path) -> None:
    agree(write(tmp_path / "network.onnx", [node("NonZero", "a", "c"), *on("Relu")], {}))


def test_statistics_of_the_image_are_refused_as_those_of_any_network(tmp_path: Path) -> None:
    """Soft-max of opset 11 goes over all axes from its own on together: over all positions."""
    from exactile.locality import NotLocal

    path = write(tmp_path / "network.onnx", on("Softmax", axis=1), {}, 11)
    with pytest.raises(NotLocal, match="softmax"):
        analyze(open_network(path).network, 1)
