"""What theory says of synthetic gradients, run through antiphon (Czarnecki et al. 2017; its numbering).

Data are shown whole at every step, so a run is the deterministic iteration that the theorems speak of.
N is the number of examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from antiphon.comms.predictors import Example, Predictor
from antiphon.engine.probes.truth import true_gradients
from antiphon.engine.simulation import Simulation
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from antiphon.nets.optimisers import Optimiser, Rate
from antiphon.scenarios import Scenario

DOUBLE = torch.float64
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}


@dataclass(frozen=True)
class Whole:
    """A source whose environments show all N examples at every step: `x` [N, inputs], `y` [N, outputs] or classes."""

    x: Tensor
    y: Tensor

    @property
    def description(self) -> Description:
        classes = None if self.y.is_floating_point() else int(self.y.max()) + 1
        y = Signal(shape=tuple(self.y.shape[1:]), classes=classes, training_only=True)
        return Description(
            signals={"x": Signal(shape=tuple(self.x.shape[1:])), "y": y}, example_counts={}, is_stream=True
        )

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        where.pop("split")
        return _WholeEnv(self, batch, **where)


class _WholeEnv(TorchVectorEnv):
    def __init__(self, source: Whole, batch: int, **where: Any) -> None:
        super().__init__(batch, source.description, Discrete(1), **where)
        assert batch == len(source.x)
        self._shown = {"x": source.x}, {"y": source.y}

    def reset(self, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._shown

    def step(self, actions: Any = None) -> StepResult:
        nothing = torch.zeros(self.num_envs, dtype=torch.bool)
        return self._shown[0], nothing, nothing, nothing, self._shown[1]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def run_of(
    source: Whole,
    layers: dict[str, Any],
    judge: Any,
    couplings: tuple[str, ...],
    *,
    sizes: tuple[int, ...],
    kind: str = "regression",
    weight: float = 1.0,
    learn: bool = True,
    training: dict[str, Any] | None = None,
) -> Simulation:
    """A chain of `layers`, then `judge`, which turns the last message into the output that the objective scores."""
    names = [*layers, "judge"]
    agents = {name: {"network": network, "learn": learn} for name, network in layers.items()}
    agents[names[0]]["observes"] = ["x"]
    agents["judge"] = {"network": judge, "objective": {"kind": kind, "target": "y", "weight": weight}}
    gradient = {"kind": "linear", "context": ["y"]}
    channels = [
        {"from": s, "to": r, "size": n, "norm": "none", "coupling": coupling, "gradient": gradient}
        for s, r, n, coupling in zip(names[:-1], names[1:], sizes, couplings, strict=True)
    ]
    parts: dict[str, Any] = {"env": source, "agents": agents, "channels": channels}
    parts["training"] = {"batch": len(source.x), **(training or {})}
    return Simulation(Scenario.model_validate({"scenario": "theory", **parts}), dtype=DOUBLE)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=DOUBLE)], 1)


def best_fit(source: Whole) -> Tensor:
    """The prediction of least squares, [N, outputs]."""
    features = with_ones(source.x)
    target = source.y.reshape(len(features), -1)
    solution: Tensor = torch.linalg.lstsq(features, target).solution
    return features @ solution


def predictor_of(simulation: Simulation) -> Predictor:
    predictor = simulation.system.channels["f->judge"].predictor
    assert predictor is not None
    return predictor


# --- 2.2: spurious critical points ------------------------------------------------------------------------


@final
class ScalarGradient(Predictor):
    """A synthetic gradient of one trainable number, the same for every message."""

    def __init__(self, value: float, rate: float) -> None:
        super().__init__(
            1,
            0,
            generator=torch.Generator(),
            optimiser={"kind": "sgd"},
            rate=Rate(base=rate, horizon=1),
        )
        self.parameters = {"c": torch.tensor(value, dtype=DOUBLE, requires_grad=True)}
        self.trainable = list(self.parameters.values())
        self.optimiser = Optimiser("sgd", self.trainable)

    def predict(self, example: Example) -> Tensor:
        return self.parameters["c"].expand_as(example.message)

    def loss(self, example: Example) -> Tensor:
        assert example.delta is not None
        return (self.parameters["c"] - example.delta).square().sum() / len(example.delta)


class Root(nn.Module):
    """sqrt|m|: its squared distance from 0 is |m|."""

    def forward(self, message: Tensor) -> Tensor:
        return message.abs().sqrt()


def line(a: float, b: float, c: float) -> Simulation:
    """f = a x + b on {-2, -1, 1, 2}, L = sum |f|, with the synthetic gradient c."""
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=DOUBLE)
    sgd = {"kind": "sgd", "lr": 0.01}
    simulation = run_of(
        Whole(x, torch.zeros_like(x)),
        {"f": LINEAR},
        Root(),
        ("decoupled",),
        sizes=(1,),
        training={"optimiser": sgd},
    )
    f = simulation.agents["f"].parameters
    f["to_judge.weight"].data.fill_(a)
    f["to_judge.bias"].data.fill_(b)
    simulation.system.channels["f->judge"].predictor = ScalarGradient(c, 0.01)
    return simulation


@pytest.mark.parametrize("a", [1.0, 0.25, -3.0])
def test_a_synthetic_gradient_can_add_critical_points_that_the_loss_has_not(a: float) -> None:
    simulation = line(a, 0.0, 0.0)
    for _ in range(50):
        info = simulation.step()
        assert float(info["losses"]["judge"]) == pytest.approx(6 * abs(a) / 4)
    true = simulation.learned.lessons["f->judge"].examples[-1].delta
    assert true is not None  # dL/da is not zero: the loss has no critical point here
    assert float((true * simulation.world.moment.signals["x"]).sum()) == pytest.approx(
        6 * math.copysign(1, a)
    )
    (update,) = [u for u in simulation.learned.updates if "f" in u.gradients]
    assert all(float(g.abs().max()) == 0 for g in update.gradients["f"] if g is not None)
    predictor = predictor_of(simulation)
    assert predictor.parameters["c"].item() == 0
    assert simulation.agents["f"].parameters["to_judge.weight"].item() == a


def test_away_from_the_spurious_point_the_synthetic_gradient_moves() -> None:
    simulation = line(0.25, 1.0, 0.0)
    simulation.run(5)
    predictor = predictor_of(simulation)
    assert predictor.parameters["c"].item() > 0
    assert simulation.agents["f"].parameters["to_judge.bias"].item() < 1.0


# --- Theorem 1: linear regression, a linear synthetic gradient between output and loss ---------------------


def regression(lr: float) -> tuple[Simulation, Whole]:
    x = drawn(1, 40, 3)
    source = Whole(x, x @ drawn(2, 3, 1) + 0.5 * drawn(3, 40, 1) + 1.0)
    simulation = run_of(
        source,
        {"f": LINEAR},
        nn.Identity(),
        ("decoupled",),
        sizes=(1,),
        weight=0.5,  # so that the returned gradient is p - y
        training={"optimiser": {"kind": "sgd", "lr": lr}, "predictor": {"kind": "sgd", "lr": 0.1}},
    )
    return simulation, source


def omega_of(simulation: Simulation) -> Tensor:
    """(alpha, beta, gamma) of SG = (alpha + 1) p - (beta + 1) y + gamma."""
    predictor = predictor_of(simulation)
    (on_p, on_y), (bias,) = (
        predictor.parameters["last.weight"].data[0],
        predictor.parameters["last.bias"].data,
    )
    return torch.stack([on_p - 1, -on_y - 1, bias])


def output_of(simulation: Simulation) -> Tensor:
    f = simulation.agents["f"].parameters
    return (simulation.world.moment.signals["x"] @ f["to_judge.weight"].data.T + f["to_judge.bias"].data)[
        :, 0
    ]


def search_rate(simulation: Simulation, source: Whole) -> float:
    """The rate at which a step of the predictor, whose loss is a mean over N, is the theorem's line search."""
    p, y = output_of(simulation), source.y[:, 0]
    columns = torch.stack([p, -y, torch.ones_like(p)], 1)
    error = columns @ omega_of(simulation)
    slope = columns.T @ error
    return float(slope.square().sum() / (columns @ slope).square().sum()) * len(p) / 2


