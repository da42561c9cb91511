"""A process of its own: predict what a pass takes, then run it and print both, in bytes.

    python cost_probe.py ENGINE PRECISION WIDTH SIDE

Width 0 is the bundled model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from exactile.allocation import prepare
from exactile.engines.eager import make_engine
from exactile.engines.openvino import make_openvino_engine
from exactile.locality.unet import unet_locality
from exactile.memory.cost import measure_cost
from exactile.memory.peak import measure_peak
from exactile.models.loading import BUNDLED, load_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import random_unet


def main() -> None:
    prepare()
    name, precision, width, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    network = random_unet(base_width=width) if width else load_model(BUNDLED, None).network
    make = {"eager": make_engine, "openvino": make_openvino_engine}[name]
    engine = make(network, torch.device("cpu"), precision)
    cost = measure_cost(engine, engine.network, unet_locality(depth=4, convolutions=2), 1)
    noise = np.random.default_rng(0).standard_normal((1, 1, side, side), dtype=np.float32)
    peak = measure_peak(engine.device, lambda: engine.logits(noise))
    assert peak is not None
    print(json.dumps({"predicted": cost.bytes((side, side)), "taken": peak}))


if __name__ == "__main__":
    main()
