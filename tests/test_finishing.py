"""From the network's output to labels, probabilities and logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exactile.errors import ModelError
from exactile.finishing import Finishing, finish, finishing_for, label_dtype
from exactile.processing import Clip, Linear, Sigmoid, Softmax, Threshold

FINISHINGS = [
    Finishing(()),
    Finishing((Softmax(),)),
    Finishing((Sigmoid(),)),
    Finishing((Sigmoid(), Threshold((0.5,)))),
    Finishing((Linear((2.0,), (0.1,)), Clip(0, 1))),
]


@given(
    st.sampled_from(FINISHINGS),
    st.sampled_from(["labels", "probabilities", "logits"]),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    st.data(),
)
def test_a_pixel_gets_the_same_bits_in_a_part_as_in_the_whole(
    finishing: Finishing, kind: Any, channels: int, volume: bool, data: st.DataObject
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 9)))
    shape = (3, 23, 25) if volume else (41, 43)
    output = torch.randn(channels, *shape) * 6
    part = tuple(
        slice(*sorted((data.draw(st.integers(0, side)), data.draw(st.integers(0, side)))))
        for side in shape
    )
    whole = finish(output, kind, finishing)
    cropped = output[(slice(None), *part)]
    for tensor in (cropped, cropped.contiguous(), cropped.mT.contiguous().mT):
        found = finish(tensor, kind, finishing)
        assert found.dtype == whole.dtype
        assert found.tobytes() == whole[(slice(None), *part)].tobytes()


def test_labels_are_the_first_of_equal_classes_and_probabilities_sum_to_one() -> None:
    logits = torch.tensor([[[1.0, 0.0]], [[1.0, 2.0]], [[0.0, 2.0]]])
    usual = finishing_for("logits", 3)
    assert finish(logits, "labels", usual).tolist() == [[[0, 1]]]
    assert finish(logits, "probabilities", usual).sum(0) == pytest.approx(1)
    assert np.array_equal(finish(logits, "logits", usual), logits.numpy())


def test_logits_decide_where_probabilities_are_rounded_to_be_equal() -> None:
    output = torch.tensor([[[100.0]], [[101.0]]])
    assert finish(output, "probabilities", Finishing((Sigmoid(),))).tolist() == [[[1]], [[1]]]
    assert finish(output, "labels", Finishing((Sigmoid(),))).tolist() == [[[1]]]


def test_the_declared_result_decides_where_a_step_can_change_the_order() -> None:
    output = torch.tensor([[[3.0, 1.0]], [[2.0, 2.0]]])
    assert finish(output, "labels", Finishing(())).tolist() == [[[0, 1]]]
    flipped = Finishing((Linear((-1.0,), (0.0,)),))
    assert finish(output, "labels", flipped).tolist() == [[[1, 0]]]
    weighted = Finishing((Softmax(), Linear((0.1, 1.0), (0.0, 0.0))))
    assert finish(output, "labels", weighted).tolist() == [[[1, 1]]]
    equal = Finishing((Threshold((0.0,)),))
    assert finish(output, "labels", equal).tolist() == [[[0, 0]]]


@pytest.mark.parametrize(
    ("after", "labels"),
    [
        ((), [0, 0, 0, 0, 1]),
        ((Sigmoid(),), [0, 0, 1, 1, 1]),
        ((Threshold((0.25,)),), [0, 0, 0, 1, 1]),
        ((Sigmoid(), Threshold((0.6,))), [0, 0, 0, 0, 1]),
        ((Linear((-1.0,), (0.0,)),), [1, 0, 0, 0, 0]),
    ],
)
def test_a_single_channel_is_foreground_above_a_half(after: Any, labels: list[int]) -> None:
    output = torch.tensor([[[-1.0, 0.0, 1e-9, 0.3, 0.7]]])
    found = finish(output, "labels", Finishing(after))
    assert found.dtype == np.uint8
    assert found.tolist() == [[labels]]


@pytest.mark.parametrize(("classes", "dtype"), [(2, "u1"), (256, "u1"), (257, "u2"), (300, "u2")])
def test_more_classes_than_bytes_have_numbers_are_uint16(classes: int, dtype: str) -> None:
    output = torch.zeros(classes, 3, 4)
    output[-1, 1, 2] = 1
    found = finish(output, "labels", Finishing((Softmax(),)))
    assert found.dtype == label_dtype(classes) == np.dtype(dtype)
    assert found[0, 1, 2] == classes - 1
    assert found.sum(dtype=int) == classes - 1


@given(st.integers(2, 9), st.integers(0, 9))
def test_labels_are_argmax(classes: int, seed: int) -> None:
    output = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (classes, 9, 10)) / 2)
    found = finish(output.float(), "labels", Finishing((Softmax(),)))
    assert np.array_equal(found[0], output.numpy().argmax(0))


@pytest.mark.parametrize(
    ("meaning", "outputs", "expected"),
    [
        ("logits", 2, Finishing((Softmax(),))),
        ("logits", 1, Finishing((Sigmoid(),))),
        ("probabilities", 1, Finishing(())),
        ("probabilities", 3, Finishing(())),
        ("classes", 1, Finishing((), numbers=True)),
        (None, 3, Finishing(())),
    ],
)
def test_what_an_output_means_says_what_becomes_of_it(
    meaning: Any, outputs: int, expected: Finishing
) -> None:
    assert finishing_for(meaning, outputs) == expected


def test_softmax_turns_logarithms_of_probabilities_back() -> None:
    logits = torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(0))
    usual = finishing_for("logits", 3)
    found = finish(logits.log_softmax(0), "probabilities", usual)
    assert found == pytest.approx(logits.softmax(0).numpy(), abs=1e-6)


def test_the_output_is_not_written_to() -> None:
    output = torch.randn(2, 8, 8)
    before = output.clone()
    finish(output, "probabilities", Finishing((Softmax(),)))
    assert torch.equal(output, before)


def test_numbers_of_classes_are_labels_as_they_are() -> None:
    output = torch.tensor([[[0.0, 1.0, 2.0, 255.0]]])
    found = finish(output, "labels", Finishing((), numbers=True))
    assert found.dtype == np.uint8
    assert found.tolist() == [[[0, 1, 2, 255]]]


@pytest.mark.parametrize("odd", [0.37, -1.0, 256.0, float("nan"), float("inf")])
def test_what_is_no_number_of_a_class_is_refused(odd: float) -> None:
    output = torch.tensor([[[0.0, 1.0, odd]]])
    with pytest.raises(ModelError, match=r"but holds .*; labels are whole numbers from 0 to 255"):
        finish(output, "labels", Finishing((), numbers=True))
