"""Digests: equal where what was learned is equal to the last bit, whoever holds the numbers; else not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation, load
from antiphon.engine.metrics.digests import SIZE, described_scenario, digests, numbers
from antiphon.engine.runs.seeds import Seeds
from antiphon.envs import from_tensors
from antiphon.scenarios.channel_specs import GradientSpec
from antiphon.scenarios.spec import plain
from antiphon.telemetry.figures import DigestRow, Kind
from tests.engine.numbers import predictor_of
from tests.engine.scenes import CLASSIFY, scenario_of

HOLDERS = {"kind": "linear", "context": ["label"]}


def many(channels: Any = None, **more: Any) -> Scenario:
    """An eye with running statistics and three listeners that are alike."""
    listener = {"objective": CLASSIFY, "network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}
    eye = {"observes": ["image"], "network": {"kind": "mlp", "hidden": [5], "norm": "batch"}}
    names = ("ear", "mind", "nose")
    channel = {"from": "eye", "size": 3, "link": {"delay": 1}, "gradient": HOLDERS}
    told = [{**channel, "to": name} for name in names] if channels is None else channels
    return scenario_of(
        more.pop("agents", {"eye": eye, **dict.fromkeys(names, listener)}), told, batch=4, steps=20, **more
    )


def rows_of(simulation: Simulation) -> list[DigestRow]:
    return digests(simulation.backend, simulation.scenario.agents)


def of(simulation: Simulation) -> dict[tuple[Kind, str], bytes]:
    return {(kind, name): digest for kind, name, digest in rows_of(simulation)}


def test_every_agent_and_channel_has_one_in_canonical_order() -> None:
    with Simulation(many()) as simulation:
        rows = rows_of(simulation)
        names = [*simulation.scenario.agents, *(channel.name for channel in simulation.scenario.channels)]
    assert [name for _, name, _ in rows] == names
    assert [kind for kind, _, _ in rows] == ["agent"] * 4 + ["channel"] * 3
    assert {len(digest) for _, _, digest in rows} == {SIZE}


def test_states_that_a_scenario_does_not_mention_are_among_them() -> None:
    with Simulation(load("copy").resolve(values={"hidden": 6, "batch": 4})) as simulation:
        names = {name for kind, name, _ in rows_of(simulation) if kind == "channel"}
        assert names == set(simulation.system.channels)


@pytest.mark.parametrize("backend", ["reference", "cohort"])
def test_stacked_numbers_have_the_digests_of_single_ones(backend: str) -> None:
    with Simulation(many(), backend=backend) as simulation:
        for _ in range(5):
            simulation.advance()
            assert rows_of(simulation) == rows_of(simulation.fork(stacked=False))


def test_seeds_that_are_run_together_have_digests_of_their_own() -> None:
    seeds = Seeds(many(), [0, 1])
    for _ in range(3):
        seeds.step()
    found = [of(simulation) for simulation in seeds.simulations]
    assert all(found[0][key] != found[1][key] for key in found[0])
    with Simulation(many(), seed=0) as alone:
        assert of(alone).keys() == found[0].keys()
    seeds.close()


@pytest.mark.parametrize("place", ["parameter", "buffer", "predictor"])
def test_one_bit_changes_one_digest(place: str) -> None:
    with Simulation(many(), backend="reference") as simulation:
        simulation.advance()
        before = of(simulation)
        changed: tuple[Kind, str] = ("agent", "eye")
        if place == "predictor":
            changed = ("channel", "eye->ear")
            tensor = predictor_of(simulation, "eye->ear").parameters["last.weight"]
        else:
            learner = simulation.system.agents["eye"].learner
            tensor = next(iter((learner.parameters if place == "parameter" else learner.buffers).values()))
        bits = tensor.data.view(torch.int32).view(-1)
        bits[-1] ^= 1
        after = of(simulation)
        assert {key for key in before if before[key] != after[key]} == {changed}
        bits[-1] ^= 1
        assert of(simulation) == before


def test_a_zero_has_a_sign() -> None:
    with Simulation(many(), backend="reference") as simulation:
        before = of(simulation)
        simulation.system.agents["eye"].learner.parameters["0.bias"].data.zero_()
        zeros = of(simulation)
        simulation.system.agents["eye"].learner.parameters["0.bias"].data.neg_()
        assert len({each["agent", "eye"] for each in (before, zeros, of(simulation))}) == 3


def test_how_numbers_lie_in_memory_does_not_matter() -> None:
    with Simulation(many(), backend="reference") as simulation:
        before = of(simulation)
        weight = simulation.system.agents["eye"].learner.parameters["0.weight"]
        weight.data = weight.data.t().contiguous().t()
        assert not weight.is_contiguous()
        assert of(simulation) == before


def test_shapes_are_part_of_them() -> None:
    """Predictors begin with zeros, which are alike whatever reads them."""
    channels = many().channels
    narrow = many(
        channels=[
            c.model_copy(update={"gradient": c.gradient.model_copy(update={"context": ()})}) for c in channels
        ]
    )
    with Simulation(many()) as one, Simulation(narrow) as other:
        assert of(one)["agent", "eye"] == of(other)["agent", "eye"]
        assert of(one)["channel", "eye->ear"] != of(other)["channel", "eye->ear"]


def test_tied_agents_have_one_digest() -> None:
    agents = {
        name: {"observes": ["image"], "objective": CLASSIFY, "share": "both"} for name in ("left", "right")
    }
    with Simulation(many(agents=agents, channels=[])) as simulation:
        before = of(simulation)
        simulation.advance()
        found = of(simulation)
    assert len(found) == 2
    assert len(set(found.values())) == len(set(before.values())) == 1
    assert found != before


def test_channels_that_learn_nothing_never_change() -> None:
    detached = many(
        channels=[
            c.model_copy(update={"coupling": "detached", "gradient": GradientSpec()}) for c in many().channels
        ]
    )
    with Simulation(detached) as simulation:
        before = of(simulation)
        simulation.advance()
        after = of(simulation)
    assert after["channel", "eye->ear"] == before["channel", "eye->ear"]
    assert after["agent", "ear"] != before["agent", "ear"]


def test_types_are_part_of_them() -> None:
    with Simulation(many(), dtype=torch.float64) as double, Simulation(many()) as single:
        assert all(of(double)[key] != digest for key, digest in of(single).items())


def test_looking_changes_no_number() -> None:
    with Simulation(many(), backend="cohort") as watched, Simulation(many(), backend="cohort") as plain:
        for _ in range(6):
            watched.advance()
            plain.advance()
            rows_of(watched)
        assert rows_of(watched) == rows_of(plain)


def test_what_digests_are_of_has_names() -> None:
    with Simulation(many(), backend="reference") as simulation:
        system = simulation.system
        assert list(numbers(system.channels["eye->ear"])) == ["predictor.last.weight", "predictor.last.bias"]
        assert {"0.weight", "0.norm.mean"} <= numbers(system.agents["eye"]).keys()


def table(folder: Path) -> bytes:
    return (folder / "digests.csv").read_bytes()


def test_the_same_seed_gives_the_same_table_and_another_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with Simulation(many(), seed=seed, logdir=tmp_path / name) as simulation:
            simulation.run(6)
    assert table(tmp_path / "a") == table(tmp_path / "b") != table(tmp_path / "c")


# --- Python objects in a scenario -----------------------------------------------------------------------------


class Settings:
    """A user's object: what it holds in public counts."""

    def __init__(self, rate: float, rows: Any = (), cache: Any = None) -> None:
        self.rate, self.rows, self._cache = rate, rows, cache
        self.own = self  # may be part of itself

    def make(self, **_: Any) -> None: ...


