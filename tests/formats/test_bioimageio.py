"""bioimage.io: folders, archives, both formats, all operations; what is refused is named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_networks import (
    Small,
    description_04,
    description_05,
    digest,
    noise,
    refuse,
    same,
    write_model,
    write_traced,
    zipped,
)
from torch import Tensor, nn

from exactile.locality import analyze
from exactile.models.formats import open_network
from exactile.models.network_file import NetworkFile
from exactile.processing import (
    After,
    Before,
    Clip,
    Linear,
    ScaleRange,
    Sigmoid,
    Softmax,
    Standardize,
    Threshold,
    ZScore,
)

pytest.importorskip("bioimageio.spec")

DESCRIPTIONS = {"0.4": description_04, "0.5": description_05}
both = pytest.mark.parametrize("version", DESCRIPTIONS)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach for an address."""

    def no(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no)
    monkeypatch.setattr(socket, "getaddrinfo", no)


def changed(version: str, where: str, value: Any) -> dict[str, Any]:
    """A description with the field at `where` (names and places joined by dots) set."""
    description = DESCRIPTIONS[version]()
    *parents, last = where.split(".")
    inner: Any = description
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return description


def with_steps(version: str, before: list[Any] = (), after: list[Any] = ()) -> dict[str, Any]:
    """A description with operations, each a name and its arguments."""
    description = DESCRIPTIONS[version]()
    key = "name" if version == "0.4" else "id"
    for place, kind, steps in (("inputs", "pre", before), ("outputs", "post", after)):
        description[place][0][f"{kind}processing"] = [
            {key: name, "kwargs": arguments} if arguments else {key: name}
            for name, arguments in steps
        ]
    return description


# What is right


@both
@pytest.mark.parametrize("form", ["folder", "rdf.yaml", "file", "zip", "zip with folder", "any"])
def test_folder_description_and_archive_are_loaded(tmp_path: Path, version: str, form: str) -> None:
    path = folder = write_model(tmp_path / "model", DESCRIPTIONS[version]())
    if form == "rdf.yaml":
        (folder / "bioimageio.yaml").rename(folder / form)
    elif form == "file":
        path = folder / "bioimageio.yaml"
    elif form != "folder":
        inside = "model/" if "folder" in form else ""
        path = zipped(folder, tmp_path / ("packed" if form == "any" else "model.zip"), inside)
    loaded = open_network(path)
    assert same(loaded, Small(), noise())
    assert (loaded.format, loaded.name) == ("bioimage.io", "small")
    assert loaded.version == ("1.2.0" if version == "0.5" else "")
    assert (loaded.channels, loaded.dimensions) == (2, 2)
    assert loaded.classes == (("none", "cell", "border") if version == "0.5" else None)
    assert loaded.declared_halo == (4, 6)
    assert loaded.before == loaded.after == ()
    assert loaded.sha256 == digest(folder / "weights.pt")


def test_the_example_of_bioimage_io_is_loaded_and_gives_its_test_output(shared: Path) -> None:
    folder = shared / "data" / "unet2d_nuclei_broad"
    loaded = open_network(folder)
    assert loaded.name == "UNet 2D Nuclei Broad"
    assert loaded.before == (ZScore("channel", epsilon=1e-6),)
    assert loaded.after == (Sigmoid(),)
    assert (loaded.channels, loaded.dimensions) == (1, 2)
    assert loaded.classes == ("probability",)
    assert loaded.declared_halo == (32, 32)
    image = np.load(folder / "test_input.npy").astype(np.float32)
    image = (image - image.mean()) / (image.std() + 1e-6)
    with torch.inference_mode():
        output = torch.sigmoid(loaded.network(torch.from_numpy(image))).numpy()
    assert np.abs(output - np.load(folder / "test_output.npy")).max() < 1e-5


