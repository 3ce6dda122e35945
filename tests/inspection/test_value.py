"""What a learning signal is worth (semantics 36): 1 for the truth, 0 for nothing, and no bit of the run changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from tests.inspection.probed import chain, corporation

ALL = "all channels"
LABELLED = {"kind": "linear", "context": ["label"]}


def wide(coupling: str, **settings: Any) -> Simulation:
    """A chain with a batch large enough to tell what a few steps bring."""
    return chain(coupling, **{**settings, "training": {"batch": 64, **settings.get("training", {})}})


def measured(simulation: Simulation, **settings: Any) -> Any:
    return simulation.value(**{"horizon": 6, "repeats": 3, **settings})


@pytest.mark.parametrize(("goal", "rate"), [({"scale": 4.0}, 0.25), ({"reduction": "mean"}, 2)], ids=str)
def test_losses_are_means_over_targets_before_the_scale(goal: dict[str, Any], rate: float) -> None:
    """The same steps in windows of two ticks: at a rate that undoes what the loss is multiplied or divided by."""
    random = torch.Generator().manual_seed(0)
    x, label = torch.randn(64, 6, generator=random), torch.randint(0, 3, (64,), generator=random)

    def losses(rate: float = 1.0, **keys: Any) -> list[float]:
        clock = {"unroll": 2}
        objective = {"kind": "classification", "target": "label", **keys}
        agents = {
            "eye": {"observes": ["x"], "clock": clock},
            "mind": {"objective": objective, "clock": clock},
        }
        channel = {"from": "eye", "to": "mind", "size": 4, "coupling": "locked"}
        training = {"batch": 16, "optimiser": {"kind": "sgd", "lr": 0.1 * rate}}
        env = from_tensors(x=x, label=label)
        scenario = Scenario(scenario="s", env=env, agents=agents, channels=[channel], training=training)
        with Simulation(scenario, dtype=torch.float64) as simulation:
            row = simulation.value(channels=[], horizon=4, repeats=2)[ALL]
        return [row.zero, row.synthetic, row.true]

    assert losses(rate, **goal) == pytest.approx(losses(), rel=1e-9)


def test_a_locked_chain_is_worth_what_backpropagation_is() -> None:
    found = measured(wide("locked"))
    assert [row.name for row in found.rows] == [ALL, "a->b", "b->c", "c->d"]
    for row in found.rows:
        assert (row.value, row.low, row.high) == pytest.approx((1, 1, 1), abs=1e-9)
        assert row.gain > 3 * row.error > 0
        assert row.ahead == 0
    assert found[ALL].gain == pytest.approx(found["c->d"].gain)  # a cut there is a cut for all
    data = json.loads(json.dumps(found.to_dict()))
    assert ([row["name"] for row in data["rows"]][1:], data["horizon"]) == (["a->b", "b->c", "c->d"], 6)
    assert str(found).startswith("Value over 6 steps after step 0, 3 repeats")
    with pytest.raises(ScenarioError, match=r"^value: 'c->e' was not measured; did you mean 'c->d'\?$"):
        found["c->e"]


@pytest.mark.long
@pytest.mark.parametrize(
    "channel",
    [
        {"coupling": "decoupled"},
        {"coupling": "decoupled", "gradient": {**LABELLED, "scale": 0.5}},
        {"coupling": "decoupled", "training": {"sweep": True}},
    ],
    ids=str,
)
def test_whatever_the_coupling_the_true_signal_is_a_locked_channel_s_and_none_a_detached_one_s(
    channel: dict[str, Any],
) -> None:
    """How a channel weighs or mixes its own signal does not touch the one that is put in its place."""
    row, locked, detached = (
        measured(wide(**one), channels=[], repeats=2)[ALL]
        for one in (channel, {"coupling": "locked"}, {"coupling": "detached"})
    )
    assert (row.true, row.zero) == pytest.approx((locked.synthetic, detached.synthetic), rel=1e-9)
    assert abs(row.true - row.zero) > 1e-3


@pytest.mark.long
@pytest.mark.parametrize(
    "channel",
    [
        {"coupling": "detached"},
        {"coupling": "decoupled", "gradient": {**LABELLED, "scale": 0, "discount": 0}},
        {"coupling": "decoupled", "gradient": {"kind": "linear", "optimiser": {"kind": "sgd", "lr": 1e-300}}},
    ],
    ids=["detached", "shadow", "zero predictor"],
)
def test_a_signal_that_is_nothing_is_worth_nothing(channel: dict[str, Any]) -> None:
    for row in measured(wide(**channel), channels=["a->b"]).rows:
        assert (row.value, row.low, row.high) == (0, 0, 0)
        assert row.synthetic == row.zero > row.true


@pytest.mark.long
def test_over_cycles_and_delays_the_true_signal_is_that_of_whole_episodes() -> None:
    locked, decoupled = (
        corporation(coupling, unroll="episode").value([], horizon=8, repeats=2)[ALL]
        for coupling in ("locked", "decoupled")
    )
    assert (locked.synthetic, decoupled.true) == pytest.approx((locked.true, locked.true), abs=1e-9)
    assert abs(locked.gain) > 1e-4
    assert locked.ahead == 3
    found = corporation("locked").value([], horizon=2)[ALL]
    assert found.value is None
    line = "no readout (a, d) learns from a loss in the second half of 2 steps; use a longer horizon"
    assert found.why.endswith(line)


def test_divergence_leaves_no_value_and_is_named() -> None:
    found = measured(chain("decoupled", training={"optimiser": {"kind": "sgd", "lr": 1e200}}))
    assert all(row.value is None for row in found.rows)
    assert "as it is, it diverges: channel b->c: the synthetic gradient at step 2" in found[ALL].why


@pytest.mark.cases(1)
@pytest.mark.parametrize("horizon", [5, 6])
def test_losses_count_in_the_second_half_of_the_horizon(horizon: int) -> None:
    """With a rate of next to nothing, the losses are those of the parameters there are."""
    simulation = chain("decoupled", training={"optimiser": {"kind": "sgd", "lr": 1e-300}})
    simulation.run(3)
    row = simulation.value([], horizon=horizon, repeats=2)[ALL]
    with simulation.fork(stacked=False) as twin:
        losses = [float(info["losses"]["d"]) for info in (twin.step() for _ in range(2 * horizon))]
    halves = [losses[start + horizon // 2 : start + horizon] for start in (0, horizon)]
    expected = sum(sum(half) / len(half) for half in halves) / 2
    assert (row.true, row.synthetic, row.zero) == pytest.approx((expected,) * 3, rel=1e-12)
    assert abs(expected - sum(losses) / len(losses)) > 1e-4
