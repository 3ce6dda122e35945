"""A locked split trains as the model in a plain loop does; it comes back as the user's own model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.nets.random import seed_for
from tests.engine.split.models import GPT, ResNet, UNet, ViT
from tests.engine.split.parts import LOOP, ROUNDING

ADAM = {"kind": "adam", "lr": 0.003}


def pictures() -> Any:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randn(64, 1, 8, 8, generator=numbers)
    return from_tensors(image=image, label=torch.arange(64) % 10, test=0.1, validation=0.1)


def text() -> Any:
    data = torch.randint(0, 7, (64, 7), generator=torch.Generator().manual_seed(0))
    return from_tensors(
        tokens=data[:, :-1], following=data[:, 1:], training_only=["following"], test=0.1, validation=0.1
    )


def seeded_at(model: nn.Module, cuts: list[str], step: list[int]) -> None:
    """Seed torch where the parts begin, as the agents do at every tick."""

    def seed(part: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            torch.manual_seed(seed_for(seed_for(0, "agent", f"part{part}"), "tick", str(step[0])))

        return hook

    model.register_forward_pre_hook(seed(0))
    for i, name in enumerate(cuts):
        model.get_submodule(name).register_forward_pre_hook(seed(i + 1))


def trained_plainly(
    model: nn.Module, cuts: list[str], run: Simulation, steps: int, loss: Callable[[nn.Module, Any], Tensor]
) -> nn.Module:
    step = [0]
    seeded_at(model, cuts, step)
    optimiser = torch.optim.Adam(model.double().train().parameters(), lr=ADAM["lr"], fused=True)
    for step[0] in range(steps):
        signals = {name: value.clone() for name, value in run.world.step_signals.signals.items()}
        optimiser.zero_grad()
        loss(model, signals).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        run.step()
    return model


def of_pictures(model: nn.Module, signals: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(signals["image"]), signals["label"])


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize(
    ("make", "at"),
    [
        (ResNet, ["layer1.1", "layer2.0.conv2", "fc"]),
        (UNet, ["bottom", "up2"]),
        (ViT, ["blocks.1", "blocks.2.mlp"]),
    ],
)
def test_a_locked_split_trains_as_the_model_does(
    make: Callable[[], nn.Module], at: list[str], backend: str
) -> None:
    torch.manual_seed(0)
    model = make()
    scenario = antiphon.split(model, at, env=pictures(), coupling="locked", batch=8, optimiser=ADAM)
    with Simulation(scenario, dtype=torch.float64, backend=backend) as run:
        plain = trained_plainly(model, at, run, LOOP, of_pictures)
        joined = antiphon.join(run).double()
        loaded = antiphon.join(run, into=make().double())
    assert type(joined) is type(model)
    assert list(joined.state_dict()) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, atol=ROUNDING, rtol=0)


def of_text(model: nn.Module, signals: dict[str, Tensor]) -> Tensor:
    logits, _ = model(signals["tokens"], signals["following"])
    return F.cross_entropy(logits.flatten(0, 1), signals["following"].flatten())


def split_text(model: nn.Module, at: Any, **settings: Any) -> antiphon.Scenario:
    return antiphon.split(
        model,
        at,
        env=text(),
        inputs={"idx": "tokens", "targets": "following"},
        objective={"kind": "classification", "target": "following"},
        batch=8,
        optimiser=ADAM,
        **settings,
    )


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("at", [["blocks.1", "blocks.2"], ["blocks.0.mlp", "blocks.1.drop", "head"]])
def test_a_language_model_with_dropout_trains_as_in_a_plain_loop(at: list[str], backend: str) -> None:
    torch.manual_seed(0)
    model = GPT(dropout=0.2)
    with Simulation(split_text(model, at, coupling="locked"), dtype=torch.float64, backend=backend) as run:
        plain = trained_plainly(model, at, run, LOOP, of_text)
        joined = antiphon.join(run, into=GPT().double())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("at", [["blocks.1"], ["blocks.0.mlp", "blocks.2"]])
def test_tied_weights_kept_together_train_as_in_a_plain_loop(at: list[str]) -> None:
    torch.manual_seed(0)
    model = GPT(dropout=0.0, tied=True)
    scenario = split_text(model, at, coupling="locked", tie="together")
    with Simulation(scenario, dtype=torch.float64) as run:
        plain = trained_plainly(model, at, run, LOOP, of_text)
        joined = antiphon.join(run, into=GPT(tied=True).double())
    assert joined.head.weight is joined.wte.weight
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, atol=ROUNDING, rtol=0)


def test_tied_weights_made_independent_come_back_as_two() -> None:
    torch.manual_seed(0)
    model = GPT(tied=True)
    with Simulation(split_text(model, ["blocks.1"], tie="copy", coupling="detached")) as run:
        run.run(steps=5)
        joined = antiphon.join(run)
        part0, part1 = (run.agents[name].parameters for name in ("part0", "part1"))
    assert not torch.equal(joined.head.weight, joined.wte.weight)
    assert torch.equal(joined.head.weight, part1["module.head.weight"])
    assert torch.equal(joined.wte.weight, part0["module.wte.weight"])
    assert model.head.weight is model.wte.weight


def test_a_scenario_has_one_copy_of_the_parameters_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model = GPT(tied=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scenario = split_text(model, ["blocks.1", "blocks.2"], tie="copy", gradient="local")
    networks = [agent.network for agent in scenario.agents.values()]
    numbers = {p.data_ptr(): p.numel() for network in networks for p in network.parameters()}
    assert sum(numbers.values()) == sum(p.numel() for p in model.parameters())
    assert not numbers.keys() & {p.data_ptr() for p in model.parameters()}
    results = []
    for _ in range(2):  # a run neither changes what the next begins with
        with Simulation(scenario) as run:
            untrained = antiphon.join(run)
            run.run(steps=3)
            results.append(antiphon.join(run).state_dict())
        for key, value in before.items():
            assert torch.equal(model.state_dict()[key], value), key
            assert torch.equal(untrained.state_dict()[key], value), key
    assert not torch.equal(results[0]["wte.weight"], before["wte.weight"])
    for key, value in results[0].items():
        assert torch.equal(results[1][key], value), key
