"""What theory says of synthetic gradients, run through antiphon (Czarnecki et al. 2017; its numbering): critical points, learning, the taxonomy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from tests.numerics.linear import LINEAR, leaves, said, sgd
from tests.numerics.whole import (
    DOUBLE,
    Whole,
    adam,
    best_fit,
    drawn,
    followed,
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


@pytest.mark.nightly
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


@pytest.mark.nightly
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


# --- critical points -------------------------------------------------------------------------------------


N, INPUTS, SIZE, OUTPUTS = 50, 4, 3, 2
RATE = 0.01


def chain(
    seed: int, *, learn: bool = True, rate: float = RATE, predictor: dict[str, Any] | None = None
) -> tuple[Simulation, Whole]:
    """`f` sends a message of 3 to the judge, a linear network too; the loss is half the squared error."""
    x = drawn(seed, N, INPUTS)
    y = x @ drawn(seed + 1, INPUTS, OUTPUTS) + drawn(seed + 2, N, OUTPUTS) + 0.5
    source = Whole(x, y)
    simulation = run_of(
        source,
        {"f": LINEAR},
        LINEAR,
        ("decoupled",),
        sizes=(SIZE,),
        weight=OUTPUTS / 2,
        learn=learn,
        training={"optimiser": sgd(rate), "predictor": predictor or sgd(RATE)},
    )
    return simulation, source


def numbers(simulation: Simulation) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W, b, V and v."""
    f, judge = simulation.agents["f"].parameters, simulation.agents["judge"].parameters
    own = f["to_judge.weight"], f["to_judge.bias"], judge["objective.weight"], judge["objective.bias"]
    return own[0].data, own[1].data, own[2].data, own[3].data


def be_exact(simulation: Simulation) -> None:
    """Let the predictor say V^T (V m + v - y)."""
    _, _, head, shift = numbers(simulation)
    predictor = predictor_of(simulation).parameters
    predictor["last.weight"].data.copy_(torch.cat([head.T @ head, -head.T], 1))
    predictor["last.bias"].data.copy_(head.T @ shift)


def largest_gradients(simulation: Simulation) -> dict[str, float]:
    """Of the two networks and of the predictor, at the next step."""
    before = leaves(predictor_of(simulation))
    found = {
        name: max(float(g.abs().max()) for g in own.values())
        for name, own in followed(simulation, RATE).items()
    }
    after = predictor_of(simulation).parameters
    return {
        **found,
        "predictor": max(float((p - after[key]).detach().abs().max()) / RATE for key, p in before.items()),
    }


# --- Proposition 1: critical points are kept ---------------------------------------------------------------


def put_at_the_optimum(simulation: Simulation, source: Whole) -> None:
    weight, bias, head, shift = numbers(simulation)
    features = with_ones(source.x)
    solution = torch.linalg.lstsq(features, source.y - shift).solution.T  # V [W, b] is to be this
    both = torch.linalg.pinv(head) @ solution
    weight.copy_(both[:, :INPUTS])
    bias.copy_(both[:, INPUTS])


def put_on_the_saddle(simulation: Simulation, source: Whole) -> None:
    """All zero but the last bias, which is the mean target: no direction of first order leads down."""
    for number, value in zip(numbers(simulation), (0, 0, 0, source.y.mean(0)), strict=True):
        number.copy_(torch.as_tensor(value))


@pytest.mark.parametrize("put", [put_at_the_optimum, put_on_the_saddle])
def test_a_critical_point_of_the_loss_is_one_of_the_decoupled_system(put: object) -> None:
    assert callable(put)
    simulation, source = chain(0)
    put(simulation, source)
    be_exact(simulation)
    before = [number.clone() for number in numbers(simulation)]
    assert max(largest_gradients(simulation).values()) < 1e-12
    for number in numbers(simulation):
        number.copy_(number + 0.01 * drawn(9, *number.shape))
    be_exact(simulation)
    assert largest_gradients(simulation)["f"] > 1e-5  # elsewhere there is a slope
    assert all(b.isfinite().all() for b in before)


