"""Windows of policies against loops written by hand, in float64: samples, losses, further passes, and what is injected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.engine.acting import ONE, SEVERAL, Stage
from tests.engine.scenes import scenario_of

BATCH = 8
MLP: dict[str, Any] = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}
SGD = {"kind": "sgd", "lr": 0.3, "momentum": 0.5}
LR, MOMENTUM = 0.3, 0.5
Params = dict[str, Tensor]


def simulation_of(
    agents: Any, channels: Any = (), source: Any = None, seed: int = 3, **more: Any
) -> Simulation:
    training: dict[str, Any] = {"batch": BATCH, "optimiser": SGD, "predictor": {"kind": "sgd", "lr": 0.1}}
    source = source or Stage(ONE)
    scenario = scenario_of(agents, channels, source, **{**training, **more})
    return Simulation(scenario, seed=seed, dtype=torch.float64)


# --- by hand -----------------------------------------------------------------------------------------------


def layers(p: Params, x: Tensor) -> Params:
    """The ports of an mlp with one hidden layer of tanh units."""
    hidden = torch.tanh(x @ p["0.weight"].T + p["0.bias"])
    heads = [name.partition(".")[0] for name in p if name.endswith(".weight") and name != "0.weight"]
    return {head: hidden @ p[f"{head}.weight"].T + p[f"{head}.bias"] for head in heads}


def chosen(logits: Tensor, seed: int, agent: str, step: int) -> Tensor:
    """One choice per environment: the first at which the sum of the probabilities exceeds a uniform number."""
    numbers = uniform(seed_for(seed_for(seed, "agent", agent), "action"), step, len(logits))
    found = []
    for row, number in zip(torch.softmax(logits.detach(), 1), numbers, strict=True):
        total, choice = 0.0, 0
        for choice, p in enumerate(row.tolist()):  # noqa: B007
            total += p
            if number < total:
                break
        found.append(choice)
    return torch.tensor(found)


@dataclass
class Window:
    """What a policy's window holds, a list over its ticks."""

    reads: list[Any] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    terminated: list[Tensor] = field(default_factory=list)
    truncated: list[Tensor] = field(default_factory=list)
    known: list[Tensor] = field(default_factory=list)