def test_our_linear_predictor_takes_the_steps_of_the_written_iteration() -> None:
    lr = 0.02
    simulation, source = regression(lr)
    features, y = with_ones(source.x), source.y[:, 0]
    f = simulation.agents["f"].parameters
    weights = torch.cat([f["to_judge.weight"].data[0], f["to_judge.bias"].data]).clone()
    alpha = beta = torch.tensor(-1.0, dtype=DOUBLE)
    gamma = torch.tensor(0.0, dtype=DOUBLE)
    mu, nu = lr / len(y), 2 * 0.1 / len(y)
    for _ in range(100):
        p = features @ weights
        error = alpha * p - beta * y + gamma
        weights = weights - mu * ((alpha + 1) * p - (beta + 1) * y + gamma) @ features
        alpha, beta, gamma = alpha - nu * error @ p, beta + nu * error @ y, gamma - nu * error.sum()
        simulation.step()
        own = torch.cat([f["to_judge.weight"].data[0], f["to_judge.bias"].data])
        torch.testing.assert_close(own, weights, atol=1e-12, rtol=0)
        torch.testing.assert_close(
            omega_of(simulation), torch.stack([alpha, beta, gamma]), atol=1e-12, rtol=0
        )


def test_with_line_search_the_sum_of_the_norms_falls_at_every_step_and_the_optimum_is_reached() -> None:
    simulation, source = regression(lr=0.05)
    predictor = predictor_of(simulation)
    best, y = best_fit(source)[:, 0], source.y[:, 0]

    def norms() -> tuple[float, float]:
        p = output_of(simulation)
        error = torch.stack([p, -y, torch.ones_like(p)], 1) @ omega_of(simulation)
        return float((p - best).norm()), float(error.norm())

    before = norms()
    assert min(before) > 5
    for _ in range(400):
        predictor.rate = Rate(base=search_rate(simulation, source), horizon=1)
        simulation.step()
        after = norms()
        assert sum(after) < sum(before)
        before = after
    assert sum(before) < 1e-4


