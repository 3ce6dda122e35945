"""One's own sequences: every step of every one is shown once in an epoch, and what is padding is masked."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon import Scenario, Simulation, check, envs
from tests.contracts.builders import document
from tests.contracts.twins import made as simulated
from tests.reference.backend import Chosen, reference

LENGTHS = [1 + 5 * i % 7 for i in range(20)]
X = [torch.arange(n * 2.0).reshape(n, 2) + 100 * (i + 1) for i, n in enumerate(LENGTHS)]
Y = [x.sum(1) for x in X]
LABEL = torch.arange(20) % 3


def source(**changes: Any) -> envs.Source:
    return envs.from_sequences(**{"x": X, "y": Y, "label": LABEL, "training_only": ["y", "label"], **changes})


def visible(env: envs.TorchVectorEnv, name: str, steps: int, seed: int = 0) -> list[list[tuple[int, Tensor]]]:
    """What the masks let through, by environment, in order: step and value."""
    found: list[list[tuple[int, Tensor]]] = [[] for _ in range(env.num_envs)]
    obs, info = env.reset(seed=seed)
    for step in range(steps):
        values = {**obs, **info}
        for row in range(env.num_envs):
            if values[f"_{name}"][row]:
                found[row].append((step, values[name][row].clone()))
        obs, _, _, _, info = env.step(None)
    return found


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "options", [{}, {"pad_to_multiple": 3}, {"x": X[:7], "y": Y[:7], "label": LABEL[:7]}]
)
def test_contract(options: dict[str, Any]) -> None:
    envs.check_vector_env(lambda: source(**options).make(batch=3), steps=30)
    known = [torch.arange(n) % 2 == 0 for n in LENGTHS[: len(options.get("x", X))]]
    envs.check_vector_env(lambda: source(**options, _y=known).make(batch=2, dtype=torch.float64), steps=30)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_an_epoch_shows_every_step_of_every_sequence_once(split: str, batch: int) -> None:
    made = source()
    env = made.make(batch=batch, split=split)
    env.reset(seed=4)
    rows = env._table.splits[split].tolist()  # type: ignore[attr-defined]
    values = [value for row in visible(env, "x", env.evaluation_steps or 0, seed=4) for _, value in row]
    expected = torch.cat([X[row] for row in rows])
    assert sorted(map(tuple, torch.stack(values).tolist())) == sorted(map(tuple, expected.tolist()))


def test_every_epoch_of_training_has_an_order_of_its_own_and_other_splits_that_of_the_data() -> None:
    def firsts(split: str, seed: int, epochs: int) -> list[int]:
        env = source().make(batch=1, split=split)
        env.reset(seed=seed)
        steps = (env.evaluation_steps or 0) * epochs
        (row,) = visible(env, "x", steps, seed=seed)
        return [int(v[0]) // 100 for _, v in row if v[0] % 100 == 0]

    train = firsts("train", 0, 2)
    assert sorted(train[:14]) == sorted(train[14:])
    assert train[:14] != train[14:]
    assert train != firsts("train", 1, 2)
    test = firsts("test", 0, 1)
    assert test == sorted(test) == firsts("test", 1, 1)


def test_padding_is_zero_and_masked_and_ends_with_the_longest() -> None:
    env = source(test=0, validation=0).make(batch=4)
    obs, info = env.reset(seed=1)
    for _ in range(6):
        lengths = [LENGTHS[int(x[0]) // 100 - 1] for x in obs["x"]]
        for step in range(max(lengths)):
            there = torch.tensor([step < n for n in lengths])
            assert torch.equal(info["_x"], there)
            assert torch.equal(info["_y"], there)
            assert torch.equal(info["_label"], torch.tensor([step == n - 1 for n in lengths]))
            assert not bool(obs["x"][~there].any())
            assert not bool(info["y"][~there].any())
            assert env.episode_length == max(lengths)
            last = obs
            obs, reward, terminated, _, info = env.step(None)
            assert not bool(reward.any())
            assert bool((terminated == (step == max(lengths) - 1)).all())
        assert torch.equal(info["final_obs"]["x"], last["x"])
        if not bool(info["_x"].all()):
            break  # the epoch's last episode


def test_a_sequence_is_asked_for_its_target_where_slow_agents_tick() -> None:
    env = source(pad_to_multiple=3, test=0, validation=0).make(batch=20)
    rows = visible(env, "label", 9)
    assert sorted(step for row in rows for step, _ in row) == sorted(-(-n // 3) * 3 - 1 for n in LENGTHS)
    found = sorted(int(value) for row in rows for _, value in row)
    assert found == sorted(LABEL.tolist())


LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}


def simulation(made: envs.Source, backend: Chosen = "cohort", **changes: Any) -> Simulation:
    agent: dict[str, Any] = {
        "observes": ["x"],
        "network": LINEAR,
        "objective": {"kind": "regression", "target": "y"},
        **changes,
    }
    return simulated(document({"a": agent}, [], made, optimiser={"kind": "sgd", "lr": 1e-7}), backend)


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_loss_is_over_the_steps_that_there_are(backend: Chosen) -> None:
    """By hand: the mean over all steps of all sequences of a split, whatever the batch pads."""
    made = source()
    with simulation(made, backend) as one:
        one.run(9)
        linear = one.agents["a"].parameters
        rows = made.make(batch=1)._table.splits  # type: ignore[attr-defined]
        for split in ("train", "test"):
            x, y = (torch.cat([part[row] for row in rows[split]]).double() for part in (X, Y))
            output = x @ linear["objective.weight"].data.T + linear["objective.bias"].data
            found = one.evaluate(split)
            assert found.loss == pytest.approx(float((output[:, 0] - y).square().mean()))
            assert found.examples == len(x)


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_padding_gives_no_gradient(backend: Chosen) -> None:
    """More of it makes the same step, of windows that are the whole episode."""
    after = []
    lstm: dict[str, Any] = {"network": {"kind": "lstm", "size": 3}, "clock": {"unroll": "episode"}}
    for multiple in (1, 9):
        with simulation(source(pad_to_multiple=multiple), backend, **lstm) as one:
            length = one.world.env.episode_length
            assert length is not None
            one.run(length)
            after.append({k: v.clone() for k, v in one.agents["a"].parameters.items()})
    assert all(torch.allclose(after[0][key], after[1][key], rtol=1e-12, atol=0) for key in after[0])


@pytest.mark.parametrize("mask", [None, "here"])
def test_synthetic_gradients_are_of_padding_too_unless_the_channels_mask_leaves_it_out(
    mask: str | None,
) -> None:
    after = []
    agents: dict[str, Any] = {
        "a": {"observes": ["x"]},
        "b": {"objective": {"kind": "regression", "target": "y"}},
    }
    for name in agents:
        agents[name] |= {"network": {"kind": "gru", "size": 3}, "clock": {"unroll": "episode"}}
    x, y = [part / 1000 for part in X], [part / 1000 for part in Y]
    channel = {"from": "a", "to": "b", "size": 2, "gradient": {"kind": "linear"}, "mask": mask}
    for multiple in (8, 12):
        env = envs.from_sequences(
            x=x,
            y=y,
            here=[torch.ones(n) for n in LENGTHS],
            training_only=["y", "here"],
            pad_to_multiple=multiple,
        )
        training = {"batch": 16, "steps": 99}
        scenario = Scenario(scenario="pads", env=env, agents=agents, channels=[channel], training=training)
        with Simulation(scenario, dtype=torch.float64) as one:
            one.run(episodes=3)
            after.append(torch.cat([p.data.flatten() for p in one.agents["a"].parameters.values()]))
    assert torch.equal(*after) == (mask is not None)


@pytest.mark.parametrize(
    ("multiple", "clock", "fits"),
    [
        (1, {"period": 2}, False),
        (4, {"period": 2}, False),
        (4, {"period": 2, "phase": -1}, True),
        (1, {}, True),
    ],
)
def test_a_clock_that_misses_the_end_of_a_sequence_is_refused(
    multiple: int, clock: dict[str, Any], fits: bool
) -> None:
    goal = {"kind": "classification", "target": "label"}
    agent = {"observes": ["x"], "network": "gru", "objective": goal, "clock": {**clock, "unroll": "episode"}}
    env = source(pad_to_multiple=multiple)
    found = check(Scenario(scenario="ends", env=env, agents={"a": agent}, training={"batch": 4}))
    assert found.ok == fits
    assert fits or "pad them to multiples of 2 (pad_to_multiple), and give it phase -1" in str(found)
    # a target of each step has one wherever an agent ticks
    agent["objective"] = {"kind": "regression", "target": "y"}
    assert check(Scenario(scenario="ends", env=env, agents={"a": agent}, training={"batch": 4})).ok


class Normed(nn.Module):
    state_size = 4

    def __init__(self, inputs: int, outputs: int, norm: type[nn.Module] = nn.BatchNorm1d) -> None:
        super().__init__()
        self.norm, self.cell, self.out = norm(inputs), nn.GRUCell(inputs, 4), nn.Linear(4, outputs)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(self.norm(x), state)
        return self.out(state), state


@pytest.mark.parametrize(
    "network",
    [Normed, {"kind": "mlp", "norm": "batch"}, {"kind": "lstm", "size": 3, "cell_norm": "batch"}],
)
def test_batch_norm_over_padding_is_refused(network: Any) -> None:
    def lines(network: Any, pad: bool = True, **keys: Any) -> str:
        goal = {"kind": "regression", "target": "y"}
        agent = {
            "observes": ["x"],
            "network": network,
            "objective": goal,
            "clock": {"unroll": "episode"},
            **keys,
        }
        even = {"x": [x[:1] for x in X], "y": [y[:1] for y in Y]}
        env = source() if pad else source(**even)
        return str(check(Scenario(scenario="n", env=env, agents={"a": agent}, training={"batch": 4})))

    assert "batch norm would count the padding of sequences in its statistics; use layer norm" in lines(
        network
    )
    assert "padding" not in lines(network, pad=False) + lines(network, learn=False) + lines("gru")
    layer = (
        partial(Normed, norm=nn.LayerNorm)
        if network is Normed
        else {**network, "norm": "layer", "cell_norm": "none"}
    )
    if network is not Normed and network["kind"] == "mlp":
        layer.pop("cell_norm")  # type: ignore[union-attr]
    assert "padding" not in lines(layer)
