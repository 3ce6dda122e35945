"""The library scenarios `gpt` and `resnet`: variants, parameters, and the model that comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import antiphon
from antiphon.agents.models import GPT, ResNet
from antiphon.engine.planning.advice import advice
from antiphon.engine.runs.library import template_named
from antiphon.engine.runs.python_template import PythonTemplate
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load

SMALL: dict[str, dict[str, Any]] = {
    "gpt": {"length": 8, "width": 8, "heads": 2, "blocks": 3, "batch": 4},
    "resnet": {"channels": 4, "stages": (1, 2), "batch": 4},
}
COUPLINGS = ["locked", "detached", "local", "decoupled"]
KINDS: dict[str, dict[str, str]] = {
    "gpt": {
        "lens": "lens",
        "sobolev_label": "sobolev_label",
        "infopro": "local",
        "aug_local": "local",
        "linear": "linear",
        "mlp": "mlp",
    },
    "resnet": {
        "local_linear": "local",
        "sobolev_conv": "sobolev_label",
        "infopro": "local",
        "aug_local": "local",
        "aug_local_2": "local",
        "conv": "conv",
        "linear": "linear",
    },
}
"""The further variants, each a kind of gradient."""
DAILY = (("gpt", "decoupled"), ("gpt", "infopro"), ("resnet", "detached"), ("resnet", "aug_local"))


def scenario(name: str, variant: str | None = None, **values: Any) -> Scenario:
    return template_named(name).resolve(variant, {**SMALL[name], **values})


@pytest.mark.parametrize("name", SMALL)
def test_variants(name: str) -> None:
    template = template_named(name)
    assert list(template.variants) == [*COUPLINGS, *KINDS[name]]
    kinds = {}
    for variant in template.variants:
        found = scenario(name, variant)
        couplings = {channel.coupling for channel in found.channels}
        gradients = {channel.gradient.kind for channel in found.channels}
        kinds[variant] = (couplings, gradients if couplings == {"decoupled"} else set())
        warned = [line for line in advice(found) if "no learning signal" not in line]  # of detached blocks
        direct = name == "gpt" and variant in ("linear", "mlp")
        assert all("residual streams" in line for line in warned) if direct else warned == []
        assert bool(warned) is direct
    assert kinds == {
        "locked": ({"locked"}, set()),
        "detached": ({"detached"}, set()),
        "local": ({"decoupled"}, {"local"}),
        "decoupled": ({"decoupled"}, {"local"}),
        **{variant: ({"decoupled"}, {kind}) for variant, kind in KINDS[name].items()},
    }


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(*one, marks=() if one in DAILY else pytest.mark.long)
        for one in ((name, variant) for name, kinds in KINDS.items() for variant in (*COUPLINGS, *kinds))
    ],
)
def test_a_run_gives_the_model_back(name: str, variant: str) -> None:
    found = scenario(name, variant)
    assert list(found.agents) == ["part0", "part1", "part2"]
    with Simulation(found) as simulation:
        before = {n: p.clone() for n, p in antiphon.join(simulation).named_parameters()}
        simulation.run(3)
        model = antiphon.join(simulation)
        assert simulation.evaluate("validation").agents["part2"]["loss"] > 0
    assert isinstance(model, GPT if name == "gpt" else ResNet)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    first = {n for n in before if n.startswith(("tokens", "positions", "conv.", "blocks.0"))}
    assert any(n.startswith("head") for n in moved)
    assert (not moved & first) if variant == "detached" else (first & moved)


def test_a_tied_head_stays_the_embedding() -> None:
    with Simulation(scenario("gpt", "local", tied=True)) as simulation:
        simulation.run(3)
        model = antiphon.join(simulation)
    assert torch.equal(model.head.weight, model.tokens.weight)


@pytest.mark.parametrize("name", SMALL)
def test_initial_parameters_have_a_seed(name: str) -> None:
    first, again, other = (scenario(name, initial=seed).agents["part0"].network for seed in (1, 1, 2))
    for key, parameter in first.named_parameters():
        if parameter.dim() > 1:
            assert torch.equal(parameter, dict(again.named_parameters())[key])
            assert not torch.equal(parameter, dict(other.named_parameters())[key])


def test_every_process_makes_the_same_model() -> None:
    """Values from a run's JSON are lists, and each call makes the scenario anew."""
    one = template_named("resnet").resolve(None, {"channels": 4, "stages": (1, 1)})
    other = PythonTemplate(base=antiphon.engine.split.library.resnet, source="another").resolve(
        None, {"channels": 4, "stages": [1, 1]}
    )
    assert one is not other
    for name, agent in one.agents.items():
        theirs = dict(other.agents[name].network.named_parameters())
        assert all(torch.equal(p, theirs[n]) for n, p in agent.network.named_parameters())


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"], ids=["too long", "no name"])
@pytest.mark.parametrize("find", [template_named, load])
def test_a_name_that_no_file_can_have_is_an_unknown_one(find: Callable[[str], object], name: str) -> None:
    with pytest.raises(ScenarioError, match="no scenario '"):
        find(name)