class ChannelsLast(Small):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@both
def test_axes_in_another_order_are_put_in_order(tmp_path: Path, version: str) -> None:
    if version == "0.4":
        description = description_04()
        for tensor in (*description["inputs"], *description["outputs"]):
            tensor["axes"] = "byxc"
        description["inputs"][0]["shape"] = {"min": [1, 16, 16, 2], "step": [0, 2, 2, 0]}
        description["outputs"][0]["halo"] = [0, 4, 6, 0]
    else:
        description = description_05()
        for tensor in (*description["inputs"], *description["outputs"]):
            tensor["axes"].append(tensor["axes"].pop(1))
    folder = write_model(tmp_path / "model", description)
    write_traced(folder / "weights.pt", ChannelsLast(), noise().permute(0, 2, 3, 1))
    loaded = open_network(folder)
    assert same(loaded, Small(), noise())
    assert (loaded.channels, loaded.dimensions, loaded.declared_halo) == (2, 2, (4, 6))
    assert analyze(loaded.network, 2).locality == analyze(Small(), 2).locality


def test_volumes_are_described(tmp_path: Path) -> None:
    description = description_04()
    description["inputs"][0] |= {
        "axes": "bczyx",
        "shape": {"min": [1, 2, 8, 16, 16], "step": [0, 0, 2, 2, 2]},
        "preprocessing": [
            {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "zyx"}}
        ],
    }
    description["outputs"][0] |= {
        "axes": "bczyx",
        "shape": {"reference_tensor": "raw", "scale": [1] * 5, "offset": [0] * 5},
        "halo": [0, 0, 2, 4, 6],
    }
    network = Small(dimensions=3)
    loaded = open_network(write_model(tmp_path / "model", description, network))
    assert same(loaded, network, noise(2, 8, 16, 16))
    assert (loaded.dimensions, loaded.declared_halo) == (3, (2, 4, 6))
    assert loaded.before == (ZScore("channel", epsilon=1e-6),)


YX, ALL = ["y", "x"], ["batch", "channel", "y", "x"]


