"""What is told of a run is the same on both backends: who has a figure, and which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from antiphon.engine.metrics.figures import figures, samples
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError
from antiphon.telemetry.figures import SampleRow
from tests.contracts.backend_documents import Document
from tests.contracts.backend_themes import SICK, THEMES
from tests.contracts.backend_twins import made
from tests.contracts.backend_unlike import UNLIKE

STEPS = 6
KNOWN = {"critics that diverge": "injection_norm"}
"""At the step at which it diverges the reference still tells what a predictor put on its messages."""
ALL = THEMES | UNLIKE | SICK

Told = tuple[dict[tuple[str, str, str], float], list[SampleRow]]


def told(simulation: Simulation, step: int) -> Told:
    rows = {row[:3]: row.value for row in figures(simulation, step, simulation.train_means.pop())}
    return rows, samples(simulation.backend.view(), simulation.scenario)


def everything(document: Document, backend: str) -> list[Told]:
    found = []
    with made(document, backend) as simulation:
        for step in range(STEPS):
            try:
                simulation._advance(watch=True)
            except DivergenceError:
                break
            found.append(told(simulation, step))
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly) if name in UNLIKE else name for name in ALL]
)
def test_the_same_is_told_of_every_agent_and_channel(name: str) -> None:
    one, other = everything(ALL[name], "reference"), everything(ALL[name], "cohort")
    assert len(one) == len(other)
    left_out = KNOWN.get(name)
    for (ours, our_samples), (theirs, their_samples) in zip(one, other, strict=True):
        assert [key for key in ours if key[2] != left_out] == [key for key in theirs if key[2] != left_out]
        for key in set(ours) & set(theirs):
            alike = math.isclose(ours[key], theirs[key], rel_tol=1e-6, abs_tol=1e-9)
            assert alike or (math.isnan(ours[key]) and math.isnan(theirs[key])), (key, ours[key], theirs[key])
        assert [channel for channel, _ in our_samples] == [channel for channel, _ in their_samples]
        for (channel, mine), (_, yours) in zip(our_samples, their_samples, strict=True):
            np.testing.assert_allclose(mine, yours, rtol=1e-4, atol=1e-5, err_msg=channel)
