"""What cannot be learned, in one line each: the change of a document, and the line."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Scenario, ScenarioError, Simulation
from tests.contracts.builders import Document, levels, ring
from tests.contracts.documents import tied
from tests.contracts.sites import TOKENS


def told(**gradient: Any) -> Document:
    return levels(channel={**TOKENS, "gradient": gradient})


def stand_in(*context: str) -> Document:
    return levels(channel={"input": {"kind": "linear", "context": list(context)}})


REFUSED: dict[str, tuple[Document, str]] = {
    "a stand-in told a label": (stand_in("label"), r"input.context.*label.*training-only"),
    "a stand-in told what comes back": (stand_in("returned"), r"input.context.*returned"),
    "unlocked without a stand-in": (levels(channel={"coupling": "unlocked"}), "input"),
    "tied agents that see different things": (
        ring(
            2,
            agent=[{"share": "g", "observes": ["x"]}, {"share": "g", "observes": ["y"]}],
            channel={"port": "p"},
        ),
        r"agents\.n1\.share: tied agents need equal inputs and ports",
    ),
    "a tie of two shapes": (
        tied(ring(), ["n0.0.weight", "n1.0.bias"]),
        r"share\[0\]\[1\]: 'n1.0.bias' has shape \[4\], 'n0.0.weight' has \[4, 8\]; tied",
    ),
    "a tie of what there is not": (
        tied(ring(), ["n0.0.weight", "n1.weight"]),
        r"share\[0\]\[1\]: agent 'n1' has no parameter 'weight'; did you mean '0.weight'",
    ),
    "a head by name": (
        told(kind="local", target="label", network="mlp"),
        r"network: must be a torch module or a factory, from Python",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_refused_in_one_line(name: str) -> None:
    scene, line = REFUSED[name]
    with pytest.raises(ScenarioError, match=line) as found:
        Simulation(Scenario.model_validate(scene))
    assert "\n" not in str(found.value)
