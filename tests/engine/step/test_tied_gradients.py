"""Tied parameters: what is one weight in several agents begins equal, follows one sum and stays equal (semantics 27c)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.engine.runs.seeds import sequential_reason
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.contracts.builders import GOAL, LABEL, Document, Play, levels, ring
from tests.contracts.twins import agree, made, side_by_side, twins
from tests.engine.numbers import equal, fill, one_line, parameters, predictor_of
from tests.kit.running import stacked

DOUBLE = torch.float64
BACKENDS = ["cohort", "reference"]


class Embedding(nn.Module):
    """Rows of a table by their weights: the first layer of a language model."""

    def __init__(self, entries: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(entries, size) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, size] of [B, entries]."""
        return x @ self.weight


def language_model() -> nn.Sequential:
    """An embedding, a block with dropout, and a head that has the embedding's weight."""
    torch.manual_seed(3)
    model = nn.Sequential(
        Embedding(9, 6), nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.0), nn.Linear(6, 9, bias=False)
    )
    model[4].weight = model[0].weight
    return model.double()


def parts(model: nn.Sequential, coupling: str, **training: Any) -> Scenario:
    """The model as three agents."""
    random = torch.Generator().manual_seed(5)
    tokens = torch.softmax(3 * torch.randn(32, 9, generator=random), 1)
    following = torch.randint(0, 9, (32,), generator=random)
    own = copy.deepcopy(model)
    ends: Document = {"size": 6, "norm": "none", "coupling": coupling}
    return Scenario.model_validate(
        {
            "scenario": "language",
            "env": antiphon.envs.from_tensors(x=tokens, label=following),
            "agents": {
                "embed": {"network": own[0], "observes": ["x"]},
                "block": {"network": own[1:4]},
                "head": {"network": own[4:], "objective": LABEL},
            },
            "channels": [{"from": "embed", "to": "block", **ends}, {"from": "block", "to": "head", **ends}],
            "tied": [["embed.module.weight", "head.module.4.weight"]],
            "training": {"batch": 8, "optimiser": {"kind": "adam", "lr": 0.01}, **training},
        }
    )


def of(simulation: Simulation, name: str) -> Tensor:
    """A parameter as AGENT.PARAMETER."""
    agent, _, parameter = name.partition(".")
    return simulation._system.agents[agent].learner.parameters[parameter].detach()


