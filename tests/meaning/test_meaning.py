"""What an output means: proven by the last operators, or not known; never guessed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exactile.meaning.follow import follow
from exactile.meaning.reading import Reading, contradiction, read

End = Callable[[Tensor, Tensor], Tensor]


class Ending(nn.Module):
    """Features p and q of three channels, and what is made of them."""

    def __init__(self, end: End, dimensions: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.first = convolution(1, 6, 3, padding=1)
        self.p, self.q = convolution(6, 3, 1), convolution(6, 3, 1)
        self.end = end

    def forward(self, image: Tensor) -> Tensor:
        fine = torch.relu(self.first(image))
        return self.end(self.p(fine), self.q(fine))


def reading(end: End, dimensions: int = 2) -> Reading:
    network = Ending(end, dimensions).eval()
    extent = (32,) * dimensions
    outputs = network(torch.zeros(1, 1, *extent)).shape[1]
    return read(follow(network, 1, extent), outputs, "the last operator")


BLUR = torch.full((1, 1, 3, 3), 1 / 9)
CROSS = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]


def half_written(p: Tensor) -> Tensor:
    result = torch.zeros_like(p)
    result[:, :, 1:-1] = torch.sigmoid(p)[:, :, 1:-1]
    return result


PROBABILITIES: dict[str, End] = {
    "sigmoid": lambda p, q: torch.sigmoid(p),
    "softmax": lambda p, q: p.softmax(1),
    "mean of two": lambda p, q: (torch.sigmoid(p) + torch.sigmoid(q)) / 2,
    "weighted mean": lambda p, q: 0.25 * torch.sigmoid(p) + 0.75 * q.softmax(1),
    "mean of a stack": lambda p, q: torch.stack([torch.sigmoid(p), torch.sigmoid(q)]).mean(0),
    "mean over flips": lambda p, q: (torch.sigmoid(p) + torch.sigmoid(q.flip(3)).flip(3)) / 2,
    "maximum over channels": lambda p, q: torch.sigmoid(p).max(dim=1, keepdim=True)[0],
    "amax": lambda p, q: torch.sigmoid(p).amax(1, keepdim=True),
    "maximum of two": lambda p, q: torch.maximum(torch.sigmoid(p), torch.sigmoid(q)),
    "mean over channels": lambda p, q: torch.sigmoid(p).mean(1, keepdim=True),
    "complement": lambda p, q: 1 - torch.sigmoid(p),
    "complement of the background": lambda p, q: 1 - p.softmax(1)[:, :1],
    "product": lambda p, q: torch.sigmoid(p) * torch.sigmoid(q),
    "noisy or": lambda p, q: 1 - (1 - torch.sigmoid(p)) * (1 - torch.sigmoid(q)),
    "geometric mean": lambda p, q: (torch.sigmoid(p) * torch.sigmoid(q)).sqrt(),
    "power": lambda p, q: torch.sigmoid(p) ** 2,
    "slice": lambda p, q: p.softmax(1)[:, 1:2],
    "cat": lambda p, q: torch.cat([torch.sigmoid(p), q.softmax(1)], 1),
    "bilinear": lambda p, q: F.interpolate(torch.sigmoid(p), scale_factor=2.0, mode="bilinear"),
    "average": lambda p, q: F.avg_pool2d(torch.sigmoid(p), 3, 1, 1),
    "blur": lambda p, q: F.conv2d(torch.sigmoid(p)[:, :1], BLUR, padding=1),
    "clamp": lambda p, q: p.clamp(0, 1),
    "clamp of probabilities": lambda p, q: torch.sigmoid(p).clamp(1e-6, 1 - 1e-6),
    "hardtanh": lambda p, q: F.hardtanh(p, 0.0, 1.0),
    "hardsigmoid": lambda p, q: F.hardsigmoid(p),
    "tanh to 0 and 1": lambda p, q: 0.5 * (torch.tanh(p) + 1),
    "erf to 0 and 1": lambda p, q: (1 + torch.erf(p)) / 2,
    "atan to 0 and 1": lambda p, q: torch.atan(p) / torch.pi + 0.5,
    "relu6 over 6": lambda p, q: F.relu6(p + 3) / 6,
    "exponential of logsigmoid": lambda p, q: F.logsigmoid(p).exp(),
    "exponential of log_softmax": lambda p, q: p.log_softmax(1).exp(),
    "softmax by hand": lambda p, q: p.exp() / p.exp().sum(1, keepdim=True),
    "sigmoid by hand": lambda p, q: 1 / (1 + torch.exp(-p)),
    "shares": lambda p, q: torch.relu(p) / (torch.relu(p).sum(1, keepdim=True) + 1e-6),
    "threshold": lambda p, q: (torch.sigmoid(p) > 0.5).float(),
    "threshold of logits": lambda p, q: p > 0,
    "threshold in 8 bits": lambda p, q: (torch.sigmoid(p) > 0.5).to(torch.uint8),
    "where": lambda p, q: torch.where(p > 0, torch.sigmoid(q), torch.zeros_like(q)),
    "one class": lambda p, q: (p.argmax(1, keepdim=True) == 1).float(),
    "one hot": lambda p, q: F.one_hot(p.argmax(1), 3).permute(0, 3, 1, 2),
    "written into": lambda p, q: half_written(p),
    "float64": lambda p, q: torch.sigmoid(p).double(),
}

LOGITS: dict[str, End] = {
    "convolution": lambda p, q: p,
    "one channel": lambda p, q: p[:, :1],
    "sum": lambda p, q: p + q,
    "sum with what is positive": lambda p, q: p + torch.relu(q),
    "mean of two": lambda p, q: (p + q) / 2,
    "gated": lambda p, q: p * torch.sigmoid(q),
    "bilinear": lambda p, q: F.interpolate(p, scale_factor=2.0, mode="bilinear"),
    "bicubic by weights": lambda p, q: F.conv2d(p[:, :1], CROSS, padding=1),
    "weights on hidden sigmoids": lambda p, q: F.conv2d(torch.sigmoid(p)[:, :1], CROSS),
    "norm": lambda p, q: F.batch_norm(p, torch.zeros(3), torch.ones(3)),
    "leaky": lambda p, q: F.leaky_relu(p, 0.1),
    "temperature": lambda p, q: p / 1.5,
    "half": lambda p, q: p.half(),
    "far clamp": lambda p, q: p.clamp(-20, 20),
    "log_softmax": lambda p, q: p.log_softmax(1),
    "log_softmax in the last place": lambda p, q: (
        p.permute(0, 2, 3, 1).log_softmax(-1).permute(0, 3, 1, 2)
    ),
    "matrix": lambda p, q: torch.einsum("nchw,kc->nkhw", p, CROSS.flatten()[:6].view(2, 3)),
}

CLASSES: dict[str, End] = {
    "argmax": lambda p, q: p.argmax(1, keepdim=True),
    "argmax as float": lambda p, q: p.argmax(1, keepdim=True).float(),
    "argmin": lambda p, q: p.argmin(1, keepdim=True),
    "places of max": lambda p, q: p.max(1, keepdim=True)[1],
    "places of topk": lambda p, q: p.topk(1, dim=1)[1],
    "first of a sort": lambda p, q: p.sort(1, descending=True)[1][:, :1],
    "nearest": lambda p, q: F.interpolate(
        p.argmax(1, keepdim=True).float(), scale_factor=2.0, mode="nearest"
    ),
    "8 bits": lambda p, q: p.argmax(1, keepdim=True).to(torch.uint8),
}

NOT_KNOWN: dict[str, End] = {
    "relu": lambda p, q: torch.relu(p),
    "tanh": lambda p, q: torch.tanh(p),
    "exponential": lambda p, q: p.exp(),
    "softplus": lambda p, q: F.softplus(p),
    "square": lambda p, q: p * p,
    "product of features": lambda p, q: p * q,
    "relu by clamp": lambda p, q: p.clamp(min=0),
    "logsigmoid": lambda p, q: F.logsigmoid(p),
    "a part of log_softmax": lambda p, q: p.log_softmax(1)[:, 1:],
    "difference of probabilities": lambda p, q: torch.sigmoid(p) - torch.sigmoid(q),
    "sum of probabilities": lambda p, q: torch.sigmoid(p) + torch.sigmoid(q),
    "grey values": lambda p, q: torch.sigmoid(p) * 255,
    "grey values in 8 bits": lambda p, q: (torch.sigmoid(p) * 255).to(torch.uint8),
    "a sum that begins again": lambda p, q: (p > 0).to(torch.uint8) * 128 + (q > 0) * 128,
    "numbers times 100": lambda p, q: p.argmax(1, keepdim=True) * 100,
    "a table of numbers": lambda p, q: torch.tensor([3.0, 7.0, 9.0])[p.argmax(1, keepdim=True)],
    "several places": lambda p, q: p.topk(2, dim=1)[1],
    "positive weights on what is positive": lambda p, q: F.conv2d(
        torch.relu(p)[:, :1], BLUR, padding=1
    ),
    "bicubic of probabilities": lambda p, q: F.interpolate(
        torch.sigmoid(p), scale_factor=2.0, mode="bicubic"
    ),
    "slope below zero": lambda p, q: F.leaky_relu(p, -0.5),
}


@pytest.mark.parametrize("end", PROBABILITIES.values(), ids=PROBABILITIES)
def test_numbers_that_can_only_lie_from_0_to_1_are_probabilities(end: End) -> None:
    assert reading(end).meaning == "probabilities"


@pytest.mark.parametrize("end", LOGITS.values(), ids=LOGITS)
def test_features_of_both_signs_are_logits(end: End) -> None:
    assert reading(end).meaning == "logits"


@pytest.mark.parametrize("end", CLASSES.values(), ids=CLASSES)
def test_places_of_channels_are_classes(end: End) -> None:
    assert reading(end).meaning == "classes"


@pytest.mark.parametrize("end", NOT_KNOWN.values(), ids=NOT_KNOWN)
def test_what_proves_nothing_is_not_guessed(end: End) -> None:
    assert reading(end).meaning is None


@pytest.mark.parametrize(
    ("end", "meaning"),
    [
        (lambda p, q: (torch.sigmoid(p) + torch.sigmoid(q)) / 2, "probabilities"),
        (lambda p, q: p.argmax(1, keepdim=True), "classes"),
        (lambda p, q: F.avg_pool3d(p, 3, 1, 1), "logits"),
    ],
)
def test_volumes_are_read_alike(end: End, meaning: str) -> None:
    assert reading(end, 3).meaning == meaning


@pytest.mark.parametrize("end", [*PROBABILITIES.values(), *LOGITS.values(), *NOT_KNOWN.values()])
def test_no_value_is_beyond_the_bounds_that_are_given(end: End) -> None:
    network = Ending(end).eval()
    values = follow(network, 1, (32, 32))
    generator = torch.Generator().manual_seed(1)
    for scale in (1, 10):
        with torch.inference_mode():
            found = network(torch.randn((1, 1, 32, 32), generator=generator) * scale).double()
        assert values.low - 1e-5 <= float(found.min())
        assert float(found.max()) <= values.high + 1e-5


def test_a_word_against_the_operators_is_seen() -> None:
    assert "another sigmoid" in contradiction(
        "logits", reading(PROBABILITIES["mean of two"]).values
    )
    assert "both signs" in contradiction("probabilities", reading(LOGITS["convolution"]).values)
    assert "numbers of classes" in contradiction("logits", reading(CLASSES["argmax"]).values)
    assert contradiction("logits", reading(NOT_KNOWN["relu"]).values) == ""
