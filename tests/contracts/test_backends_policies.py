"""The cohort backend computes what the reference backend computes, where agents act and learn from rewards.

In float64, over fourteen steps, to 1e-9: parameters, optimisers, losses, and what every ledger holds.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.state import checkpoint
from tests.contracts.backend_documents import STEPS, Document, document
from tests.contracts.backend_policies import SPACES, Game, acting
from tests.contracts.backend_twins import differences, hold, made, side_by_side, stacked, step_by_step, twins

MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "none", "activation": "tanh"}


def pairs(objective: Document, count: int = 2, *, space: str = "choice", **channel: Any) -> Document:
    """Pairs of a sender and an actor, all alike."""
    names = [f"a{i}" for i in range(count)]
    agents, channels = dict[str, Document](), []
    for name in names:
        shared = {"network": MLP, "clock": {"unroll": 4}}
        agents[name] = {**shared, "observes": ["x"], "acts": f"part-{name}", "objective": deepcopy(objective)}
        agents[f"s{name}"] = {**shared, "observes": ["y"]}
        channels.append({"from": f"s{name}", "to": name, "size": 3, **channel})
    game = Game(space, tuple(f"part-{name}" for name in names), share=0.2)
    return document(agents, channels, game, batch=12)


@settings(max_examples=15)
@given(acting(), st.integers(1, STEPS))
def test_random_scenarios_with_actors(scene: Document, look: int) -> None:
    hold(scene, look)


@pytest.mark.nightly
@settings(max_examples=500)
@given(acting(), st.integers(1, STEPS))
def test_many_random_scenarios_with_actors(scene: Document, look: int) -> None:
    hold(scene, look)


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
@pytest.mark.parametrize("kind", ["a2c", "ppo", "reinforce"])
def test_stacks_of_actors(kind: str, coupling: str) -> None:
    scene = pairs({"kind": kind}, 3, coupling=coupling)
    assert stacked(made(scene, "cohort"))
    hold(scene, look=7)


@pytest.mark.parametrize("space", SPACES)
def test_every_space(space: str) -> None:
    hold(pairs({"kind": "ppo"}, space=space), look=7)


@pytest.mark.parametrize("kind", ["a2c", "ppo"])
def test_states_pass_from_one_backend_to_the_other_in_mid_window(kind: str) -> None:
    scene = pairs({"kind": kind}, 2, coupling="decoupled", link={"delay": 1})
    for agent in scene["agents"].values():
        agent["clock"] = {"period": 2, "unroll": 3}
    step_by_step(scene)
    reference, cohort = twins(scene)
    cohort.run(7)
    assert isinstance(cohort._state_dict()["system"]["actions"]["a0"], torch.Tensor)
    reference._load_state_dict(checkpoint.copy_tree(cohort._state_dict()))
    side_by_side(reference, cohort, 9)


def test_figures_are_the_same() -> None:
    """Of the first pass, but for how far the further ones moved."""
    reference, cohort = twins(pairs({"kind": "ppo", "epochs": 3, "minibatches": 2}, coupling="locked"))
    for step in range(8):
        reference.step()
        cohort.step()
        ours, theirs = reference.learned.figures(), cohort.learned.figures()
        assert bool(ours) == (step % 4 == 3)
        assert not list(differences(ours, theirs))
    assert set(ours) == {"a0", "a1"}
    assert float(ours["a0"]["approx_kl"]) > 0.0


def test_a_member_whose_window_teaches_nothing_does_not_move() -> None:
    """Where nothing in a window teaches an agent, it takes no optimiser step, whatever its likes do (rule 41)."""
    scene = pairs({"kind": "reinforce"}, 3, coupling="detached")
    scene["env"] = Game("choice", scene["env"].parts, share=0.2, own=("a0", "a1", "a2"))
    scene["training"]["batch"] = 2
    hold(scene, look=7)
    _, cohort = twins(scene)
    cohort.run(STEPS)
    updates = {name: cohort._system.agents[name].learner.updates for name in ("a0", "a1", "a2")}
    assert min(updates.values()) < 5


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("bound", [0.1, 2.0])
def test_an_agent_that_diverges_in_a_further_pass_takes_no_other(count: int, bound: float) -> None:
    """Its likes go on; at the smaller bound all diverge in the first pass."""
    scene = pairs({"kind": "ppo", "epochs": 3, "minibatches": 3, "value": 2.0}, count, coupling="detached")
    scene["training"] |= {
        "on_divergence": "quarantine",
        "bound": bound,
        "optimiser": {"kind": "sgd", "lr": 0.5},
    }
    hold(scene, look=7)
    _, cohort = twins(scene)
    cohort.run(STEPS)
    assert len(cohort.events) == count
    updates = {cohort._system.agents[f"a{i}"].learner.updates for i in range(count)}
    assert updates == {0} if bound < 1 else all(taken % 7 for taken in updates), updates


CRITIC: Document = {"observes": ["secret", "x"], "network": {"kind": "mlp", "hidden": [3], "norm": "layer"}}
LOCAL_POLICIES: dict[str, tuple[Document, Document]] = {
    "linear": ({"kind": "a2c"}, {}),
    "a critic": ({"kind": "ppo", "minibatches": 2, "critic": CRITIC}, {"context": ["label"]}),
    "hidden layers": (
        {"kind": "ppo", "epochs": 2, "minibatches": 2},
        {"hidden": [4], "norm": "layer", "normalise": "layer"},
    ),
    "episodes": ({"kind": "reinforce"}, {"hidden": [3]}),
}


@pytest.mark.parametrize("batch", [2, 6])
@pytest.mark.parametrize("name", LOCAL_POLICIES)
def test_local_policies(name: str, batch: int) -> None:
    """Rewards that agents lose, and so few rows that windows teach some members nothing."""
    objective, gradient = LOCAL_POLICIES[name]
    scene = pairs(objective, 3, gradient={"kind": "local_policy", **gradient})
    scene["env"] = Game("choice", scene["env"].parts, share=0.3, next_step=True, own=("a0", "a1", "a2"))
    scene["training"]["batch"] = batch
    hold(scene, look=7)