@pytest.mark.parametrize(
    ("version", "operation", "arguments", "step"),
    [
        ("0.5", "zero_mean_unit_variance", {}, ZScore("image", epsilon=1e-6)),
        ("0.5", "zero_mean_unit_variance", {"axes": YX}, ZScore("channel", epsilon=1e-6)),
        ("0.5", "zero_mean_unit_variance", {"axes": ALL, "eps": 0.01}, ZScore("image", None, 0.01)),
        (
            "0.5",
            "fixed_zero_mean_unit_variance",
            {"mean": 3.0, "std": 2.0},
            Standardize((3.0,), (2.0,)),
        ),
        (
            "0.5",
            "fixed_zero_mean_unit_variance",
            {"mean": [3.0, 4.0], "std": [2.0, 1.0], "axis": "channel"},
            Standardize((3.0, 4.0), (2.0, 1.0)),
        ),
        ("0.5", "scale_range", {}, ScaleRange(0.0, 100.0, "image", 1e-6)),
        (
            "0.5",
            "scale_range",
            {"axes": ["batch", *YX], "min_percentile": 1, "max_percentile": 99.8, "eps": 1e-3},
            ScaleRange(1.0, 99.8, "channel", 1e-3),
        ),
        (
            "0.5",
            "scale_range",
            {"axes": YX, "reference_tensor": "raw"},
            ScaleRange(0.0, 100.0, "channel", 1e-6),
        ),
        ("0.5", "scale_linear", {"gain": 2.0}, Linear((2.0,), (0.0,))),
        (
            "0.5",
            "scale_linear",
            {"gain": [2.0, 3.0], "offset": 1.0, "axis": "channel"},
            Linear((2.0, 3.0), (1.0, 1.0)),
        ),
        ("0.5", "clip", {"min": -1.0, "max": 3.0}, Clip(-1.0, 3.0)),
        ("0.5", "clip", {"max": 3.0}, Clip(None, 3.0)),
        ("0.5", "binarize", {"threshold": 0.5}, Threshold((0.5,))),
        ("0.5", "binarize", {"threshold": [0.5, 2.0], "axis": "channel"}, Threshold((0.5, 2.0))),
        ("0.5", "sigmoid", {}, Sigmoid()),
        (
            "0.4",
            "zero_mean_unit_variance",
            {"mode": "per_sample", "axes": "yx"},
            ZScore("channel", epsilon=1e-6),
        ),
        (
            "0.4",
            "zero_mean_unit_variance",
            {"mode": "per_sample", "axes": "cyx", "eps": 1e-3},
            ZScore("image", epsilon=1e-3),
        ),
        (
            "0.4",
            "zero_mean_unit_variance",
            {"mode": "fixed", "axes": "yx", "mean": [3.0, 4.0], "std": [2.0, 1.0], "eps": 0.1},
            Standardize((3.0, 4.0), (2.1, 1.1)),
        ),
        (
            "0.4",
            "scale_range",
            {"mode": "per_sample", "axes": "yx", "min_percentile": 2.0, "max_percentile": 98.0},
            ScaleRange(2.0, 98.0, "channel", 1e-6),
        ),
        ("0.4", "scale_linear", {"gain": 2.0, "offset": 1.0}, Linear((2.0,), (1.0,))),
        (
            "0.4",
            "scale_linear",
            {"gain": [2.0, 3.0], "axes": "yx"},
            Linear((2.0, 3.0), (0.0, 0.0)),
        ),
        ("0.4", "clip", {"min": -1.0, "max": 3.0}, Clip(-1.0, 3.0)),
        ("0.4", "binarize", {"threshold": 0.5}, Threshold((0.5,))),
        ("0.4", "sigmoid", {}, Sigmoid()),
    ],
)
def test_an_operation_becomes_a_step(
    tmp_path: Path, version: str, operation: str, arguments: dict[str, Any], step: Before
) -> None:
    description = with_steps(version, before=[(operation, arguments)])
    loaded = open_network(write_model(tmp_path / "model", description))
    assert loaded.before == (step,)
    assert loaded.after == ()


@pytest.mark.parametrize(
    ("operations", "steps"),
    [
        ([("softmax", {})], (Softmax(),)),
        ([("softmax", {"axis": "channel"})], (Softmax(),)),
        (
            [
                ("sigmoid", {}),
                ("binarize", {"threshold": 0.5}),
                ("ensure_dtype", {"dtype": "uint8"}),
            ],
            (Sigmoid(), Threshold((0.5,))),
        ),
        (
            [("ensure_dtype", {"dtype": "float64"}), ("scale_linear", {"gain": 255.0})],
            (Linear((255.0,), (0.0,)),),
        ),
        (
            [("binarize", {"threshold": [0.1, 0.2, 0.3], "axis": "channel"})],
            (Threshold((0.1, 0.2, 0.3)),),
        ),
    ],
)
def test_operations_after_the_network_become_steps(
    tmp_path: Path, operations: list[Any], steps: tuple[After, ...]
) -> None:
    description = with_steps("0.5", after=operations)
    assert open_network(write_model(tmp_path / "model", description)).after == steps


@pytest.mark.parametrize("first", [[], [("ensure_dtype", {"dtype": "uint16"})]])
def test_integers_that_are_made_floats_before_the_network_are_taken(
    tmp_path: Path, first: list[Any]
) -> None:
    """The library itself puts the type of the images before all other operations."""
    steps = [*first, ("scale_linear", {"gain": 0.5}), ("ensure_dtype", {"dtype": "float32"})]
    description = with_steps("0.5", before=steps)
    description["inputs"][0]["data"] = {"type": "uint16"}
    loaded = open_network(write_model(tmp_path / "model", description))
    assert loaded.before == (Linear((0.5,), (0.0,)),)


# Operations that are refused