def test_at_the_optimum_a_predictor_that_is_not_exact_leaves_it() -> None:
    simulation, source = chain(0)
    put_at_the_optimum(simulation, source)
    be_exact(simulation)
    predictor_of(simulation).parameters["last.bias"].data.add_(0.1)
    found = largest_gradients(simulation)
    assert found["f"] > 0.05
    assert found["predictor"] > 0.05


def test_exact_synthetic_gradients_are_backpropagation() -> None:
    """Through two of them, made exact before every step: the true gradient is a linear function of message and target."""
    found = []
    for coupling in ("locked", "decoupled"):
        source = Whole(drawn(1, N, INPUTS), drawn(2, N, OUTPUTS))
        layers = {"e": LINEAR, "f": LINEAR}
        training = {"optimiser": sgd(0.1), "predictor": sgd(RATE)}
        simulation = run_of(
            source, layers, LINEAR, (coupling,) * 2, sizes=(4, SIZE), weight=OUTPUTS / 2, training=training
        )
        for _ in range(10):
            if coupling == "decoupled":
                be_exact(simulation)
                own, last = simulation.agents["f"].parameters, predictor_of(simulation).parameters
                first, way = predictor_of(simulation, "e->f").parameters, own["to_judge.weight"].data
                on_message, on_y = last["last.weight"].data.split([SIZE, OUTPUTS], 1)
                first["last.weight"].data.copy_(way.T @ torch.cat([on_message @ way, on_y], 1))
                first["last.bias"].data.copy_(
                    way.T @ (on_message @ own["to_judge.bias"].data + last["last.bias"].data)
                )
            simulation.step()
        found.append({name: leaves(agent) for name, agent in simulation.agents.items()})
    for name, own in found[0].items():
        for key, p in own.items():
            torch.testing.assert_close(found[1][name][key], p, atol=1e-12, rtol=0)


# --- 3.3: the loss that a synthetic gradient implies --------------------------------------------------------


def fitted(message: Tensor, features: Tensor, gradient: Tensor) -> tuple[Tensor, float]:
    """The best linear map from [message, features, 1] to gradient, and the share of its variance left over."""
    columns = with_ones(torch.cat([message, features], 1))
    solution = torch.linalg.lstsq(columns, gradient).solution
    rest = (columns @ solution - gradient).square().sum() / (gradient - gradient.mean(0)).square().sum()
    return solution, float(rest)


def test_a_linear_synthetic_gradient_implies_the_loss_it_was_trained_on_where_that_is_quadratic() -> None:
    """1/2 h A h^T + (y B + C) h^T + const, of a predictor that has seen every message of a frozen chain."""
    simulation, source = chain(3, learn=False)
    simulation.step()
    message = simulation.channels["f->judge"].messages[0]
    assert message.gradient is not None
    solution, rest = fitted(message.value, source.y, message.gradient)
    assert rest < 1e-20
    own, on_y, constant = solution[:SIZE], solution[SIZE : SIZE + OUTPUTS], solution[-1]
    _, _, head, shift = numbers(simulation)
    torch.testing.assert_close(own, head.T @ head, atol=1e-9, rtol=0)

    def implied(h: Tensor) -> Tensor:
        return 0.5 * (h @ own * h).sum(1) + ((source.y @ on_y + constant) * h).sum(1)

    def true(h: Tensor) -> Tensor:
        return 0.5 * (F.linear(h, head, shift) - source.y).square().sum(1)

    h, other = message.value, 10 * drawn(4, N, SIZE)  # far from any message it has seen
    torch.testing.assert_close(implied(other) - implied(h), true(other) - true(h), atol=1e-6, rtol=0)


