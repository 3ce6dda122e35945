"""Policies of several agents against loops by hand: channels into an actor, clocks, parts of an action (rules 38 to 43).

What one agent learns alone has a loop of its own in test_policy_loops.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from antiphon.engine.simulation import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document
from tests.engine.acting import ONE, SEVERAL, Stage
from tests.engine.scenes import scenario_of
from tests.numerics.linear import Numbers, assert_close, leaves, said

BATCH, SEED, TICKS = 8, 3, 5
MLP: Document = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}
SGD: Document = {"kind": "sgd", "lr": 0.3, "momentum": 0.5}
SG_RATE = 0.1


def simulation_of(agents: Document, channels: Any = (), source: Any = None) -> Simulation:
    predictor = {"kind": "sgd", "lr": SG_RATE, "momentum": 0.0}
    training = {"batch": BATCH, "optimiser": SGD, "predictor": predictor}
    return Simulation(
        scenario_of(agents, channels, source or Stage(ONE), **training), seed=SEED, dtype=torch.float64
    )


def by_torch(*parameters: Numbers) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for own in parameters for p in own.values()], lr=0.3, momentum=0.5)


def follow(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    optimiser.step()


def ports_of(p: Numbers, x: Tensor) -> Numbers:
    """What an mlp with one hidden layer of tanh units says."""
    hidden = torch.tanh(said(p, "0", x))
    return {
        name[:-7]: said(p, name[:-7], hidden) for name in p if name.endswith(".weight") and name[0] != "0"
    }


def chosen(logits: Tensor, agent: str, step: int) -> Tensor:
    """[B]: the first choice at which the sum of the probabilities exceeds a uniform number."""
    numbers = uniform(seed_for(seed_for(SEED, "agent", agent), "action"), step, BATCH)
    return (torch.softmax(logits.detach(), 1).cumsum(1) <= numbers.unsqueeze(1)).sum(1).clamp(max=2)


@dataclass
class Window:
    """What a policy's window holds, a list over its ticks."""

    reads: list[Any] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    terminated: list[Tensor] = field(default_factory=list)
    truncated: list[Tensor] = field(default_factory=list)
    known: list[Tensor] = field(default_factory=list)

    def add(self, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor, info: Any) -> None:
        """Append what followed an action."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.terminated.append(terminated)
        self.truncated.append(truncated)
        self.known.append(info.get("_reward", torch.ones(BATCH, dtype=torch.bool)))

    def judged(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Advantages, normalised from 32 samples on, targets of the values, and which ticks teach: from the definition.

        A tick teaches whose sequel is seen: within the window, and no truncation. Where the next tick is no experience though
        the episode goes on, the agent has left it.
        """
        ticks, discount, trace = len(values), 0.99, 0.95
        advantages, valid = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
        for b in range(BATCH):
            known, cut = ([bool(x[b]) for x in own] for own in (self.known, self.truncated))
            over = [bool(x[b]) for x in self.terminated]
            for t in range(ticks - 1):
                over[t] |= known[t] and not known[t + 1] and not cut[t]
            unseen = [cut[t] or not known[t] or t == ticks - 1 for t in range(ticks)]
            for t in range(ticks):
                valid[t, b], factor = not unseen[t], 1.0
                for k in range(t, ticks):
                    if unseen[k]:
                        break
                    after = 0.0 if over[k] else values[k + 1, b].item()
                    error = self.rewards[k][b].item() + discount * after - values[k, b].item()
                    advantages[t, b] += factor * error
                    factor *= discount * trace
                    if over[k]:
                        break
        returns = advantages + values
        if int(valid.sum()) >= 32:
            some = advantages[valid]
            advantages = (advantages - some.mean()) / (some.std() + 1e-8)
        return advantages, returns, valid