@pytest.mark.parametrize(
    ("version", "place", "operation", "arguments", "said"),
    [
        (
            "0.4",
            "before",
            "zero_mean_unit_variance",
            {"mode": "per_dataset", "axes": "yx"},
            "needs statistics of a whole data set (mode per_dataset)",
        ),
        (
            "0.4",
            "before",
            "scale_range",
            {"mode": "per_sample", "axes": "x"},
            "takes statistics over x only; use all spatial axes (y, x)",
        ),
        ("0.5", "before", "zero_mean_unit_variance", {"axes": ["channel"]}, "over c only"),
        (
            "0.4",
            "before",
            "scale_linear",
            {"gain": [2.0, 3.0], "axes": "cyx"},
            "has 2 numbers for 2 channel(s)",
        ),
        (
            "0.5",
            "before",
            "scale_linear",
            {"gain": [2.0, 3.0, 4.0], "axis": "channel"},
            "has 3 numbers for 2 channel(s)",
        ),
        ("0.5", "before", "binarize", {"threshold": [1.0], "axis": "x"}, "has numbers along x"),
        ("0.5", "before", "clip", {"min_percentile": 2.0}, "clips at percentiles; use scale_range"),
        ("0.5", "before", "softmax", {"axis": "channel"}, "comes before the network"),
        ("0.5", "before", "ensure_dtype", {"dtype": "uint8"}, "rounds to uint8"),
        ("0.5", "after", "ensure_dtype", {"dtype": "uint8"}, "rounds to uint8"),
        ("0.5", "after", "softmax", {"axis": "x"}, "goes along x; use it along the channels"),
        ("0.5", "after", "scale_range", {}, "needs statistics of the network's whole output"),
        ("0.5", "after", "zero_mean_unit_variance", {}, "needs statistics of the network's whole"),
        (
            "0.5",
            "after",
            "scale_mean_variance",
            {"reference_tensor": "raw"},
            "matches the statistics of another tensor",
        ),
        (
            "0.4",
            "after",
            "scale_mean_variance",
            {"mode": "per_sample", "reference_tensor": "raw", "axes": "yx"},
            "matches the statistics of another tensor",
        ),
    ],
)
def test_an_operation_that_cannot_be_streamed_is_refused_by_name(
    tmp_path: Path, version: str, place: str, operation: str, arguments: dict[str, Any], said: str
) -> None:
    description = with_steps(version, **{place: [(operation, arguments)]})
    tensor = "input raw" if place == "before" else "output masks"
    folder = write_model(tmp_path / "model", description)
    refuse(folder, f"{tensor}: its step {operation} ", said)


def test_statistics_of_the_unprocessed_tensor_are_refused_after_other_steps(tmp_path: Path) -> None:
    steps = [("scale_linear", {"gain": 2.0}), ("scale_range", {"reference_tensor": "raw"})]
    folder = write_model(tmp_path / "model", with_steps("0.5", before=steps))
    refuse(folder, "its step scale_range takes its statistics from the unprocessed tensor raw")


@both
def test_a_network_of_integers_is_refused(tmp_path: Path, version: str) -> None:
    where = "inputs.0.data_type" if version == "0.4" else "inputs.0.data"
    value: Any = "uint8" if version == "0.4" else {"type": "uint8"}
    folder = write_model(tmp_path / "model", changed(version, where, value))
    refuse(folder, "input raw: gives the network uint8, but networks of float32 are run here")


def test_code_of_a_description_is_not_executed(tmp_path: Path) -> None:
    description = description_05()
    code = f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef step(): return lambda x: x\n"
    folder = write_model(tmp_path / "model", description)
    (folder / "step.py").write_text(code)
    step = {"id": "custom", "callable": "step", "source": "step.py", "kwargs": {}}
    step["sha256"] = digest(folder / "step.py")
    description["outputs"][0]["postprocessing"] = [step]
    (folder / "bioimageio.yaml").write_text(json.dumps(description))
    refuse(folder, "its step custom is code that comes with the description, which is never")
    assert not (tmp_path / "sprung").exists()


