"""The training script runs from the data to a model that loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exactile.models.card import CARD_NAME
from exactile.models.formats.card import read_card
from exactile.models.loading import BUNDLED

SCRIPT = Path(__file__).parents[1] / "training" / "train_stem_cells.py"


@pytest.mark.slow
def test_a_few_steps_of_both_stages_give_a_model_like_the_bundled_one(
    shared: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), "--data", str(shared / "data/stem_cells")]
    command += ["--out", str(tmp_path), "--steps", "12", "--refine", "3"]
    subprocess.run(command, check=True)
    made, bundled = read_card(tmp_path / CARD_NAME), read_card(BUNDLED / CARD_NAME)
    assert made.architecture == bundled.architecture
    assert made.training["refine_steps"] == 3
    assert set(made.metrics) == set(bundled.metrics)
