"""The experiments' networks and images, all from seeds."""

from __future__ import annotations

from itertools import product
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exactile.geometry import Box, Interval
from exactile.models.fc_densenet import FCDenseNet
from exactile.models.loading import BUNDLED, open_model
from exactile.models.unet import UNet
from exactile.normalization import fit_array, normalize
from exactile.processing import NIST_ZSCORE
from exactile.reproduce.recipes import (
    BundledUNet,
    ImageKind,
    RandomFCDenseNet56,
    RandomUNet,
    Recipe,
)
from exactile.synthetic import slide

PIECE = 1024
"""Side of the boxes that slides are made in, in pixels."""

CALIBRATION_SIDE = 512
CALIBRATION_SEED = 1000
"""Far from the seeds of the images that are measured."""


def build(recipe: Recipe) -> nn.Module:
    """Return the network of `recipe` in evaluation mode; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        match recipe:
            case BundledUNet():
                return open_model(BUNDLED).network
            case RandomUNet():
                network: nn.Module = UNet(
                    classes=recipe.classes,
                    base_width=recipe.width,
                    depth=recipe.depth,
                    convolutions=recipe.convolutions,
                )
            case RandomFCDenseNet56():
                network = FCDenseNet(channels=1, classes=2, layers=56)
            case _:
                assert_never(recipe)
        start_as_keras(network)
    network.eval()
    if recipe.calibrated is not None:
        side = (CALIBRATION_SIDE, CALIBRATION_SIDE)
        calibrate(network, make_image(recipe.calibrated, side, CALIBRATION_SEED))
    return network


def start_as_keras(network: nn.Module) -> None:
    """Give convolutions the weights Keras starts with: Glorot's uniform ones, and biases of 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def calibrate(network: nn.Module, image: NDArray[np.float32]) -> None:
    """Take the statistics of all batch normalisations from `image` (1, Y, X).

    Without them the output of a random network is almost flat, and errors hide in that.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.inference_mode():
        network(torch.from_numpy(image[None]))
    network.eval()


def make_image(kind: ImageKind, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Return the network's input (1, Y, X): a slide after NIST's z-score, or N(0, 1) noise."""
    if kind == "noise":
        return np.random.default_rng(seed).standard_normal((1, *shape), dtype=np.float32)
    pixels = np.empty((1, *shape), np.uint16)
    for axes in product(*(Interval(0, side).split(PIECE) for side in shape)):
        box = Box(axes)
        pixels[box.slices] = slide(box, seed)[0]
    return normalize(pixels, fit_array((NIST_ZSCORE,), pixels))
