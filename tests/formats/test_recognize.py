"""Files that are no model, or none that can be run: each is called what it is."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from format_networks import Small, refuse
from test_torch_formats import Trap

EXPORT = "torch.jit.script(model.eval()).save('model.pt'), or torch.export.save("


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_refused_with_how_to_export_it(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(Small(), path, _use_new_zipfile_serialization=not legacy)
    said = "is a pickled Python object (of format_networks.Small): loading it would execute code"
    refuse(path, said, EXPORT)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_is_refused_for_want_of_its_architecture(
    tmp_path: Path, legacy: bool, wrapped: bool
) -> None:
    path = tmp_path / "model.pth"
    weights = Small().state_dict()
    value = {"model": weights, "epoch": 3, "best": 0.5} if wrapped else OrderedDict(weights)
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    refuse(path, "holds weights without their architecture", EXPORT)


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle", "protocol 2"])
def test_no_pickle_is_executed(tmp_path: Path, kind: str) -> None:
    path, trap = tmp_path / "model.pt", Trap(tmp_path / "sprung")
    if kind in ("torch", "legacy"):
        torch.save({"weights": trap}, path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path.write_bytes(pickle.dumps(trap, protocol=2 if kind == "protocol 2" else None))
    refuse(path, "loading it would execute code from the file, which is never done here")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 and no more", "is truncated or damaged"),
        (b"\x80\x02}q\x00(X", "is truncated or damaged: it starts as a pickle does"),
        (pickle.dumps({"a": 1}), "is a pickle of plain values, not a model"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file: weights without their architecture"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file (Keras weights, or data)"),
        (b"\x20\x00\x00\x00TFL3" + bytes(90), "a TensorFlow Lite model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "a PNG picture"),
        (b"II*\x00" + bytes(90), "a TIFF image"),
        (b"\x1f\x8b\x08" + bytes(90), "a gzip archive; unpack it first"),
        (b"<!DOCTYPE html>\n<html><title>404</title></html>", "an HTML page; download the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run: git lfs pull"),
        (b'{"layers": []}', "a JSON file"),
        (b"import torch\nclass Net: ...\n", "source code, which is never executed"),
        (b"some notes", "a text"),
        (bytes(range(1, 256)) * 9, "of an unknown kind"),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model"])
def test_a_file_that_is_no_model_is_called_what_it_is(
    tmp_path: Path, content: bytes, said: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, said)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["saved_model.pb", "variables/variables.index"], "a TensorFlow SavedModel"),
        (["config.json", "model.weights.h5", "metadata.json"], "a Keras model"),
        (["MAR-INF/MANIFEST.json", "model.pt"], "an archive of TorchServe"),
        (["[Content_Types].xml"], "an office document"),
        (["a.npy", "b.npy"], "an archive of numpy arrays"),
        (["a.txt", "b.txt", "c.txt", "d.txt"], "it holds a.txt, b.txt, c.txt"),
        (["serialized_exported_program.json", "version"], "torch 2.8 or newer"),
    ],
)
def test_an_archive_that_is_no_model_is_called_what_it_is(
    tmp_path: Path, members: list[str], said: str
) -> None:
    with ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in members:
            archive.writestr(name, json.dumps({}))
    refuse(tmp_path / "model.zip", said)


def test_a_folder_without_a_description_lists_the_models_in_it(tmp_path: Path) -> None:
    refuse(tmp_path, "is a folder without a description", "name a model's file")
    np.save(tmp_path / "test.npy", np.zeros(3))
    for name in ("a.pt", "b.onnx"):
        (tmp_path / name).touch()
    refuse(tmp_path, "name the file itself (a.pt, b.onnx)")
    (tmp_path / "saved_model.pb").touch()
    refuse(tmp_path, "is a TensorFlow SavedModel")


@pytest.mark.parametrize("name", ["nowhere", "n" * 300, "folder/nowhere.pt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / name, "cannot be read (")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pt")
    (tmp_path / "model.onnx").symlink_to("/dev/zero")
    for name in ("model.pt", "model.onnx"):
        refuse(tmp_path / name, "is a pipe or a device", "--model takes a file, or a folder")


def test_a_file_of_more_bytes_than_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, 2**40)
    code = (
        "import resource, sys, pathlib\n"
        "from exactile.models.formats.content import read_content\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))\n"
        "read_content(pathlib.Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert f"ModelError: {path}: has {2**40} bytes, more than there is memory for" in ended.stderr