# Tensors and weights that are refused


def test_several_inputs_and_outputs_are_listed(tmp_path: Path) -> None:
    for place, said in (
        ("inputs", "describes 2 inputs (raw, other), but networks of one input are run here"),
        ("outputs", "returns 2 tensors (masks, other), but one tensor is segmented"),
    ):
        description = description_05()
        description[place].append(description[place][0] | {"id": "other"})
        folder = write_model(tmp_path / place, description)
        refuse(folder, said)


@pytest.mark.parametrize("axes", ["btyx", "biyx", "byx", "cyx", "bcx", "bctyx"])
def test_axes_that_an_image_has_not_are_named(tmp_path: Path, axes: str) -> None:
    description = description_04()
    size = [2 if axis == "c" else 1 if axis == "b" else 16 for axis in axes]
    for tensor in (*description["inputs"], *description["outputs"]):
        tensor |= {"axes": axes, "shape": size, "halo": None}
    del description["inputs"][0]["halo"]
    folder = write_model(tmp_path / "model", description)
    refuse(folder, f"input raw: has the axes {', '.join(axes)}, but networks are run here that")


@pytest.mark.parametrize("kind", ["time", "index"])
def test_axes_of_time_and_index_are_named(tmp_path: Path, kind: str) -> None:
    axis = {"type": kind, "size": 4}
    description = changed("0.5", "inputs.0.axes.3", axis)
    description["outputs"][0]["axes"][3] = axis
    folder = write_model(tmp_path / "model", description)
    refuse(folder, f"input raw: has the axes b, c, y, {kind[0]}, but networks are run here that")


def test_a_description_that_names_another_model_is_refused_before_that_is_fetched(
    tmp_path: Path,
) -> None:
    description = changed("0.5", "inputs.0.output_of", "affable-shark")
    folder = write_model(tmp_path / "model", description)
    refuse(folder, "takes the output of another model (affable-shark), and nothing is fetched")


def test_a_description_that_contradicts_its_weights_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", description_05(), Small(3))
    refuse(folder, "describes an input of 2 channel(s), but its weights take 3")


@both
@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"keras_hdf5": {"source": "weights.h5", "tensorflow_version": "2.15"}}, "keras_hdf5 only"),
        (
            {"torchscript": {"source": "https://example.com/w.pt", "pytorch_version": "2.5"}},
            "its torchscript weights are an address (https://example.com/w.pt), and nothing is",
        ),
        (
            {"torchscript": {"source": "gone.pt", "pytorch_version": "2.5"}},
            "gone.pt: cannot be read (No such file or directory)",
        ),
        (
            {"torchscript": {"source": "../weights.pt", "pytorch_version": "2.5"}},
            "lies outside of the model (../weights.pt)",
        ),
        (
            {
                "torchscript": {
                    "source": "weights.pt",
                    "pytorch_version": "2.5",
                    "sha256": "0" * 64,
                }
            },
            f"but the description says {'0' * 64}; the file is damaged",
        ),
    ],
)
def test_weights_that_cannot_be_run_are_named(
    tmp_path: Path, version: str, weights: dict[str, Any], said: str
) -> None:
    folder = write_model(tmp_path / "model", DESCRIPTIONS[version](weights=weights))
    refuse(folder, said)


@both
def test_the_code_of_an_architecture_is_not_run(tmp_path: Path, version: str) -> None:
    sprung = tmp_path / "sprung"
    folder = write_model(tmp_path / "model", DESCRIPTIONS[version]())
    (folder / "net.py").write_text(f"open({str(sprung)!r}, 'w')\n")
    weights: dict[str, Any] = {"source": "weights.pt", "pytorch_version": "2.5"}
    if version == "0.4":
        weights |= {"architecture": "net.py:Net", "architecture_sha256": digest(folder / "net.py")}
    else:
        code = {"source": "net.py", "sha256": digest(folder / "net.py"), "callable": "Net"}
        weights |= {"architecture": code}
    description = DESCRIPTIONS[version](weights={"pytorch_state_dict": weights})
    (folder / "bioimageio.yaml").write_text(json.dumps(description))
    said = "has weights as pytorch_state_dict only, and a state dict needs the code of its archit"
    refuse(folder, said, "torch.jit.script(model.eval()).save('model.pt')")
    assert not sprung.exists()