# --- Corollary 1 and Table 2: where a linear synthetic gradient reaches the optimum, and where it does not ---


def adam(lr: float, **schedule: Any) -> dict[str, Any]:
    return {"kind": "adam", "lr": lr, **({"schedule": schedule} if schedule else {})}


def loss_of(simulation: Simulation) -> float:
    return float(simulation.step()["losses"]["judge"])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deep_linear_model_on_squared_error_reaches_the_solution_of_linear_regression(seed: int) -> None:
    """Three linear layers, one synthetic gradient; within 1e-5 of a loss of 0.1, from above 2."""
    x = drawn(seed, 60, 4)
    y = x @ drawn(seed + 10, 4, 2) + 0.3 * drawn(seed + 20, 60, 2) + 0.5
    source = Whole(x, y)
    simulation = run_of(
        source,
        dict.fromkeys("abc", LINEAR),
        nn.Identity(),
        ("decoupled", "locked", "locked"),
        sizes=(4, 4, 2),
        training={"optimiser": adam(0.003), "predictor": adam(0.03)},
    )
    best = float((best_fit(source) - y).square().mean())
    assert loss_of(simulation) > 2.0
    simulation.run(1000)
    assert abs(loss_of(simulation) - best) < 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_linear_synthetic_gradient_fits_squared_error_but_not_a_separable_log_loss(seed: int) -> None:
    """Table 2, on 200 points in 20 dimensions parted by a hyperplane: its optimum is 0 for the log loss.

    After 600 steps backpropagation is below 0.02; the synthetic gradient stays above 0.07, and 200 more do not help.
    On the squared error of the same labels it is within 1e-8 of the optimum.
    """
    x = drawn(seed, 200, 20)
    labels = (x @ drawn(seed + 100, 20) > 0).long()

    def after(coupling: str, kind: str, source: Whole, lr: float, steps: int) -> Simulation:
        rates = {"optimiser": adam(lr), "predictor": adam(0.1)}
        simulation = run_of(
            source, {"f": LINEAR}, nn.Identity(), (coupling,), sizes=(2,), kind=kind, training=rates
        )
        simulation.run(steps)
        return simulation

    one_hot = Whole(x, F.one_hot(labels, 2).to(DOUBLE))
    best = float((best_fit(one_hot) - one_hot.y).square().mean())
    assert abs(loss_of(after("decoupled", "regression", one_hot, 0.03, 200)) - best) < 1e-8
    classes = Whole(x, labels)
    assert loss_of(after("locked", "classification", classes, 0.1, 600)) < 0.02
    stuck = after("decoupled", "classification", classes, 0.1, 600)
    early = loss_of(stuck)
    stuck.run(200)
    assert early > 0.07
    assert loss_of(stuck) > 0.07


