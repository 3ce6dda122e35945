"""Own losses of channels in a run: heads, reconstructions, lenses and normalised predictors, by both engines, after
resuming, for several seeds, and where agents are stacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.comms.lens import LensGradient
from antiphon.comms.synthetic_gradients import Example, LabelGradient
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.twins import agree, made, side_by_side
from tests.engine.numbers import normal
from tests.kit.running import stacked

EXAMPLES, BATCH, T, D, K = 32, 8, 5, 6, 4
TOKENS = normal(EXAMPLES, T, 3, seed=1).float()
LABELS = torch.arange(EXAMPLES) % K


class Block(nn.Module):
    """A residual block of flat rows; the first makes the stream."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.width = inputs // T
        self.norm = nn.LayerNorm(self.width)
        self.linear = nn.Linear(self.width, D)

    def forward(self, x: Tensor) -> Tensor:
        stream = x.unflatten(1, (T, self.width))
        found = torch.tanh(self.linear(self.norm(stream)))
        return (stream + found if self.width == D else found).flatten(1)


class Readout(nn.Module):
    """Norm, unembedding and mean over tokens, of a message in its own shape."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.out = nn.Linear(D, K)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.norm(x)).mean(-2)
        return found


class FlatReadout(Readout):
    """The same, of flat rows."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (T, D)))


class TokenHead(nn.Module):
    def __init__(self, shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[-1], outputs[-1])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x).mean(1)
        return found


class Decoder(nn.Module):
    """Tokens from the stream, one by one."""

    def __init__(self, shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[-1], outputs[-1])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x)
        return found


def chain(gradient: dict[str, Any], copies: int = 1, **training: Any) -> Scenario:
    """Chains a -> b -> c in one environment; c reads."""
    agents, channels = {}, []
    torch.manual_seed(2)
    for i in range(copies):
        agents[f"a{i}"] = {"network": Block(T * 3), "observes": ["tokens"]}
        agents[f"b{i}"] = {"network": Block(T * D)}
        agents[f"c{i}"] = {
            "network": FlatReadout(),
            "objective": {"kind": "classification", "target": "label"},
        }
        ends = {"size": [T, D], "norm": "none"}
        own = {"of": f"c{i}", **gradient} if gradient["kind"] == "lens" else gradient
        channels += [{"from": f"{s}{i}", "to": f"{r}{i}", **ends, "gradient": own} for s, r in ("ab", "bc")]
    return Scenario.model_validate(
        {
            "scenario": "local-losses",
            "env": antiphon.envs.from_tensors(tokens=TOKENS, label=LABELS),
            "agents": agents,
            "channels": channels,
            "training": {"batch": BATCH, "steps": 20, "optimiser": {"kind": "adam", "lr": 0.02}, **training},
        }
    )


