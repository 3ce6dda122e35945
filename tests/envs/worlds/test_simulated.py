"""Worlds in simulations: both engines read the same signals, and a checkpoint goes on bit for bit over ends of episodes."""

from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from tests.envs.worlds.made import WORLDS

OBSERVED = {
    "antiphon/CartPole-v0": ("angle", "observation"),
    "antiphon/SpeakerListener-v0": ("speaker", "listener"),
    "antiphon/KeyDoor-v0": ("position", "observation"),
}
"""By world, what the sender observes, and what the receiver has to tell."""


def scenario(name: str) -> antiphon.Scenario:
    """Two agents that watch a world whose actions are random, one of them with a state."""
    observed, target = OBSERVED[name]
    memory = {"kind": "gru", "size": 8}
    agents: dict[str, Any] = {
        "eye": {"observes": [observed], "network": memory, "clock": {"unroll": 4}},
        "mind": {"objective": {"kind": "regression", "target": target}, "clock": {"unroll": 4}},
    }
    return antiphon.Scenario(
        scenario="watch",
        env={"id": name, **WORLDS[name]},
        agents=agents,
        channels=[{"from": "eye", "to": "mind", "size": 3}],
        training={"batch": 6},
    )


def losses(simulation: antiphon.Simulation, steps: int) -> list[float]:
    found = [info["losses"].get("mind") for info in (simulation.step() for _ in range(steps))]
    return [float(loss) for loss in found if loss is not None]


@pytest.mark.parametrize("name", OBSERVED)
def test_both_engines_agree_and_a_checkpoint_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    with (
        antiphon.Simulation(scenario(name), dtype=torch.float64) as run,
        antiphon.Simulation(scenario(name), backend="reference", dtype=torch.float64) as reference,
    ):
        before, plain = losses(run, 30), losses(reference, 30)
        assert len(before) > 5
        assert before == pytest.approx(plain, abs=1e-9)
        run.save(tmp_path / "saved")
        after = losses(run, 30)
        state = run._state_dict()["env"]
    with antiphon.Simulation.load(tmp_path / "saved", scenario=scenario(name)) as rest:
        assert losses(rest, 30) == after
        other = rest._state_dict()["env"]
    assert other["step"] == state["step"] == 60
    for key, value in state["state"].items():
        assert torch.equal(other["state"][key], value)
