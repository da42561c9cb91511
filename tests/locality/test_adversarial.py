"""Networks made to deceive: each is refused, or its windows give what one pass over all gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from adversarial import FORMS, Form, Recipe, imported, quiet, wrong
from adversarial_holders import HOLDERS
from adversarial_networks import hand_made
from adversarial_strategies import recipes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from locality_brute import single_thread  # noqa: F401

from exactile.locality import KeepsState
from exactile.locality.state import refuse_state

ALL = hand_made()
FEW = tuple(ALL)[:: len(ALL) // 4]
"""Tried in every run of the tests; all of them in slow ones."""

RANDOM = int(os.environ.get("ADVERSARIAL_NETWORKS", "40"))
"""Random networks in a slow run."""


@pytest.mark.parametrize("name", FEW)
def test_a_few_networks_that_deceive_are_refused_or_exact(name: str, tmp_path: Path) -> None:
    assert not {form: off for form in FORMS if (off := wrong(ALL[name], form, tmp_path))}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_script_holds_is_known_by_whatever_way_it_is_reached(
    name: str, tmp_path: Path
) -> None:
    with quiet():
        network = torch.jit.script(imported(HOLDERS[name], tmp_path).Network().eval())
    with pytest.raises(KeepsState, match="keeps a state"):
        refuse_state(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_networks_that_deceive_are_refused_or_exact(name: str, tmp_path: Path) -> None:
    assert not {form: off for form in FORMS if (off := wrong(ALL[name], form, tmp_path))}


@pytest.mark.slow
@settings(
    max_examples=RANDOM, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(recipe=recipes(), form=st.sampled_from(FORMS))
def test_random_networks_that_deceive_are_refused_or_exact(
    recipe: Recipe, form: Form, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert not wrong(recipe, form, tmp_path_factory.mktemp("network")), recipe.source
