"""Where a linear synthetic gradient can be exact, what it implies, and how wrong it may be (Czarnecki et al. 2017).

A chain of two linear networks on squared error: the message is m = W x + b, the output p = V m + v, and dL/dm is
V^T (p - y), a linear function of message and target. N is the number of examples.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from tests.numerics.linear import LINEAR, leaves, sgd
from tests.numerics.whole import (
    DOUBLE,
    Whole,
    adam,
    best_fit,
    drawn,
    followed,
    predictor_of,
    run_of,
    with_ones,
)

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


@pytest.mark.long
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
