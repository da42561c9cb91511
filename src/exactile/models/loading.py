"""From a path of any format to a model that is ready to run."""

from __future__ import annotations

import os
from pathlib import Path

from exactile.models.card import CARD_NAME
from exactile.models.formats import open_network
from exactile.models.formats.card import load_card
from exactile.models.formats.selection import the_only_output
from exactile.models.model import Model, complete
from exactile.models.network_file import NetworkFile
from exactile.models.told import NOTHING, Told

BUNDLED = Path(__file__).parent / "bundled" / "stem_cells"
"""The model that is used when none is named."""


def load_model(path: Path = BUNDLED, told: Told | None = None, *, exchange: bool = False) -> Model:
    """Load and trace the model at `path`: a file, or a folder that holds one.

    `told` is what the user says where the file does not. With `exchange`, a network without
    locality is taken as well.

    Raises:
        NotLocal: if the network cannot be run in exact tiles.
        ModelError: if it cannot be loaded or run.
    """
    told = told or NOTHING
    return complete(open_model(path, told.output), told, exchange=exchange)


def open_model(path: Path, output: str | None = None) -> NetworkFile:
    """Return what the file at `path` holds and declares; nothing is traced yet.

    `output` says which of several outputs is segmented.

    Raises:
        ModelError: if it cannot be loaded, or has not this output, or several of which none is
            said.
    """
    if path.name == CARD_NAME or os.path.lexists(path / CARD_NAME):
        return the_only_output(load_card(path), output)
    return open_network(path, output)