class Tempered(nn.Linear):
    """A module with a setting that its printed form does not show."""

    def __init__(self, temperature: float) -> None:
        super().__init__(3, 2)
        self.temperature = temperature


def factory(inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    return nn.Linear(inputs, outputs, bias)


def other_factory(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


X = torch.arange(12.0).reshape(4, 3)


def factory_of(width: int) -> Callable[..., nn.Module]:
    def make(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, outputs))

    return make


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (lambda: X.clone(), [lambda: X + 1, lambda: X.double(), lambda: X.reshape(3, 4)]),
        (lambda: X.bfloat16(), [lambda: (X + 1).bfloat16()]),
        (lambda: X.T, [lambda: X]),
        (lambda: X.numpy(), [lambda: X.numpy() + 1, lambda: X.numpy().astype("f8")]),
        (
            lambda: from_tensors(x=X, label=[0, 1, 1, 0]),
            [
                lambda: from_tensors(x=X, label=[0, 1, 1, 1]),
                lambda: from_tensors(x=X + 1, label=[0, 1, 1, 0]),
                lambda: from_tensors(x=X, label=[0, 1, 1, 0], test=0.5),
                lambda: from_tensors(x=X, label=[0, 1, 1, 0], hold=2),
            ],
        ),
        (
            lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU()),
            [
                lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh()),
                lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU()),
            ],
        ),
        (lambda: Tempered(1.0), [lambda: Tempered(2.0), lambda: nn.Linear(3, 2)]),
        (lambda: factory, [lambda: other_factory, lambda: nn.Linear]),
        (lambda: factory_of(8), [lambda: factory_of(9)]),
        (
            lambda: functools.partial(factory, bias=False),
            [lambda: functools.partial(factory, bias=True), lambda: functools.partial(other_factory)],
        ),
        (
            lambda: Settings(0.5, {"rows": [X, {1, 2}]}, cache=object()),
            [lambda: Settings(0.25, {"rows": [X, {1, 2}]}), lambda: Settings(0.5, {"rows": [X + 1, {1, 2}]})],
        ),
        (
            lambda: gymnasium.make_vec("CartPole-v1", num_envs=2),
            [lambda: gymnasium.make_vec("CartPole-v1", num_envs=3)],
        ),
    ],
)
def test_an_object_has_the_digest_of_what_it_holds(
    make: Callable[[], Any], others: list[Callable[[], Any]]
) -> None:
    def described(value: Any) -> Any:
        found = scenario_of({"a": {"observes": ["image"], "objective": CLASSIFY}})
        return described_scenario(found.model_copy(update={"env": value}))["env"]

    first = described(make())
    assert first == described(make())
    assert first.keys() == {"python", "digest"}
    assert len(bytes.fromhex(first["digest"])) == SIZE
    assert all(described(other()) != first for other in others)


def test_a_source_that_has_made_environments_holds_what_it_held() -> None:
    source = from_tensors(x=X, label=[0, 1, 1, 0])
    scenario = many().model_copy(update={"env": source})
    before = described_scenario(scenario)
    source.make(batch=2)
    assert described_scenario(scenario) == before


def test_a_scenario_without_objects_is_described_as_its_document() -> None:
    assert described_scenario(many()) == plain(many())