def log_prob(logits: Tensor, action: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def advantage_loss(chances: Tensor, bonus: Tensor, values: Tensor, judged: tuple[Tensor, ...]) -> Tensor:
    """Of a2c: the mean over the samples that teach, with the default weights."""
    advantages, returns, valid = judged
    return (-chances * advantages + 0.5 * (values - returns) ** 2 - 0.01 * bonus)[valid].mean()


def clipped_loss(ports: Numbers, actions: Tensor, then: Tensor, judged: tuple[Tensor, ...]) -> Tensor:
    """Of ppo."""
    advantages, returns, valid = judged
    ratio = (log_prob(ports["objective"], actions) - then).exp()
    held = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    wrong = (ports["value"][..., 0] - returns) ** 2
    return (-held + 0.5 * wrong - 0.01 * entropy(ports["objective"]))[valid].mean()


def orders(leader: str, step: int, epochs: int) -> list[Tensor]:
    """The environments of each of the two minibatches of the further passes."""
    found = []
    for epoch in range(1, epochs):
        seed = seed_for(seed_for(SEED, "agent", leader), "epoch", str(epoch))
        found += list(uniform(seed, step, BATCH).argsort().tensor_split(2))
    return found


def world_of(source: Stage) -> Any:
    env = source.make(batch=BATCH, dtype=torch.float64)
    env.request(env.signals)
    observations, _ = env.reset(seed=SEED)
    return env, observations


# --- two agents, by the channel between them -----------------------------------------------------------------

CHANNELS: dict[str, Document] = {
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "decoupled": {"gradient": {"kind": "linear", "context": ["view"]}},
    "local": {"gradient": {"kind": "local_policy"}},
    "sampled": {"sample": {"deviation": 0.4}},
}


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_sender_and_an_actor(channel: str, epochs: int) -> None:
    """A locked sender moves in every pass; any other in the first one at most, by what its channel says."""
    clock = {"unroll": TICKS}
    agents: Document = {
        "s": {"observes": ["view"], "network": MLP, "clock": clock},
        "m": {"observes": ["place"], "network": MLP, "clock": clock, "acts": True},
    }
    agents["m"]["objective"] = {"kind": "ppo", "epochs": epochs, "minibatches": 2}
    if channel == "sampled":
        agents["s"]["objective"] = {"kind": "a2c"}
    sent = {"from": "s", "to": "m", "size": 2, "norm": "none", **CHANNELS[channel]}
    simulation = simulation_of(agents, [sent])
    handle, locked = simulation.channels["s->m"], channel == "locked"
    if channel == "local":  # an untrained head has no slope
        weight = handle.synthetic_gradient.parameters["last.weight"]  # type: ignore[union-attr]
        weight.data.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    s, m = (leaves(simulation.agents[name]) for name in "sm")
    head = leaves(handle.synthetic_gradient) if handle.synthetic_gradient is not None else {}
    actor = by_torch(s, m) if locked else by_torch(m)
    sender = by_torch(s)
    env, seen = world_of(Stage(ONE))
    for w in range(3):
        window, views, places, messages = Window(), [], [], []
        for t in range(TICKS):
            step = w * TICKS + t
            message = ports_of(s, seen["view"])["to_m"].detach()
            simulation.step()
            if channel == "sampled":
                message = handle.messages[step].value.clone()
            views.append(seen["view"])
            places.append(seen["place"])
            messages.append(message)
            action = chosen(ports_of(m, torch.cat([seen["place"], message], 1))["objective"], "m", step)
            seen, *followed = env.step(action)
            window.add(action, *followed)
        view, place, actions = torch.stack(views), torch.stack(places), torch.stack(window.actions)
        from_s = ports_of(s, view)
        read = from_s["to_m"] if locked else torch.stack(messages).requires_grad_()
        ports = ports_of(m, torch.cat([place, read], 2))
        judged = window.judged(ports["value"][..., 0].detach())
        then = log_prob(ports["objective"], actions).detach()
        loss = clipped_loss(ports, actions, then, judged)
        if channel == "decoupled":
            delta = BATCH * torch.autograd.grad(loss, read, retain_graph=True)[0]
            predicted = said(head, "last", read.detach(), view)
            error = (predicted - delta).square().sum() / BATCH
            slopes = torch.autograd.grad(error, list(head.values()), retain_graph=True)
            follow(sender, (from_s["to_m"] * predicted.detach()).sum() / BATCH)
            for p, g in zip(head.values(), slopes, strict=True):
                p.data -= SG_RATE * g
        elif channel == "local":
            advantages, _, valid = judged
            own = -advantages * log_prob(said(head, "last", from_s["to_m"]), actions)
            own = torch.where(valid, own, 0.0).sum() / valid.sum()
            slopes = torch.autograd.grad(own, list(head.values()), retain_graph=True)
            follow(sender, own)
            for p, g in zip(head.values(), slopes, strict=True):
                p.data -= SG_RATE * g
        elif channel == "sampled":
            family = Independent(Normal(from_s["to_m"], torch.full_like(read, 0.4)), 1)
            values = from_s["value"][..., 0]
            chances = family.log_prob(read.detach())
            follow(sender, advantage_loss(chances, family.entropy(), values, window.judged(values.detach())))
        follow(actor, loss)
        for rows in orders("m", (w + 1) * TICKS - 1, epochs):
            again = ports_of(s, view[:, rows])["to_m"] if locked else read[:, rows].detach()
            ports = ports_of(m, torch.cat([place[:, rows], again], 2))
            own_rows = tuple(each[:, rows] for each in judged)
            follow(actor, clipped_loss(ports, actions[:, rows], then[:, rows], own_rows))
        assert_close(simulation.agents["m"], m, 1e-9)
        assert_close(simulation.agents["s"], s, 1e-9)
        if head:
            assert_close(handle.synthetic_gradient, head, 1e-9)


# --- clocks and parts of the action ---------------------------------------------------------------------------


def test_a_slower_agent_holds_its_action_and_sums_what_follows() -> None:
    """Steps that are no experience bring nothing; what follows the window's last tick but for its own step is not seen."""
    period, phase, ticks = 3, 1, 4
    source = Stage(ONE, gaps=0.1)
    clock = {"period": period, "phase": phase, "unroll": ticks}
    agent = {"observes": ["view"], "network": MLP, "clock": clock, "acts": True}
    simulation = simulation_of(
        {"m": {**agent, "objective": {"kind": "a2c", "reward": {"reward": 2.0}}}}, source=source
    )
    p = leaves(simulation.agents["m"])
    optimiser = by_torch(p)
    env, seen = world_of(source)
    action, window = torch.zeros(BATCH, dtype=torch.long), Window()
    nothing, going = torch.zeros(BATCH, dtype=torch.bool), torch.ones(BATCH, dtype=torch.bool)
    for step in range(3 * period * ticks):
        ticking = step % period == phase
        if ticking:
            action = chosen(ports_of(p, seen["view"])["objective"], "m", step)
            window.reads.append(seen["view"])
            window.add(action, torch.zeros(BATCH, dtype=torch.float64), nothing, nothing, {})
            going = ~nothing
        seen, reward, terminated, truncated, info = env.step(action)
        if window.actions:
            if ticking:
                window.known[-1] = info["_reward"]
            if len(window.actions) < ticks or ticking:
                window.rewards[-1] = window.rewards[-1] + torch.where(
                    going & info["_reward"], 2.0 * reward, 0.0
                )
                window.terminated[-1] = window.terminated[-1] | (going & terminated)
                window.truncated[-1] = window.truncated[-1] | (going & truncated)
                going = going & ~(terminated | truncated)
        simulation.step()
        if len(window.actions) == ticks and ticking:
            ports, actions = ports_of(p, torch.stack(window.reads)), torch.stack(window.actions)
            values, logits = ports["value"][..., 0], ports["objective"]
            judged = window.judged(values.detach())
            follow(optimiser, advantage_loss(log_prob(logits, actions), entropy(logits), values, judged))
            window = Window()
    assert simulation.agents["m"].updates == 3
    assert_close(simulation.agents["m"], p, 1e-9)


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
    parameters = {name: leaves(simulation.agents[name]) for name in agents}
    optimisers = {name: by_torch(p) for name, p in parameters.items()}
    env, seen = world_of(source)
    for w in range(3):
        windows = {name: Window() for name in agents}
        for t in range(ticks):
            step = w * ticks + t
            left = chosen(ports_of(parameters["l"], seen["view"])["objective"][:, :2], "l", step).clamp(max=1)
            mean, deviation = ports_of(parameters["r"], seen["view"])["objective"].detach().chunk(2, 1)
            numbers = uniform(seed_for(seed_for(SEED, "agent", "r"), "action"), step, BATCH * 2).view(
                BATCH, 2
            )
            right = mean + deviation.clamp(-5, 2).exp() * Normal(0.0, 1.0).icdf(numbers)
            for window in windows.values():
                window.reads.append(seen["view"])
            seen, reward, terminated, truncated, info = env.step({"left": left, "right": right})
            windows["l"].add(left, info["reward.l"], terminated, truncated, {})
            windows["r"].add(right, reward, terminated, truncated, {})
        for name, window in windows.items():
            ports, actions = (
                ports_of(parameters[name], torch.stack(window.reads)),
                torch.stack(window.actions),
            )
            values, outputs = ports["value"][..., 0], ports["objective"]
            if name == "l":
                chances, bonus = log_prob(outputs, actions), entropy(outputs)
            else:
                mean, deviation = outputs.chunk(2, 2)
                family = Independent(Normal(mean, deviation.clamp(-5, 2).exp()), 1)
                chances, bonus = family.log_prob(actions), family.entropy()
            judged = window.judged(values.detach())
            follow(optimisers[name], advantage_loss(chances, bonus, values, judged))
        simulation.run(ticks)
    for name, p in parameters.items():
        assert_close(simulation.agents[name], p, 1e-9)