LENS: dict[str, Any] = {"kind": "lens", "head": Readout()}
LOCAL: dict[str, Any] = {"kind": "local", "target": "label"}
AGAIN: dict[str, Any] = {"target": "tokens", "weight": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "lens": LENS,
    "head": {**LOCAL, "head": TokenHead},
    "hidden layers, pooled": {**LOCAL, "pool": "mean", "hidden": [4], "norm": "layer"},
    "reconstruction": {**LOCAL, "reconstruct": AGAIN},
    "head and decoder": {**LOCAL, "head": TokenHead, "reconstruct": {**AGAIN, "head": Decoder}},
    "sobolev_label, head": {"kind": "sobolev_label", "target": "label", "head": TokenHead},
    "linear, normalised": {"kind": "linear", "context": ["label"], "normalise": "layer"},
    "mlp, normalised, residual": {
        "kind": "mlp",
        "hidden": [5],
        "norm": "layer",
        "context": ["label"],
        "normalise": "layer",
        "residual": True,
    },
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def numbers(simulation: Simulation, agent: str = "a0") -> list[Tensor]:
    return [p.detach().clone() for p in simulation.agents[agent].parameters.values()]


def lens_of(simulation: Simulation, channel: str) -> LensGradient:
    found = simulation._system.channels[channel].predictor
    assert isinstance(found, LensGradient)
    return found


def true_slope(simulation: Simulation, reader: str, message: Tensor, labels: Tensor) -> Tensor:
    """By autograd through a copy of the readout as it is now."""
    readout = Readout().double()
    own = {name.removeprefix("module."): p for name, p in simulation.agents[reader].parameters.items()}
    readout.load_state_dict(own)
    leaf = message.clone().requires_grad_()
    loss = F.cross_entropy(readout(leaf.unflatten(1, (T, D))), labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


def check_lens(simulation: Simulation, channel: str, reader: str) -> None:
    """The lens of a channel follows the readout's present parameters."""
    message, labels = normal(BATCH, T * D, seed=9), torch.arange(BATCH) % K
    found = lens_of(simulation, channel).predict(Example(message, None, None, target=labels))
    torch.testing.assert_close(found, true_slope(simulation, reader, message, labels))


# --- both engines ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("copies", [1, 2])
def test_the_engines_agree(kind: str, copies: int) -> None:
    one, other = (made(chain(KINDS[kind], copies), backend) for backend in ("reference", "cohort"))
    start = numbers(one)
    assert stacked(other) == (copies > 1)
    side_by_side(one, other, 12)
    assert not all(torch.equal(p, q) for p, q in zip(start, numbers(one), strict=True))


@pytest.mark.parametrize("kind", ["lens", "hidden layers, pooled", "head and decoder"])
def test_seven_rows_are_no_power_of_two(kind: str) -> None:
    side_by_side(*(made(chain(KINDS[kind], batch=7), backend) for backend in ("reference", "cohort")), 5)


@every_kind
@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_a_resumed_run_goes_on_to_the_same_bits(kind: str, backend: str, tmp_path: Path) -> None:
    whole, first = made(chain(KINDS[kind]), backend), made(chain(KINDS[kind]), backend)
    whole.run(steps=9)
    first.run(steps=4)
    place = first.save(tmp_path / "half")
    rest = Simulation.load(place, scenario=chain(KINDS[kind]), backend=backend)
    rest.run(steps=5)
    for one, other in zip(numbers(whole), numbers(rest), strict=True):
        assert torch.equal(one, other)
    if kind == "lens":
        check_lens(rest, "a0->b0", "c0")


@pytest.mark.parametrize("kind", ["lens", "head and decoder", "mlp, normalised, residual"])
def test_several_seeds_are_what_each_is_alone(kind: str) -> None:
    together = Seeds(chain(KINDS[kind]), [3, 4], dtype=torch.float64)
    assert together.sequential_reason is None
    for _ in range(6):
        together.step()
    for seed, simulation in zip((3, 4), together.simulations, strict=True):
        alone = made(chain(KINDS[kind]), "cohort", seed=seed)
        alone.run(steps=6)
        agree(alone, simulation)
        if kind == "lens":
            check_lens(simulation, "a0->b0", "c0")


# --- lenses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_lens_changes_as_its_readout_learns(backend: str, copies: int) -> None:
    simulation = made(chain(LENS, copies), backend)
    last = f"{copies - 1}"
    check_lens(simulation, f"b{last}->c{last}", f"c{last}")
    before = numbers(simulation, f"c{last}")
    simulation.run(steps=5)
    assert not torch.equal(before[0], numbers(simulation, f"c{last}")[0])
    check_lens(simulation, f"a{last}->b{last}", f"c{last}")


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_a_lens_has_the_weight_of_the_objective(backend: str) -> None:
    scenario = chain(LENS)
    agents = dict(scenario.agents)
    assert agents["c0"].objective is not None
    goal = agents["c0"].objective.model_copy(update={"weight": 0.25})
    agents["c0"] = agents["c0"].model_copy(update={"objective": goal})
    simulation = made(scenario.model_copy(update={"agents": agents}), backend)
    message, labels = normal(BATCH, T * D, seed=9), torch.arange(BATCH) % K
    found = lens_of(simulation, "a0->b0").predict(Example(message, None, None, target=labels))
    torch.testing.assert_close(found, 0.25 * true_slope(simulation, "c0", message, labels))


def test_a_lens_follows_weights_that_are_taken_from_a_run(tmp_path: Path) -> None:
    trained = made(chain(LENS), "cohort")
    trained.run(steps=5)
    simulation = made(chain(LENS), "cohort", seed=8)
    simulation.load_weights(trained.save(tmp_path / "run"))
    check_lens(simulation, "a0->b0", "c0")


def test_parameters_of_a_lens_may_be_those_of_several_agents() -> None:
    head = nn.Sequential(nn.LayerNorm(D), nn.Flatten(), nn.Linear(T * D, K))
    gradient = {
        "kind": "lens",
        "head": head,
        "parameters": {"0.weight": "b0.norm.weight", "0.bias": "c0.norm.bias"},
    }
    with pytest.raises(ScenarioError, match=r"nothing is named for '2.weight' of the head; add it"):
        Simulation(chain(gradient))
    head = nn.Sequential(nn.LayerNorm(D), Mean(), nn.Linear(D, K))
    names = {"2.weight": "c0.out.weight", "2.bias": "c0.module.out.bias"}
    simulation = made(
        chain({**gradient, "head": head, "parameters": {**gradient["parameters"], **names}}), "cohort"
    )
    sources = lens_of(simulation, "a0->b0").sources
    agents = simulation._system.agents
    assert sources["module.0.weight"] is agents["b0"].learner.parameters["module.norm.weight"]
    assert sources["module.2.weight"] is agents["c0"].learner.parameters["module.out.weight"]


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-2)


@pytest.mark.parametrize(
    ("gradient", "line"),
    [
        ({**LENS, "of": "d"}, r"channels.*gradient.*of: no agent 'd'"),
        ({**LENS, "of": "b0"}, r"agent 'b0' has no objective that a lens could read; name one that has"),
        ({**LENS, "parameters": {"out.weight": "d.out.weight"}}, r"parameters: no agent 'd'"),
        (
            {**LENS, "parameters": {"out.weight": "c0.out.wight"}},
            r"agent 'c0' has no parameter 'out.wight'.*out.weight",
        ),
        (
            {**LENS, "parameters": {"out.weight": "c0.out.bias"}},
            r"parameters: 'out.weight' of the head is \[4, 6\], and what is named for it \[4\]",
        ),
        ({"kind": "lens"}, r"head: a lens needs the layers it looks through"),
        ({**LENS, "trace": 0.5}, r"a lens gradient takes nothing from it; use another kind"),
        ({**LOCAL, "head": "mlp"}, r"head: must be a torch module or a factory, from Python"),
        (
            {**LOCAL, "reconstruct": AGAIN, "context": ["tokens"]},
            r"'tokens' is in the context, and need only be copied",
        ),
        ({**LOCAL, "reconstruct": {"target": "token"}}, r"reconstruct.*target: no signal 'token'.*tokens"),
    ],
)
def test_what_does_not_fit_is_one_line(gradient: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line) as found:
        Simulation(chain(gradient))
    assert "\n" not in str(found.value)


# --- one backward pass -----------------------------------------------------------------------------------


ONCE: dict[str, tuple[dict[str, Any], int]] = {
    "head": (KINDS["head"], BATCH),
    "hidden layers, pooled": (KINDS["hidden layers, pooled"], BATCH),
    "head and decoder": (KINDS["head and decoder"], BATCH),
    "at sites": (LOCAL, BATCH * T),
    "at sites, hidden layers": ({**LOCAL, "hidden": [4], "norm": "layer"}, BATCH * T),
}


@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize("kind", ONCE)
def test_an_own_loss_is_evaluated_once_a_step(
    kind: str, sweep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    usual = LabelGradient.run

    def counted(self: LabelGradient, x: Tensor, **how: Any) -> Tensor:
        calls.append(len(x))
        return usual(self, x, **how)

    monkeypatch.setattr(LabelGradient, "run", counted)
    gradient, rows = ONCE[kind]
    simulation = made(chain(gradient, sweep=sweep), "cohort")
    calls.clear()
    simulation.run(steps=3)
    assert calls == [rows] * 6  # two channels