def assert_tied(simulation: Simulation, *names: str) -> None:
    for name in names[1:]:
        assert torch.equal(of(simulation, name), of(simulation, names[0])), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "optimiser", [{"kind": "adam", "lr": 0.01}, {"kind": "sgd", "lr": 0.1, "momentum": 0.9}]
)
def test_a_locked_chain_is_a_plain_training_loop_with_one_shared_parameter(
    backend: str, optimiser: dict[str, Any]
) -> None:
    model = language_model()
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimiser["kind"]]
    plain = kind(model.parameters(), **{k: v for k, v in optimiser.items() if k != "kind"})
    with Simulation(parts(model, "locked", optimiser=optimiser), dtype=DOUBLE, backend=backend) as simulation:
        for _ in range(50):
            signals = simulation.world.step_signals.signals
            plain.zero_grad()
            F.cross_entropy(model(signals["x"].double()), signals["label"]).backward()  # type: ignore[no-untyped-call]
            plain.step()
            simulation.step()
        assert_tied(simulation, "embed.module.weight", "head.module.4.weight")
        for name, own in (("embed.module.weight", model[0]), ("block.module.1.weight", model[1])):
            torch.testing.assert_close(of(simulation, name), own.weight.detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("sweep", [False, True])
def test_a_decoupled_chain_keeps_them_equal_and_engines_agree(*, sweep: bool) -> None:
    one, other = twins(parts(language_model(), "decoupled", sweep=sweep))
    side_by_side(one, other, 30)
    for simulation in (one, other):
        assert_tied(simulation, "embed.module.weight", "head.module.4.weight")


class Overwriting(torch.optim.SGD):
    """Gradient descent that leaves zeros in the gradients that it was given."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_optimiser_that_overwrites_its_gradients_changes_no_other_agent_s(backend: str) -> None:
    scene = parts(language_model(), "detached", optimiser={"kind": Overwriting, "lr": 0.1})
    with Simulation(scene, dtype=DOUBLE, backend=backend) as simulation:
        before = of(simulation, "head.module.4.weight").clone()
        simulation.run(steps=3)
        assert not torch.equal(before, of(simulation, "head.module.4.weight"))
        assert_tied(simulation, "embed.module.weight", "head.module.4.weight")


WEIGHTS = [["n0.0.weight", "n2.0.weight", "n3.0.weight"], ["n2.0.bias", "n1.0.bias"]]
"""All four agents of a ring are tied, some through others."""
CASES: dict[str, tuple[Document, list[list[str]]]] = {
    "a ring": (ring(), WEIGHTS),
    "beside a stack": (ring(7), [["n0.0.weight", "n2.0.weight"]]),
    "windows": (ring(agent={"clock": {"period": 2, "unroll": 2, "phase": 1}}), WEIGHTS),
    "p_update": (ring(agent={"p_update": 0.5}), WEIGHTS),
    "gaps": (ring(env=Play(gaps=0.7, share=0.2)), WEIGHTS),
    "states": (
        ring(agent={"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}, state={}),
        [["n0.cell.input.weight", "n1.cell.input.weight"]],
    ),
    "within an agent": (ring(), [["n0.0.bias", "n0.0.norm.bias", "n1.0.bias"]]),
    "own optimiser": (ring(optimiser={"kind": "NAdam", "lr": 0.01}), WEIGHTS),
    "different windows of a locked group": (
        levels(high={"clock": {"period": 2}}, channel={"coupling": "locked"}),
        [["a0.0.weight", "a1.0.weight"], ["a0.0.bias", "b0.0.bias"]],
    ),
    "delayed inside one group": (
        ring(
            channel=[
                {"coupling": "locked"},
                {"coupling": "delayed"},
                {"coupling": "locked"},
                {"coupling": "delayed"},
            ]
        ),
        [["n0.0.weight", "n1.0.weight"], ["n2.0.bias", "n3.0.bias"]],
    ),
    "nothing reaches one": (
        levels(channel={"coupling": "detached"}, count=2),
        [["a0.0.bias", "b0.0.bias"]],
    ),
    "nothing reaches one of a group with stacks": (
        levels(
            high=[{}, {}, {}, {"objective": GOAL}],
            channel={"coupling": "locked"},
            count=4,
            env=Play(gaps=0.7),
        ),
        [["a1.0.bias", "b3.0.bias"]],
    ),
}
ALONE = (
    "a ring",
    "windows",
    "p_update",
    "gaps",
    "own optimiser",
    "delayed inside one group",
    "nothing reaches one",
)
"""Cases in which no agents without a tie are left to be stacked."""


@pytest.mark.parametrize("name", CASES)
def test_ties_hold_in_both_engines_which_agree(name: str) -> None:
    given, ties = CASES[name]
    one, other = twins({**given, "tied": ties})
    before = {place: of(one, place).clone() for tie in ties for place in tie}
    side_by_side(one, other, 20)  # credit over delays comes late
    for simulation in (one, other):
        for tie in ties:
            assert_tied(simulation, *tie)
    assert not any(torch.equal(value, of(one, place)) for place, value in before.items())
    assert stacked(other) == (name not in ALONE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_gives_the_values_and_others_given_by_the_user_are_stated(backend: str) -> None:
    model = language_model()
    model[4].weight = nn.Parameter(torch.zeros(9, 6, dtype=DOUBLE))
    with made(parts(model, "locked"), backend) as simulation:
        assert torch.equal(of(simulation, "head.module.4.weight"), model[0].weight)
        line = (
            "tied: 'head.module.4.weight' begins with the values of 'embed.module.weight', not with its own"
        )
        assert simulation.events == [(0, line)]
    sampled = made({**ring(), "tied": WEIGHTS}, backend)
    assert sampled.events == []
    assert_tied(sampled, *WEIGHTS[0])
    assert equal([of(sampled, "n0.0.weight")], [of(made(ring(), backend), "n0.0.weight")])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpoint_goes_on_to_the_bit(tmp_path: Path, backend: str) -> None:
    document = {**ring(), "tied": WEIGHTS}
    with made(document, backend) as whole, made(document, backend) as first:
        whole.run(10)
        first.run(4)
        first.save(tmp_path / "run")
        second = Simulation.load(tmp_path / "run", Scenario.model_validate(document))
        second.run(6)
        agree(whole, second)
        assert_tied(second, *WEIGHTS[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_are_changed_together(backend: str) -> None:
    with made({**ring(), "tied": WEIGHTS[:1]}, backend) as simulation:
        simulation.run(3)
        simulation.set("n2.learning_rate", 0.05)
        assert [simulation._system.agents[f"n{i}"].learner.rate.base for i in range(4)] == [
            0.05,
            1e-3,
            0.05,
            0.05,
        ]
        simulation.run(3)
        assert_tied(simulation, *WEIGHTS[0])
        simulation.set("n0.learn", value=False)
        before = parameters(simulation, "n3")
        simulation.run(3)
        assert equal(before, parameters(simulation, "n3"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_in_quarantine_leaves_the_tie_and_the_others_stay_equal(backend: str) -> None:
    with made({**ring(on_divergence="quarantine"), "tied": WEIGHTS}, backend) as simulation:
        simulation.run(3)
        fill(predictor_of(simulation, "n0->n1"), float("nan"))
        simulation.run(5)
        assert simulation._system.agents["n0"].agent_disabled is True
        assert_tied(simulation, "n2.0.weight", "n3.0.weight")
        assert not torch.equal(of(simulation, "n0.0.weight"), of(simulation, "n2.0.weight"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_another_run_are_taken_by_all_of_a_tie(tmp_path: Path, backend: str) -> None:
    document = {**ring(), "tied": WEIGHTS[:1]}
    with made(document, backend) as other:
        other.run(3)
        other.save(tmp_path / "run")
    with made(document, backend, seed=8) as simulation:
        simulation.run(2)
        before = [parameters(simulation, f"n{i}") for i in range(4)]
        with one_line(
            "'n0.0.weight' and 'n2.0.weight' are tied and would differ; take equal weights for 'n0' and 'n2'"
        ):
            simulation.load_weights(tmp_path / "run", ["n0", "n1"])
        assert all(equal(own, parameters(simulation, f"n{i}")) for i, own in enumerate(before))
        simulation.load_weights(tmp_path / "run", ["n1"])  # is not tied
        simulation.load_weights(tmp_path / "run", ["n0", "n2", "n3"])
        simulation.run(3)
        assert_tied(simulation, *WEIGHTS[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_of_a_tie_begin_with_new_moments_where_one_takes_weights(tmp_path: Path, backend: str) -> None:
    """It takes its own, which are equal to those of the others; with moments of its own it would leave them."""
    document = {**ring(), "tied": WEIGHTS[:1]}
    with made(document, backend) as simulation:
        simulation.run(5)
        simulation.load_weights(simulation.save(tmp_path / "run"), ["n2"])
        for _ in range(3):
            simulation.step()
            assert_tied(simulation, *WEIGHTS[0])


def test_seeds_run_one_after_another_and_the_reason_says_why() -> None:
    with made({**ring(), "tied": WEIGHTS[:1]}, "cohort") as simulation:
        reason = "'n0' is run as itself: a parameter of it is tied to others"
        assert sequential_reason(simulation, "cohort", 2) == reason


@pytest.mark.parametrize(
    ("tie", "line"),
    [
        (
            ["n0.0.weight", "n1.0.bias"],
            r"tied\[0\]\[1\]: 'n1.0.bias' has shape \[4\], 'n0.0.weight' has \[4, 8\]; tied",
        ),
        (
            ["n0.0.weight", "n1.weight"],
            r"tied\[0\]\[1\]: agent 'n1' has no parameter 'weight'; did you mean '0.weight'",
        ),
    ],
)
def test_parameters_that_cannot_be_one_weight_are_refused(tie: list[str], line: str) -> None:
    with one_line(line):
        made({**ring(), "tied": [tie]}, "cohort")