# --- 2.3: the taxonomy's rows that have a coupling of their own --------------------------------------------


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_the_rows_of_the_taxonomy_give_the_gradients_of_our_couplings(coupling: str) -> None:
    """SG: dL/dh is SG(h, y), whose target is dL/dh. Bprop: what -<t, h> gives for the target t = -dL/dh."""
    source = Whole(drawn(5, 30, 3), drawn(6, 30, 2))
    simulation = run_of(source, {"f": LINEAR}, nn.Linear(2, 2), (coupling,), sizes=(2,))
    simulation.run(20)
    probe = true_gradients(simulation)["f->judge"]
    f = {name: p.clone().requires_grad_() for name, p in simulation.agents["f"].parameters.items()}
    h = F.linear(source.x, f["to_judge.weight"], f["to_judge.bias"])
    target = -probe.true
    told = probe.synthetic if coupling == "decoupled" else -target
    assert told is not None
    expected = torch.autograd.grad((told * h).sum() / 30, list(f.values()))
    simulation.step()
    (update,) = [u for u in simulation.learned.updates if "f" in u.gradients]
    for own, wanted in zip(update.gradients["f"], expected, strict=True):
        torch.testing.assert_close(own, wanted, atol=1e-12, rtol=0)
    if coupling == "decoupled":
        lesson = simulation.learned.lessons["f->judge"]
        torch.testing.assert_close(lesson.examples[0].delta, probe.true, atol=1e-12, rtol=0)
        error = (told - probe.true).square().sum() / 30
        assert float(lesson.loss) == pytest.approx(float(error), rel=1e-12)


# --- A frozen linear chain: the true gradient is a linear function of message and target --------------------


def test_linear_synthetic_gradients_of_a_frozen_linear_chain_explain_all_of_the_true_gradient() -> None:
    """Also of the first channel, whose target is what the second's predictor says: R^2 above 0.9999."""
    source = Whole(drawn(7, 80, 3), drawn(8, 80, 2))
    simulation = run_of(
        source,
        dict.fromkeys("abc", LINEAR),
        nn.Identity(),
        ("decoupled",) * 3,
        sizes=(3, 3, 2),
        learn=False,
        training={"steps": 700, "predictor": adam(0.05, kind="linear", factor=0.0)},
    )
    untrained = true_gradients(simulation)
    assert all(probe.alignment["r2"] < 0.1 for probe in untrained.values())
    simulation.run(700)
    for name, probe in true_gradients(simulation).items():
        assert torch.equal(probe.true, untrained[name].true)
        assert probe.alignment["r2"] > 0.9999, name
        assert probe.alignment["cosine"] > 0.999, name
