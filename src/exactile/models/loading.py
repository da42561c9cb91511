"""From a path of any format to a model that is ready to run."""

from __future__ import annotations

import os
from pathlib import Path

from exactile.models.card import CARD_NAME
from exactile.models.formats import open_network
from exactile.models.formats.card import load_card
from exactile.models.model import Model, complete
from exactile.models.network_file import NetworkFile
from exactile.processing import Before

BUNDLED = Path(__file__).parent / "bundled" / "stem_cells"
"""The model that is used when none is named."""


def load_model(
    path: Path = BUNDLED, before: tuple[Before, ...] | None = None, *, exchange: bool = False
) -> Model:
    """Load and trace the model at `path`: a file, or a folder that holds one.

    `before` says how images are normalised for a model whose file does not. With `exchange`, a
    network without locality is taken as well.

    Raises:
        NotLocal: if the network cannot be run in exact tiles.
        ModelError: if it cannot be loaded or run.
    """
    return complete(open_model(path), before, exchange=exchange)


def open_model(path: Path) -> NetworkFile:
    """Return what the file at `path` holds and declares; nothing is traced yet."""
    if path.name == CARD_NAME or os.path.lexists(path / CARD_NAME):
        return load_card(path)
    return open_network(path)
