from __future__ import annotations

from collections.abc import Iterator

import pytest
from partition_ranks import Ranks


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Four ranks, for all tests of the session."""
    made = Ranks(4, tmp_path_factory.mktemp("ranks"))
    yield made
    made.stop()