def test_a_pickled_module_as_torchscript_weights_is_not_executed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", description_05())
    torch.save(nn.Conv2d(2, 3, 1), folder / "weights.pt")
    refuse(folder, "its torchscript weights: cannot be loaded as TorchScript")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "its description is not YAML"),
        ("- 1", "its description is not one of a model"),
        ("type: dataset\nformat_version: 0.3.0", "its description is not one of a model"),
        ("type: model\nformat_version: 0.5.4", "its description is not valid: "),
        ("type: model", "its description is not valid: "),
        ("type: model\nformat_version: 9.9.9", "its description is not valid: "),
        ("", "its description is not one of a model"),
    ],
)
def test_a_description_that_makes_no_sense_is_named(tmp_path: Path, text: str, said: str) -> None:
    folder = write_model(tmp_path / "model", description_05())
    (folder / "bioimageio.yaml").write_text(text)
    refuse(folder, said)


def test_loading_writes_nothing_into_the_home_and_prints_nothing(tmp_path: Path) -> None:
    """In a process of its own: the library decides on its folders when it is imported."""
    folder = write_model(tmp_path / "model", description_05())
    (tmp_path / "home").mkdir()
    code = (
        "import sys, pathlib; from exactile.models.formats import open_network; "
        "open_network(pathlib.Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"HOME": str(tmp_path / "home")},
        cwd=tmp_path / "home",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list((tmp_path / "home").iterdir()) == []


def test_the_formats_are_imported_without_their_libraries() -> None:
    code = (
        "import sys, exactile.models.formats; "
        "print([n for n in ('bioimageio', 'onnx', 'onnxruntime') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def described_as(loaded: NetworkFile) -> tuple[Any, ...]:
    return loaded.channels, loaded.dimensions, loaded.before, loaded.after, loaded.declared_halo


def test_both_formats_describe_the_same(tmp_path: Path) -> None:
    step = [("zero_mean_unit_variance", {"axes": "yx", "mode": "per_sample"})]
    old = open_network(write_model(tmp_path / "old", with_steps("0.4", before=step)))
    step = [("zero_mean_unit_variance", {"axes": ["y", "x"]})]
    new = open_network(write_model(tmp_path / "new", with_steps("0.5", before=step)))
    assert described_as(old) == described_as(new)


def aliases(levels: int) -> str:
    """Return YAML in which each value holds the one before nine times."""
    first = ["a0: &a0 [" + ", ".join("x" * 9) + "]"]
    later = [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, levels)]
    return "\n".join([*first, *later, f"name: *a{levels - 1}"])


@pytest.mark.parametrize("version", ["0.4.10", "0.5.3"])
@pytest.mark.parametrize(
    "text", [aliases(30), "config: &a {itself: *a}", "inputs: &a [{output_of: *a}]"]
)
def test_a_description_that_its_aliases_make_endless_is_refused(
    tmp_path: Path, version: str, text: str
) -> None:
    path = tmp_path / "rdf.yaml"
    path.write_text(f"type: model\nformat_version: {version}\n{text}\n")
    refuse(path, "more than 100000 values, or more than 50 levels", "without aliases")


def test_a_description_of_megabytes_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "rdf.yaml"
    path.write_text("type: model\n" + "# and so on\n" * 400_000)
    refuse(path, "its description is larger than any")


def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    write_model(tmp_path, description_05())
    (tmp_path / "weights.pt").unlink()
    os.mkfifo(tmp_path / "weights.pt")
    refuse(tmp_path, "is a pipe or a device")