def returns_of(
    window: Window, values: Tensor, discount: float, trace: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Advantages (not normalised), targets of the values, and which ticks are valid: sample by sample, from the definition."""
    ticks, batch = values.shape
    advantages, valid = torch.zeros_like(values), torch.zeros(ticks, batch, dtype=torch.bool)
    for b in range(batch):
        for t in range(
            ticks - 1
        ):  # whose next tick is no experience, though the episode goes on, has left it
            if window.known[t][b] and not window.known[t + 1][b] and not window.truncated[t][b]:
                window.terminated[t] = window.terminated[t].clone()
                window.terminated[t][b] = True
        unseen = [
            bool(window.truncated[t][b]) or not window.known[t][b] or t == ticks - 1 for t in range(ticks)
        ]
        for t in range(ticks):
            valid[t, b] = not unseen[t]
            factor = 1.0
            for k in range(t, ticks):  # the sum of errors until something ends or is not seen
                if unseen[k]:
                    break
                over = bool(window.terminated[k][b])
                after = 0.0 if over else values[k + 1, b].item()
                error = window.rewards[k][b].item() + discount * after - values[k, b].item()
                advantages[t, b] += factor * error
                factor *= discount * trace
                if over:
                    break
    return advantages, advantages + values, valid


def monte_carlo(window: Window, discount: float) -> tuple[Tensor, Tensor]:
    """Returns to the end of the episode, and where that end is in the window."""
    ticks, batch = len(window.rewards), len(window.rewards[0])
    returns, valid = (
        torch.zeros(ticks, batch, dtype=torch.float64),
        torch.zeros(ticks, batch, dtype=torch.bool),
    )
    for b in range(batch):
        for t in range(ticks):
            total, factor = 0.0, 1.0
            for k in range(t, ticks):
                total += factor * window.rewards[k][b].item()
                factor *= discount
                if window.terminated[k][b] or window.truncated[k][b]:
                    returns[t, b], valid[t, b] = total, True
                    break
    return returns, valid


def normalised(advantages: Tensor, valid: Tensor) -> Tensor:
    if int(valid.sum()) < 32:
        return advantages
    some = advantages[valid]
    return (advantages - some.mean()) / (some.std() + 1e-8)


def log_prob(logits: Tensor, action: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1)
    return -(p * p.log()).sum(-1)


def ppo_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    then: Tensor,
    advantages: Tensor,
    returns: Tensor,
    valid: Tensor,
) -> Tensor:
    """The mean over valid samples, with the default weights."""
    ratio = (log_prob(logits, actions) - then).exp()
    policy = torch.where(
        advantages >= 0, torch.minimum(ratio, torch.tensor(1.2)), torch.maximum(ratio, torch.tensor(0.8))
    )
    each = -policy * advantages + 0.5 * (values - returns) ** 2 - 0.01 * entropy(logits)
    return each[valid].mean()


class Momentum:
    """Stochastic gradient descent with momentum, as torch defines it."""

    def __init__(self, parameters: Params, lr: float = LR, momentum: float = MOMENTUM) -> None:
        self.parameters, self.lr, self.momentum = parameters, lr, momentum
        self.velocity: dict[str, Tensor] = {}

    def step(self, loss: Tensor) -> None:
        names = list(self.parameters)
        found = torch.autograd.grad(loss, [self.parameters[n] for n in names], allow_unused=True)
        for name, g in zip(names, found, strict=True):
            g = torch.zeros_like(self.parameters[name]) if g is None else g
            v = self.velocity.get(name)
            self.velocity[name] = g if v is None else self.momentum * v + g
            self.parameters[name] = (
                (self.parameters[name] - self.lr * self.velocity[name]).detach().requires_grad_()
            )


def own(simulation: Simulation, name: str) -> Params:
    parameters = simulation._system.agents[name].learner.parameters
    return {key: p.detach().clone().requires_grad_() for key, p in parameters.items()}


def same(simulation: Simulation, name: str, expected: Mapping[str, Tensor]) -> None:
    for key, p in simulation._system.agents[name].learner.parameters.items():
        assert torch.allclose(p, expected[key], rtol=0, atol=1e-9), (
            name,
            key,
            (p - expected[key]).abs().max(),
        )


def world_of(source: Stage, seed: int = 3) -> Any:
    env = source.make(batch=BATCH, dtype=torch.float64)
    env.request(env.signals)
    observations, _ = env.reset(seed=seed)
    return env, observations


# --- one agent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a2c", "ppo", "reinforce"])
def test_one_window_after_another(kind: str) -> None:
    ticks, windows = 6, 4
    source = Stage(ONE, gaps=0.1 if kind != "reinforce" else 0.0, ends=0.2)
    objective = {"kind": kind} | ({"epochs": 1} if kind == "ppo" else {})
    agent = {"observes": ["view", "place"], "network": MLP, "acts": True, "objective": objective}
    simulation = simulation_of({"m": {**agent, "clock": {"unroll": ticks}}}, source=source)
    p = own(simulation, "m")
    optimiser = Momentum(p)
    env, seen = world_of(source)
    for w in range(windows):
        window, outputs, values = Window(), [], []
        for t in range(ticks):
            ports = layers(p, torch.cat([seen["view"], seen["place"]], 1))
            action = chosen(ports["objective"], 3, "m", w * ticks + t)
            outputs.append(ports["objective"])
            if "value" in ports:
                values.append(ports["value"][:, 0])
            seen, reward, terminated, truncated, info = env.step(action)
            window.actions.append(action)
            window.rewards.append(reward)
            window.terminated.append(terminated)
            window.truncated.append(truncated)
            window.known.append(info.get("_reward", torch.ones(BATCH, dtype=torch.bool)))
        logits, actions = torch.stack(outputs), torch.stack(window.actions)
        if kind == "reinforce":
            returns, valid = monte_carlo(window, 0.99)
            advantages = returns - returns[valid].mean()
            each = -log_prob(logits, actions) * normalised(advantages, valid) - 0.01 * entropy(logits)
        else:
            value = torch.stack(values)
            advantages, returns, valid = returns_of(window, value.detach(), 0.99, 0.95)
            each = -log_prob(logits, actions) * normalised(advantages, valid)
            each = each + 0.5 * (value - returns) ** 2 - 0.01 * entropy(logits)
        optimiser.step(each[valid].mean())
        simulation.run(ticks)
    same(simulation, "m", p)


@pytest.mark.parametrize("epochs", [1, 3])
def test_passes_of_ppo(epochs: int) -> None:
    ticks, windows = 6, 3
    source = Stage(ONE)
    objective = {"kind": "ppo", "epochs": epochs, "minibatches": 2}
    agent = {"observes": ["view"], "network": MLP, "acts": True, "objective": objective}
    simulation = simulation_of({"m": {**agent, "clock": {"unroll": ticks}}}, source=source)
    p = own(simulation, "m")
    optimiser = Momentum(p)
    env, seen = world_of(source)
    for w in range(windows):
        window = Window()
        for t in range(ticks):
            window.reads.append(seen["view"])
            window.actions.append(chosen(layers(p, seen["view"])["objective"], 3, "m", w * ticks + t))
            seen, reward, terminated, truncated, _ = env.step(window.actions[-1])
            window.rewards.append(reward)
            window.terminated.append(terminated)
            window.truncated.append(truncated)
            window.known.append(torch.ones(BATCH, dtype=torch.bool))
        x, actions = torch.stack(window.reads), torch.stack(window.actions)
        ports = layers(p, x)
        values = ports["value"][..., 0].detach()
        advantages, returns, valid = returns_of(window, values, 0.99, 0.95)
        advantages, then = normalised(advantages, valid), log_prob(ports["objective"], actions).detach()
        last = (w + 1) * ticks - 1
        for rows in [torch.arange(BATCH), *orders(3, "m", last, epochs, 2)]:
            ports = layers(p, x[:, rows])
            own_rows = (a[:, rows] for a in (actions, then, advantages, returns, valid))
            optimiser.step(ppo_loss(ports["objective"], ports["value"][..., 0], *own_rows))
        simulation.run(ticks)
    same(simulation, "m", p)
    assert bool(simulation.learned.figures()["m"]["approx_kl"] > 0) is (epochs > 1)


def orders(seed: int, leader: str, step: int, epochs: int, parts: int) -> list[Tensor]:
    """The environments of each minibatch of the further passes."""
    found = []
    for epoch in range(1, epochs):
        numbers = uniform(seed_for(seed_for(seed, "agent", leader), "epoch", str(epoch)), step, BATCH)
        found += list(numbers.argsort().tensor_split(parts))
    return found


# --- two agents, by the coupling between them ---------------------------------------------------------------

PAIR_TICKS = 5
SG_RATE = 0.1


def pair(coupling: str, epochs: int) -> Simulation:
    clock = {"unroll": PAIR_TICKS}
    sender = {"observes": ["view"], "network": MLP, "clock": clock}
    objective = {"kind": "ppo", "epochs": epochs, "minibatches": 2}
    motor = {"observes": ["place"], "network": MLP, "clock": clock, "acts": True, "objective": objective}
    channel: dict[str, Any] = {"from": "s", "to": "m", "size": 2, "norm": "none", "coupling": coupling}
    if coupling == "decoupled":
        channel["gradient"] = {"kind": "linear", "context": ["view"]}
    predictor = {"kind": "sgd", "lr": SG_RATE, "momentum": 0.0}
    return simulation_of({"s": sender, "m": motor}, [channel], predictor=predictor)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("coupling", ["locked", "detached", "decoupled"])
def test_two_agents(coupling: str, epochs: int) -> None:
    """A locked sender moves in every pass; any other in the first one at most, from what its synthetic gradient predicts."""
    simulation = pair(coupling, epochs)
    s, m = own(simulation, "s"), own(simulation, "m")
    both = {**{f"s:{k}": v for k, v in s.items()}, **{f"m:{k}": v for k, v in m.items()}}
    groups = [Momentum(both)] if coupling == "locked" else [Momentum(s), Momentum(m)]
    predictor = (torch.zeros(2, 2 + 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    env, seen = world_of(Stage(ONE))

    def part(name: str) -> Params:
        if coupling != "locked":
            return s if name == "s" else m
        return {key[2:]: v for key, v in both.items() if key.startswith(name)}

    for w in range(4):
        window, views, places = Window(), [], []
        for t in range(PAIR_TICKS):
            views.append(seen["view"])
            places.append(seen["place"])
            message = layers(part("s"), seen["view"])["to_m"]
            logits = layers(part("m"), torch.cat([seen["place"], message], 1))["objective"]
            window.actions.append(chosen(logits, 3, "m", w * PAIR_TICKS + t))
            seen, reward, terminated, truncated, _ = env.step(window.actions[-1])
            window.rewards.append(reward)
            window.terminated.append(terminated)
            window.truncated.append(truncated)
            window.known.append(torch.ones(BATCH, dtype=torch.bool))
        view, place, actions = torch.stack(views), torch.stack(places), torch.stack(window.actions)
        sent = layers(part("s"), view)["to_m"]
        message = sent if coupling == "locked" else sent.detach().requires_grad_()
        ports = layers(part("m"), torch.cat([place, message], 2))
        advantages, returns, valid = returns_of(window, ports["value"][..., 0].detach(), 0.99, 0.95)
        advantages, then = normalised(advantages, valid), log_prob(ports["objective"], actions).detach()
        constants = (actions, then, advantages, returns, valid)
        loss = ppo_loss(ports["objective"], ports["value"][..., 0], *constants)
        if coupling == "locked":
            groups[0].step(loss)
        else:
            delta = BATCH * torch.autograd.grad(loss, message, retain_graph=True)[0]
            if coupling == "decoupled":
                weight, bias = predictor
                read = torch.cat([sent.detach(), view], 2)
                predicted = read @ weight.T + bias
                groups[0].step((sent * predicted).sum() / BATCH)
                wrong = (predicted - delta) * 2 / BATCH
                predictor = (
                    weight - SG_RATE * torch.einsum("tbo,tbi->oi", wrong, read),
                    bias - SG_RATE * wrong.sum((0, 1)),
                )
            groups[-1].step(loss)
        for rows in orders(3, "m", (w + 1) * PAIR_TICKS - 1, epochs, 2):
            read = (
                layers(part("s"), view[:, rows])["to_m"] if coupling == "locked" else sent[:, rows].detach()
            )
            ports = layers(part("m"), torch.cat([place[:, rows], read], 2))
            own_rows = (a[:, rows] for a in constants)
            groups[-1].step(ppo_loss(ports["objective"], ports["value"][..., 0], *own_rows))
        simulation.run(PAIR_TICKS)
    same(simulation, "s", part("s"))
    same(simulation, "m", part("m"))


# --- clocks and parts of the action ---------------------------------------------------------------------------


def test_a_slower_agent_holds_its_action_and_sums_what_follows() -> None:
    period, phase, ticks = 3, 1, 4
    source = Stage(ONE, gaps=0.1)
    objective = {"kind": "a2c", "reward": {"reward": 2.0}}
    clock = {"period": period, "phase": phase, "unroll": ticks}
    agent = {"observes": ["view"], "network": MLP, "clock": clock, "acts": True, "objective": objective}
    simulation = simulation_of({"m": agent}, source=source)
    p = own(simulation, "m")
    optimiser = Momentum(p)
    env, seen = world_of(source)
    action, window = torch.zeros(BATCH, dtype=torch.long), Window()
    going = torch.ones(BATCH, dtype=torch.bool)
    for step in range(3 * period * ticks):
        if step % period == phase:
            ports = layers(p, seen["view"])
            action = chosen(ports["objective"], 3, "m", step)
            window.reads.append(seen["view"])
            window.actions.append(action)
            nothing = torch.zeros(BATCH, dtype=torch.bool)
            window.rewards.append(torch.zeros(BATCH, dtype=torch.float64))
            window.terminated.append(nothing)
            window.truncated.append(nothing)
            going = ~nothing
        seen, reward, terminated, truncated, info = env.step(action)
        known = info["_reward"]
        if window.actions:
            if step % period == phase:
                window.known.append(known)
            if len(window.actions) < ticks or step % period == phase:
                window.rewards[-1] = window.rewards[-1] + torch.where(going & known, 2.0 * reward, 0.0)
                window.terminated[-1] = window.terminated[-1] | (going & terminated)
                window.truncated[-1] = window.truncated[-1] | (going & truncated)
                going = going & ~(terminated | truncated)
        simulation.step()
        if len(window.actions) == ticks and step % period == phase:
            ports, actions = layers(p, torch.stack(window.reads)), torch.stack(window.actions)
            values = ports["value"][..., 0]
            advantages, returns, valid = returns_of(window, values.detach(), 0.99, 0.95)
            each = -log_prob(ports["objective"], actions) * normalised(advantages, valid)
            each = each + 0.5 * (values - returns) ** 2 - 0.01 * entropy(ports["objective"])
            optimiser.step(each[valid].mean())
            window = Window()
    same(simulation, "m", p)


def test_several_actors_each_for_its_part() -> None:
    """One of them with a Gaussian; each has its own reward where the world has one, and another where it names it."""
    ticks = 4
    source = Stage(SEVERAL, rewards=("l",))
    common = {"observes": ["view"], "network": MLP, "clock": {"unroll": ticks}}
    agents = {
        "l": {**common, "acts": "left", "objective": {"kind": "a2c"}},
        "r": {**common, "acts": "right", "objective": {"kind": "a2c", "reward": "reward"}},
    }
    simulation = simulation_of(agents, source=source)
    parameters = {name: own(simulation, name) for name in agents}
    optimisers = {name: Momentum(p) for name, p in parameters.items()}
    env, seen = world_of(source)
    for w in range(3):
        windows = {name: Window() for name in agents}
        for t in range(ticks):
            step = w * ticks + t
            logits = layers(parameters["l"], seen["view"])["objective"]
            windows["l"].actions.append(chosen(logits, 3, "l", step))
            mean, deviation = layers(parameters["r"], seen["view"])["objective"].detach().chunk(2, 1)
            numbers = uniform(seed_for(seed_for(3, "agent", "r"), "action"), step, BATCH * 2).view(BATCH, 2)
            noise = torch.distributions.Normal(0.0, 1.0).icdf(numbers)
            windows["r"].actions.append(mean + deviation.clamp(-5, 2).exp() * noise)
            for window in windows.values():
                window.reads.append(seen["view"])
            done = {"left": windows["l"].actions[-1], "right": windows["r"].actions[-1]}
            seen, reward, terminated, truncated, info = env.step(done)
            windows["l"].rewards.append(info["reward.l"])
            windows["r"].rewards.append(reward)
            for window in windows.values():
                window.terminated.append(terminated)
                window.truncated.append(truncated)
                window.known.append(torch.ones(BATCH, dtype=torch.bool))
        for name, window in windows.items():
            ports, actions = layers(parameters[name], torch.stack(window.reads)), torch.stack(window.actions)
            values, outputs = ports["value"][..., 0], ports["objective"]
            advantages, returns, valid = returns_of(window, values.detach(), 0.99, 0.95)
            if name == "l":
                chances, bonus = log_prob(outputs, actions), entropy(outputs)
            else:
                mean, deviation = outputs.chunk(2, 2)
                family = torch.distributions.Normal(mean, deviation.clamp(-5, 2).exp())
                chances, bonus = family.log_prob(actions).sum(2), family.entropy().sum(2)
            each = -chances * normalised(advantages, valid) + 0.5 * (values - returns) ** 2 - 0.01 * bonus
            optimisers[name].step(each[valid].mean())
        simulation.run(ticks)
    for name, p in parameters.items():
        same(simulation, name, p)
