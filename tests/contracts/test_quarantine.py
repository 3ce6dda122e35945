"""An agent or a predictor that diverges under quarantine: the same events and numbers on both backends, and the others' bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.contracts.builders import Document, ring
from tests.contracts.themes import SICK
from tests.contracts.twins import differences, facts, made
from tests.reference.backend import Chosen, reference
from tests.tiers import sampled


def poisoned(scenario: Document, backend: Chosen, place: str, value: float, steps: int = 6) -> dict[str, Any]:
    """Return everything known after some steps, an agent or a synthetic gradient having been filled with a value."""
    with made(scenario, backend) as simulation:
        simulation.run(5)
        name, _, which = place.partition(" ")
        model = simulation.agents.get(name) or getattr(simulation.channels[name], f"synthetic_{which}")
        assert model is not None
        for p in model.parameters.values():
            p.data.fill_(value)
        simulation.run(steps)
        return facts(simulation)


CASES = [(scenario, value) for scenario in SICK for value in (float("nan"), 1e30)]
CASES.remove(("groups", 1e30))
"""All that its agents compute of 1e30 is alike: what goes back to them is rounding, and how long that is differs by processor."""


@pytest.mark.parametrize(
    ("scenario", "value"), sampled(CASES, 5), ids=[f"{name}-{value:g}" for name, value in CASES]
)
def test_quarantine(scenario: str, value: float) -> None:
    first = next(iter(SICK[scenario]["agents"]))
    sent = next(c for c in SICK[scenario]["channels"] if c["from"] == first)
    channel, places = f"{sent['from']}->{sent['to']}", [first]
    places += [f"{channel} gradient"] if sent.get("coupling") != "locked" else []
    places += [f"{channel} input"] if "input" in sent else []
    for place in places:
        ours, theirs = (poisoned(SICK[scenario], backend, place, value) for backend in (reference, "cohort"))
        found = list(differences(ours, theirs))
        assert not found, "\n".join(found[:12])


@pytest.mark.long
def test_running_statistics_of_what_diverges_are_put_back() -> None:
    """Of one member of a stack; finite numbers of 1e30 would leave batch norm nothing but rounding errors."""
    batch = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}
    scenario = ring(agent=batch, on_divergence={"kind": "quarantine", "max": 1e3})
    ours, theirs = (poisoned(scenario, each, "n0", float("nan"), 3) for each in (reference, "cohort"))
    places = [place for place in ours if place.startswith("agent n0") and "norm" in place]
    found = [{place: each[place] for place in places} for each in (ours, theirs)]
    assert not list(differences(*found))
    assert any("norm.mean" in place for place in places)


@pytest.mark.long
def test_the_others_bits_do_not_depend_on_what_was_no_number() -> None:
    found = [
        poisoned(SICK["ring"], "cohort", "n0->n1 gradient", value)
        for value in (float("nan"), float("inf"), 1e25, -1e30)
    ]
    for other in found[1:]:
        for place, value in found[0].items():
            if isinstance(value, torch.Tensor) and not place.startswith(("agent n0", "channel n0->n1")):
                assert torch.equal(value, other[place]), place
