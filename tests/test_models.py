"""Models: what is saved is loaded, the bundled one is whole, and what is wrong is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_random_model
from safetensors.torch import load, save

from exactile.engines.eager import make_engine
from exactile.errors import ModelError
from exactile.geometry import Halo
from exactile.locality.unet import unet_locality
from exactile.models.card import CARD_NAME
from exactile.models.formats.card import read_card
from exactile.models.loading import BUNDLED, load_model
from exactile.models.saving import WEIGHTS_NAME

ARCHITECTURE = {"depth": 2, "convolutions": 1, "base_width": 3, "channels": 2, "classes": 3}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_random_model(tmp_path / "model", **ARCHITECTURE)
    return tmp_path / "model"


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def change_card(model: Path, where: str, value: Any) -> None:
    """Set the field of the card at `where` (names joined by dots), or remove it with None."""
    path = model / CARD_NAME
    card = json.loads(path.read_text())
    *parents, last = where.split(".")
    inner = card
    for name in parents:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(card))


def replace_weights(model: Path, content: bytes) -> None:
    """Write other weights, and their digest into the card."""
    (model / WEIGHTS_NAME).write_bytes(content)
    change_card(model, "weights.sha256", hashlib.sha256(content).hexdigest())


# What is right


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = write_random_model(tmp_path / "model", **ARCHITECTURE)
    loaded = load_model(tmp_path / "model")
    noise = np.random.default_rng(0).standard_normal((1, 2, 32, 48), dtype=np.float32)
    cpu = torch.device("cpu")
    logits = [make_engine(n, cpu, "float32").logits(noise) for n in (saved, loaded.network)]
    assert torch.equal(*logits)
    assert loaded.classes == ("class 0", "class 1", "class 2")
    assert loaded.channels == 2
    assert (loaded.locality.alignment, loaded.locality.halo) == ((4, 4), (Halo(12, 12),) * 2)
    content = (tmp_path / "model" / WEIGHTS_NAME).read_bytes()
    assert (
        loaded.file.sha256
        == read_card(tmp_path / "model" / CARD_NAME).weights.sha256
        == hashlib.sha256(content).hexdigest()
    )


def test_a_loaded_network_is_for_evaluation(model: Path) -> None:
    network = load_model(model).network
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_random_model(tmp_path / name, **ARCHITECTURE)
    for name in (CARD_NAME, WEIGHTS_NAME):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_or_its_card_may_be_given(model: Path) -> None:
    assert load_model(model).file.sha256 == load_model(model / CARD_NAME).file.sha256


def test_weights_saved_in_half_precision_are_loaded_as_float32(model: Path) -> None:
    tensors = load((model / WEIGHTS_NAME).read_bytes())
    replace_weights(model, save({name: tensor.half() for name, tensor in tensors.items()}))
    parameters = load_model(model).network.state_dict()
    for name, tensor in tensors.items():
        assert torch.equal(parameters[name], tensor.half().float())


def test_the_bundled_model_is_the_default_and_whole() -> None:
    model = load_model()
    assert model.file.sha256 == load_model(BUNDLED).file.sha256
    architecture = read_card(BUNDLED / CARD_NAME).architecture
    assert (architecture.channels, architecture.classes) == (1, 2)
    assert model.classes == ("background", "colony")
    traced = unet_locality(architecture.depth, architecture.convolutions, architecture.kernel_size)
    assert (model.locality.alignment, model.locality.halo) == (traced.alignment, traced.halo)
    noise = np.random.default_rng(0).standard_normal((1, 1, 64, 64), dtype=np.float32)
    logits = make_engine(model.network, torch.device("cpu"), "float32").logits(noise)
    assert logits.shape == (1, 2, 64, 64)
    assert torch.isfinite(logits).all()


def test_the_bundled_model_is_small_and_says_where_it_comes_from() -> None:
    card = read_card(BUNDLED / CARD_NAME)
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 8_000_000
    assert sorted(path.name for path in BUNDLED.iterdir()) == [CARD_NAME, card.weights.file]
    assert card.name == "stem-cell-colonies"
    assert card.normalization == "zscore"
    assert card.license == "MIT"
    assert "semantic-segmentation-unet" in card.data_source
    assert "National Institute of Standards and Technology" in card.acknowledgement
    assert card.training["script"] == "train_stem_cells.py"
    assert isinstance(card.training["seed"], int)
    assert 0.9 < card.metrics["validation_pooled_dice"] < 1
    assert 0.8 < card.metrics["validation_mean_dice"] < 1


# What is wrong


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", r"nowhere: cannot be read \(No such file")


def test_a_folder_without_a_card_is_named(tmp_path: Path) -> None:
    refuse(tmp_path, r"is a folder without a description \(model\.json, .* name a model's file")


@pytest.mark.parametrize("content", [b"", b"weights: 1\n", b"\x80\x04K\x01.", b'{"format": '])
def test_a_card_that_is_not_json_is_named(model: Path, content: bytes) -> None:
    (model / CARD_NAME).write_bytes(content)
    refuse(model, "is not a model card: it is not JSON")


@pytest.mark.parametrize("content", ["[]", "null", "3", '"unet"'])
def test_json_that_is_no_card_is_named(model: Path, content: str) -> None:
    (model / CARD_NAME).write_text(content)
    refuse(model, "is not a valid model card: the card: ")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("format", "exactile-model-2", "format: "),
        ("license", None, "license: Field required"),
        ("colour", "blue", "colour: Extra inputs"),
        ("architecture.name", "densenet", "architecture: Input tag 'densenet' found using 'name'"),
        ("architecture.depth", 0, "architecture.depth: "),
        ("architecture.depth", 40, "architecture.depth: "),
        ("architecture.classes", 1, "architecture.classes: "),
        ("architecture.classes", 256, "architecture.classes: "),
        ("architecture.base_width", "wide", "architecture.base_width: "),
        ("architecture.dropout", 0.5, "architecture.dropout: Extra inputs"),
        ("normalization", "percentile", "normalization: "),
        ("classes", ["a", "b"], "the card: Value error, 2 names of classes for 3 classes"),
        ("weights.file", "../weights.safetensors", "weights.file: "),
        ("weights.file", "weights.pt", "weights.file: "),
        ("weights.sha256", "abc", "weights.sha256: "),
        ("metrics", {"dice": "good"}, "metrics.dice: "),
    ],
)
def test_a_card_with_a_wrong_field_names_it(model: Path, where: str, value: Any, said: str) -> None:
    change_card(model, where, value)
    refuse(model, f"is not a valid model card: {said}")


def test_an_architecture_that_cannot_be_built_is_named(model: Path) -> None:
    change_card(model, "architecture.kernel_size", 4)
    refuse(model, "cannot be built: a same convolution needs an odd kernel, not 4")


def test_missing_weights_are_named(model: Path) -> None:
    (model / WEIGHTS_NAME).unlink()
    refuse(model, r"names the weights weights\.safetensors, which cannot be read \(No such file")


def test_weights_with_another_digest_are_refused(model: Path) -> None:
    content = bytearray((model / WEIGHTS_NAME).read_bytes())
    content[-1] ^= 1
    (model / WEIGHTS_NAME).write_bytes(content)
    refuse(model, r"has SHA-256 [0-9a-f]{64}, but the card says [0-9a-f]{64}; the file is damaged")


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_truncated_weights_are_refused_even_with_their_digest(model: Path, kept: int) -> None:
    replace_weights(model, (model / WEIGHTS_NAME).read_bytes()[:kept])
    refuse(model, "is not a safetensors file, or a damaged one")


def test_a_pickle_is_never_unpickled(model: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "weights.pt"
    torch.save({"weights": Trap()}, path)
    refuse(path, "is a pickled Python object")
    replace_weights(model, path.read_bytes())
    refuse(model, "is not a safetensors file")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("change", [{"base_width": 4}, {"depth": 1}, {"channels": 1}])
def test_weights_of_another_architecture_are_refused_in_one_line(
    model: Path, tmp_path: Path, change: dict[str, int]
) -> None:
    write_random_model(tmp_path / "other", **ARCHITECTURE | change)
    replace_weights(model, (tmp_path / "other" / WEIGHTS_NAME).read_bytes())
    refuse(model, r"\d+ tensors are missing, too many, or of another shape, among them \w+\.")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(model: Path, value: float) -> None:
    """A network with one of them gives the same label everywhere, without an error."""
    tensors = load((model / WEIGHTS_NAME).read_bytes())
    tensors["down.0.0.weight"][0, 0, 1, 1] = value
    replace_weights(model, save(tensors))
    refuse(model, r"1 tensors hold values that are not finite, among them down\.0\.0\.weight")
