"""Q-learning against loops by hand: alone, with a state, by channels into a learner (rules 37 to 43)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document
from tests.contracts.games import Game
from tests.numerics.linear import Numbers, assert_close, leaves, said
from tests.numerics.loops import Hand
from tests.numerics.test_policies import (
    BATCH,
    SEED,
    TICKS,
    Window,
    by_torch,
    follow,
    numbers_of,
    orders,
    ports_of,
    simulation_of,
    taught,
    world_of,
)

CHOICES = 3
Q: Document = {
    "kind": "q",
    "discount": 0.9,
    "trace": 0.8,
    "epsilon": 0.2,
    "explore": 8,
    "period": 2,
    "epochs": 1,
    "normalise": "none",
}
PRECISE = 1e-12


def chosen(values: Tensor, step: int) -> Tensor:
    """[B]: the best choice, or with a probability that falls from 1 any one."""
    share = max(0.0, 1 - step / Q["explore"])
    epsilon = Q["epsilon"] + (1 - Q["epsilon"]) * share
    best = torch.nn.functional.one_hot(values.argmax(1), CHOICES)
    chances = epsilon / CHOICES + (1 - epsilon) * best
    return (chances.cumsum(1) <= numbers_of("m", step)).sum(1).clamp(max=CHOICES - 1)


def double(values: Tensor, target: Tensor) -> Tensor:
    """The values that a target network has of the choices that are best by `values`, [..., B]."""
    return target.gather(-1, values.argmax(-1, keepdim=True))[..., 0].detach()


def returns_of(outputs: Tensor, target: Tensor, followed: list[tuple[Tensor, ...]]) -> Tensor:
    """What followed each tick but the last, [T - 1, B], from the definition of the lambda-return.

    Args:
        outputs: [T, B, choices].
        target: The same, of the target network.
        followed: By tick: action, reward, where it terminated, where it was truncated, the value of the final observation.
    """
    assert outputs.shape == target.shape
    ahead = double(outputs, target)
    returns = torch.zeros_like(ahead[:-1])
    for b in range(BATCH):
        later = ahead[-1, b].item()  # what follows the last tick is not seen
        for t in reversed(range(len(followed) - 1)):
            _, reward, terminated, truncated, final = (own[b] for own in followed[t])
            after = (1 - Q["trace"]) * ahead[t + 1, b].item() + Q["trace"] * later
            after = 0.0 if terminated else final.item() if truncated else after
            later = reward.item() + Q["discount"] * after
            returns[t, b] = later
    return returns


def error_of(outputs: Tensor, returns: Tensor, followed: list[tuple[Tensor, ...]]) -> Tensor:
    """The mean squared error of what was done."""
    actions = torch.stack([action for action, *_ in followed[:-1]])
    return (outputs[:-1].gather(2, actions.unsqueeze(2))[..., 0] - returns).square().mean()


def loss_of(outputs: Tensor, target: Tensor, followed: list[tuple[Tensor, ...]]) -> Tensor:
    """The error against what followed, by these outputs and those of the target network; see `returns_of`."""
    return error_of(outputs, returns_of(outputs, target, followed), followed)


class Target:
    """Copies of parameters, made after windows with a step whose number is a multiple of the period."""

    def __init__(self, numbers: Numbers, period: int = Q["period"]) -> None:
        self.own, self.steps, self.period = numbers, 0, period
        self.copied = {name: p.detach().clone() for name, p in numbers.items()}

    def follow(self, taken: int = 1) -> None:
        """Take the steps of a window."""
        before = self.steps // self.period
        self.steps += taken
        if self.steps // self.period > before:
            self.copied = {name: p.detach().clone() for name, p in self.own.items()}


def learner(source: Game, **keys: Any) -> Simulation:
    agent = {"observes": ["x"], "acts": True, "clock": {"unroll": TICKS}, "objective": Q, **keys}
    return simulation_of({"m": agent}, [], source)


def played(
    env: Any, seen: Numbers, steps: range, p: Numbers, copied: Numbers, units: Window
) -> tuple[Numbers, Tensor, list[tuple[Tensor, ...]], Tensor]:
    """Play a window by parameters and the target network's copies: what is seen after it; of its ticks the observations, what
    followed and the returns, in units of the mean and deviation that they are added to."""
    sights, followed = [], []
    mean, deviation = units.statistics()
    for step in steps:
        sights.append(seen["x"])
        action = chosen(ports_of(p, seen["x"])["objective"].detach(), step)
        seen, *after, info = env.step(action + 2)  # the space starts at 2
        last = info.get("final_obs", seen)["x"]
        final = double(ports_of(p, last)["objective"], ports_of(copied, last)["objective"])
        followed.append((action, *after, mean + deviation * final))
    x = torch.stack(sights)
    beside = ports_of(copied, x)["objective"]
    each = (mean + deviation * own for own in (ports_of(p, x)["objective"].detach(), beside))
    returns = returns_of(*each, followed)
    units.before.append((returns.mean().item(), returns.var(correction=0).item()))
    mean, deviation = units.statistics()
    return seen, x, followed, (returns - mean) / deviation


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("epochs", "period", "normalise"),
    [(1, 2, "none"), (3, 2, "none"), (3, 7, "none"), (1, 2, "returns"), (3, 1, "returns")],
)
def test_a_learner_alone(epochs: int, period: int, normalise: str) -> None:
    source, units = Game(share=0.3), Window(normalise=normalise == "returns")
    keys: Document = {"epochs": epochs, "minibatches": 2, "period": period, "normalise": normalise}
    simulation = learner(source, objective={**Q, **keys})
    p, start = leaves(simulation.agents["m"]), leaves(simulation.agents["m"])
    optimiser, target = by_torch(p), Target(p, period)
    env, seen = world_of(source)
    for w in range(5):
        steps = range(w * TICKS, (w + 1) * TICKS)
        seen, x, followed, returns = played(env, seen, steps, p, target.copied, units)
        passes = [torch.arange(BATCH), *orders("m", steps[-1], epochs, 2)]
        for rows in passes:
            done = [tuple(own[rows] for own in outcome) for outcome in followed]
            follow(optimiser, error_of(ports_of(p, x[:, rows])["objective"], returns[:, rows], done))
        target.follow(len(passes))
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], p, PRECISE)
    assert all((value - start[name]).abs().max() > 1e-3 for name, value in p.items())


@pytest.mark.cases(1)
@pytest.mark.parametrize("normalise", ["none", "returns"])
def test_a_learner_that_draws_from_earlier_windows(normalise: str) -> None:
    """Each environment draws one of the three newest windows, in each pass after the first."""
    source, units = Game(share=0.3), Window(normalise=normalise == "returns")
    keys: Document = {"epochs": 3, "minibatches": 2, "period": 7, "normalise": normalise, "replay": 3}
    simulation = learner(source, objective={**Q, **keys})
    p, start = leaves(simulation.agents["m"]), leaves(simulation.agents["m"])
    optimiser, target = by_torch(p), Target(p, keys["period"])
    env, seen = world_of(source)
    windows: list[list[tuple[Tensor, ...]]] = []
    for w in range(7):
        steps = range(w * TICKS, (w + 1) * TICKS)
        seen, x, followed, returns = played(env, seen, steps, p, target.copied, units)
        windows.append([(sight, *outcome) for sight, (*outcome, _) in zip(x, followed, strict=True)])
        follow(optimiser, error_of(ports_of(p, x)["objective"], returns, followed))
        mean, deviation = units.statistics()
        seed = seed_for(seed_for(SEED, "agent", "m"), "replay")
        draws = uniform(seed, steps[-1], 3 * BATCH).view(3, BATCH)
        for number, rows in enumerate(orders("m", steps[-1], 3, 2)):
            losses = []
            for b in rows.tolist():
                count = min(w + 1, 3)
                places = [v % 3 for v in range(w + 1)][-count:]  # the newest takes the place of the oldest
                place = int(draws[1 + number // 2, b] * count)
                drawn = windows[w + 1 - count + places.index(place)]
                losses += errors_of_drawn(drawn, b, p, target.copied, mean, deviation)
            follow(optimiser, torch.stack(losses).mean())
        target.follow(5)
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], p, PRECISE)
    assert all((value - start[name]).abs().max() > 1e-3 for name, value in p.items())


def errors_of_drawn(
    window: list[tuple[Tensor, ...]], b: int, p: Numbers, copied: Numbers, mean: float, deviation: float
) -> list[Tensor]:
    """The squared error of each tick of a window in an environment; ticks that were truncated, and the last, have none."""
    sights = torch.stack([x[b] for x, *_ in window])
    outputs, beside = (ports_of(own, sights)["objective"] for own in (p, copied))
    ahead, found, later = mean + deviation * double(outputs, beside), [], torch.tensor(0.0)
    for t in reversed(range(len(window))):
        _, action, reward, terminated, truncated = (own[b] for own in window[t])
        if t == len(window) - 1 or (truncated and not terminated):
            later = ahead[t]  # what follows is not known: the value stands for it
            continue
        after = (1 - Q["trace"]) * ahead[t + 1] + Q["trace"] * later
        later = reward + Q["discount"] * (0.0 if terminated else after)
        found.append((outputs[t, action] - (later - mean) / deviation).square())
    return found


def test_a_target_network_reads_the_state_of_the_agents_own() -> None:
    source = Game(share=0.3)
    network: Document = {"kind": "gru", "size": 4, "norm": "none"}
    simulation = learner(source, network=network)
    hand = Hand(simulation, "m", "gru")
    target, copy = Target(hand.numbers), Hand(simulation, "m", "gru")
    optimiser = by_torch(hand.numbers)
    env, seen = world_of(source)
    state = torch.zeros(BATCH, hand.state_size, dtype=torch.float64)
    for w in range(4):
        outputs, targets, followed = [], [], []
        state, copy.numbers = state.detach(), target.copied

        def of(x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """The outputs of agent and target network, and the next state."""
            hidden, after = hand.tick(x, own)
            beside = copy.tick(x, own.detach())[0]
            return hand.head("objective", hidden), copy.head("objective", beside).detach(), after

        for step in range(w * TICKS, (w + 1) * TICKS):
            output, beside, state = of(seen["x"], state)
            outputs.append(output)
            targets.append(beside)
            action = chosen(output.detach(), step)
            seen, reward, terminated, truncated, info = env.step(action + 2)
            final = double(*of(info.get("final_obs", seen)["x"], state)[:2])
            followed.append((action, reward, terminated, truncated, final))
            state = torch.where((terminated | truncated).unsqueeze(1), 0.0, state)
        follow(optimiser, loss_of(torch.stack(outputs), torch.stack(targets), followed))
        target.follow()
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], hand.numbers, PRECISE)


CHANNELS: dict[str, Document] = {
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "decoupled": {"gradient": {"kind": "linear", "context": ["y"], "gate": "none"}},
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_sender_learns_from_the_error_of_the_values(channel: str) -> None:
    """Foerster et al. 2016: the gradient of the error with respect to the message is the sender's signal."""
    clock = {"unroll": TICKS}
    agents: Document = {
        "s": {"observes": ["y"], "clock": clock},
        "m": {"observes": ["position"], "clock": clock, "acts": True, "objective": Q},
    }
    source = Game(share=0.3)
    between = {"from": "s", "to": "m", "size": 2, "norm": "none", **CHANNELS[channel]}
    simulation = simulation_of(agents, [between], source)
    handle, locked = simulation.channels["s->m"], channel == "locked"
    if channel == "decoupled":  # an untrained head has no slope
        weight = handle.synthetic_gradient.parameters["last.weight"]  # type: ignore[union-attr]
        weight.data.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    s, m = (leaves(simulation.agents[name]) for name in "sm")
    head = leaves(handle.synthetic_gradient) if handle.synthetic_gradient is not None else {}
    actor, sender, target = by_torch(s, m) if locked else by_torch(m), by_torch(s), Target(m)
    env, seen = world_of(source)
    for w in range(4):
        views, places, followed = [], [], []
        for step in range(w * TICKS, (w + 1) * TICKS):
            views.append(seen["y"])
            places.append(seen["position"])
            heard = torch.cat([seen["position"], ports_of(s, seen["y"])["to_m"]], 1)
            action = chosen(ports_of(m, heard)["objective"].detach(), step)
            seen, *after, info = env.step(action + 2)
            last = info.get("final_obs", seen)
            heard = torch.cat([last["position"], ports_of(s, last["y"])["to_m"]], 1)
            final = double(ports_of(m, heard)["objective"], ports_of(target.copied, heard)["objective"])
            followed.append((action, *after, final))
        view, place = torch.stack(views), torch.stack(places)
        sent = ports_of(s, view)["to_m"]
        read = sent if locked else sent.detach().requires_grad_()
        heard = torch.cat([place, read], 2)
        loss = loss_of(ports_of(m, heard)["objective"], ports_of(target.copied, heard)["objective"], followed)
        if channel == "decoupled":
            returned = BATCH * torch.autograd.grad(loss, read, retain_graph=True)[0]
            predicted = said(head, "last", read.detach(), view)
            error = (predicted - returned).square().sum() / BATCH
            slopes = torch.autograd.grad(error, list(head.values()), retain_graph=True)
            follow(sender, (sent * predicted.detach()).sum() / BATCH)
            taught(head, slopes)
        follow(actor, loss)
        target.follow()
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], m, PRECISE)
        assert_close(simulation.agents["s"], s, PRECISE)
        if head:
            assert_close(handle.synthetic_gradient, head, PRECISE)