def test_of_a_log_loss_a_linear_synthetic_gradient_leaves_a_rest_that_a_sigmoid_term_explains() -> None:
    """dL/dh = d sigma(h A) + y B + C, as the paper suggests (its last remark of section 3)."""
    source = Whole(drawn(5, N, INPUTS), (drawn(6, N) > 0).long())
    simulation = run_of(
        source,
        {"f": LINEAR},
        nn.Linear(SIZE, 2),
        ("decoupled",),
        sizes=(SIZE,),
        kind="classification",
        learn=False,
    )
    judge = simulation.agents["judge"].parameters
    for name, number in judge.items():
        number.data.copy_(drawn(len(name), *number.shape))
    simulation.step()
    message = simulation.channels["f->judge"].messages[0]
    assert message.gradient is not None
    target = F.one_hot(source.y, 2)[:, :1].to(DOUBLE)
    assert fitted(message.value, target, message.gradient)[1] > 0.005
    logits = F.linear(message.value, judge["module.weight"].data, judge["module.bias"].data)
    sigma = torch.sigmoid(logits[:, :1] - logits[:, 1:])
    assert fitted(sigma, target, message.gradient)[1] < 1e-20


# --- Proposition 2: how wrong it may be -----------------------------------------------------------------------


@pytest.mark.nightly
def test_a_small_enough_error_turns_the_update_by_a_small_enough_angle() -> None:
    """eps K <= |g| (1 - d)/(1 + d), with d = 1/2 as in corollary 1.

    eps is the predictor's error over the N messages, K the largest stretch from parameters to messages. Then the update
    that is taken is within (1 - d)/(1 + d) of the true one, and their cosine at least 2 sqrt(d)/(1 + d).
    """
    rate = 0.02
    simulation, source = chain(0, rate=rate, predictor=adam(0.03))
    features = with_ones(source.x)
    stretch = float(torch.linalg.matrix_norm(features, 2))
    holds = 0
    for _ in range(150):
        weight, bias, head, shift = (number.clone() for number in numbers(simulation))
        m = F.linear(source.x, weight, bias)
        gradient = (F.linear(m, head, shift) - source.y) @ head
        predictor = predictor_of(simulation).parameters
        told = F.linear(
            torch.cat([m, source.y], 1), predictor["last.weight"].data, predictor["last.bias"].data
        )
        true, error = gradient.T @ features / N, float((told - gradient).norm()) / N
        own = followed(simulation, rate)["f"]
        taken = torch.cat([own["to_judge.weight"], own["to_judge.bias"].unsqueeze(1)], 1)
        torch.testing.assert_close(taken, told.T @ features / N, atol=1e-11, rtol=0)
        off = float((taken - true).norm())
        assert off <= error * stretch * (1 + 1e-12)
        if error * stretch <= float(true.norm()) / 3:
            holds += 1
            cosine = float((taken * true).sum() / taken.norm() / true.norm())
            assert cosine >= 2 * math.sqrt(0.5) / 1.5
    assert holds > 5
    best = float((best_fit(source) - source.y).square().mean())
    simulation.run(1500)
    assert abs(float(simulation.step()["losses"]["judge"]) - best * OUTPUTS / 2) < 1e-6


# --- the taxonomy ----------------------------------------------------------------------------------------


ROWS, STEP = 30, 0.01
EXACT: dict[str, Any] = {"atol": 1e-11, "rtol": 0}


def inner(target: Tensor, said: Tensor) -> Tensor:
    """L_SG(t, s) = -<t, s> of the rows in which SG does not train, with the target a constant."""
    return -(target.detach() * said).sum()


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_the_rows_of_the_taxonomy_give_the_gradients_of_our_couplings(coupling: str) -> None:
    """SG: dL/dh is SG(h, y), whose target is dL/dh. Bprop: what -<t, h> gives for the target t = -dL/dh."""
    source = Whole(drawn(5, ROWS, 3), drawn(6, ROWS, 2))
    training = {"optimiser": sgd(STEP)}
    simulation = run_of(source, {"f": LINEAR}, nn.Linear(2, 2), (coupling,), sizes=(2,), training=training)
    simulation.run(20)
    probe, f = simulation.probe()["f->judge"], leaves(simulation.agents["f"])
    told = probe.synthetic if coupling == "decoupled" else probe.true
    assert told is not None
    expected = torch.autograd.grad(inner(-told, said(f, "to_judge", source.x)) / ROWS, list(f.values()))
    found = followed(simulation, STEP)["f"]
    for own, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(own, wanted, **EXACT)
    if coupling == "decoupled":
        gradient = simulation.channels["f->judge"].messages[20].gradient
        torch.testing.assert_close(gradient, probe.true, **EXACT)
