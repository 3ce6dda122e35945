"""What theory says of synthetic gradients, run through antiphon (Czarnecki et al. 2017; its numbering).

The taxonomy of its table 1 has a file of its own. N is the number of examples.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from antiphon import Simulation
from tests.numerics.linear import LINEAR
from tests.numerics.whole import (
    DOUBLE,
    Whole,
    adam,
    best_fit,
    drawn,
    loss_of,
    predictor_of,
    run_of,
    with_ones,
)

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (1, 2))]


# --- 2.2: spurious critical points ------------------------------------------------------------------------


class Constant(nn.Module):
    """A synthetic gradient of one trainable number, the same for every message."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.c.expand(len(x), -1)


class Root(nn.Module):
    """sqrt|m|: its squared distance from 0 is |m|."""

    def forward(self, message: Tensor) -> Tensor:
        return message.abs().sqrt()


def line(a: float, b: float) -> Simulation:
    """f = a x + b on {-2, -1, 1, 2}, L = sum |f|, with a synthetic gradient that is a number, 0 at first."""
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=DOUBLE)
    simulation = run_of(
        Whole(x, torch.zeros_like(x)),
        {"f": LINEAR},
        Root(),
        ("decoupled",),
        sizes=(1,),
        gradient={"kind": Constant, "context": []},
        training={"optimiser": {"kind": "sgd", "lr": 0.01}},
    )
    f = simulation.agents["f"].parameters
    f["to_judge.weight"].data.fill_(a)
    f["to_judge.bias"].data.fill_(b)
    return simulation


@pytest.mark.cases(1)
@pytest.mark.parametrize("a", [1.0, 0.25, -3.0])
def test_a_synthetic_gradient_can_add_critical_points_that_the_loss_has_not(a: float) -> None:
    """Away from them it moves."""
    simulation = line(a, 0.0)
    for step in range(20):
        info = simulation.step()
        assert float(info["losses"]["judge"]) == pytest.approx(6 * abs(a) / 4)
        true = simulation.channels["f->judge"].messages[step].gradient
        assert true is not None  # dL/da is not zero: the loss has no critical point here
        assert float((true * simulation.signals["x"]).sum()) == pytest.approx(6 * math.copysign(1, a))
    (constant,) = predictor_of(simulation).parameters.values()
    assert constant.item() == 0
    assert [p.item() for p in simulation.agents["f"].parameters.values()] == [a, 0.0]
    away = line(0.25, 1.0)
    away.run(5)
    (constant,) = predictor_of(away).parameters.values()
    assert constant.item() > 0
    assert away.agents["f"].parameters["to_judge.bias"].item() < 1.0


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
    return (simulation.signals["x"] @ f["to_judge.weight"].data.T + f["to_judge.bias"].data)[:, 0]


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
    for _ in range(40):
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


@pytest.mark.long
def test_with_line_search_the_sum_of_the_norms_falls_at_every_step_and_the_optimum_is_reached() -> None:
    simulation, source = regression(lr=0.05)
    best, y = best_fit(source)[:, 0], source.y[:, 0]

    def norms() -> tuple[float, float]:
        p = output_of(simulation)
        error = torch.stack([p, -y, torch.ones_like(p)], 1) @ omega_of(simulation)
        return float((p - best).norm()), float(error.norm())

    before = norms()
    assert min(before) > 5
    for _ in range(200):
        simulation.set("f->judge.learning_rate", search_rate(simulation, source))
        simulation.step()
        after = norms()
        assert sum(after) < sum(before)
        before = after
    assert sum(before) < 1e-2


# --- Corollary 1 and Table 2: where a linear synthetic gradient reaches the optimum, and where it does not ---


@pytest.mark.long
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
        training={"optimiser": adam(0.005), "predictor": adam(0.03)},
    )
    best = float((best_fit(source) - y).square().mean())
    assert loss_of(simulation) > 2.0
    simulation.run(600)
    assert abs(loss_of(simulation) - best) < 1e-5


# --- A frozen linear chain: the true gradient is a linear function of message and target --------------------
