"""Policies against loops by hand: alone, by channels into an actor, on clocks, for parts of an action (rules 38 to 43).

Parameters of some windows, by the formulas alone: who acts otherwise sees another world, and learns something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from antiphon import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document, document
from tests.contracts.games import Game
from tests.contracts.twins import made
from tests.numerics.linear import Numbers, assert_close, leaves, said
from tests.reference.backend import Chosen, reference

BATCH, SEED, TICKS = 8, 3, 5
MLP: Document = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}
SGD: Document = {"kind": "sgd", "lr": 0.3, "momentum": 0.5}
SG_RATE = 0.1
DEFAULTS: Document = {"discount": 0.99, "trace": 0.95, "value": 0.5, "entropy": 0.01, "clip": 0.2}
EVERYWHERE = torch.ones(BATCH, dtype=torch.bool)


def simulation_of(
    agents: Document, channels: list[Document], source: Game, backend: Chosen = "cohort"
) -> Simulation:
    agents = {name: {"network": MLP, **agent} for name, agent in agents.items()}
    predictor = {"kind": "sgd", "lr": SG_RATE, "momentum": 0.0}
    return made(document(agents, channels, source, batch=BATCH, optimiser=SGD, predictor=predictor), backend)


def world_of(source: Game) -> tuple[Any, dict[str, Tensor]]:
    """A world of its own, with the same seed, and what is seen in it at first."""
    env = source.make(batch=BATCH, split=None, dtype=torch.float64)
    return env, env.reset(seed=SEED)[0]


def by_torch(*parameters: Numbers) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for own in parameters for p in own.values()], lr=0.3, momentum=0.5)


def follow(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    optimiser.step()


def taught(head: Numbers, slopes: Sequence[Tensor]) -> None:
    """Let a predictor take a step of gradient descent."""
    for p, g in zip(head.values(), slopes, strict=True):
        p.data -= SG_RATE * g


def ports_of(p: Numbers, x: Tensor) -> Numbers:
    """What an mlp with one hidden layer of tanh units says."""
    hidden = torch.tanh(said(p, "0", x))
    return {
        name[:-7]: said(p, name[:-7], hidden) for name in p if name.endswith(".weight") and name[0] != "0"
    }


def numbers_of(agent: str, step: int, draws: int = 1) -> Tensor:
    """[B, draws]: the uniform numbers that an agent's action is drawn with."""
    seed = seed_for(seed_for(SEED, "agent", agent), "action")
    return uniform(seed, step, BATCH * draws).view(BATCH, draws)


def chosen(logits: Tensor, agent: str, step: int) -> Tensor:
    """[B]: the first choice at which the sum of the probabilities exceeds a uniform number."""
    return (torch.softmax(logits.detach(), 1).cumsum(1) <= numbers_of(agent, step)).sum(1).clamp(max=2)


def log_prob(logits: Tensor, action: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


@dataclass
class Window:
    """What a policy's window holds, a list over its ticks."""

    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    terminated: list[Tensor] = field(default_factory=list)
    truncated: list[Tensor] = field(default_factory=list)
    known: list[Tensor] = field(default_factory=list)
    finals: list[Tensor] = field(default_factory=list)
    """Values of the final observations of truncated episodes; NaN elsewhere, and where they are not known."""
    before: list[tuple[float, float]] = field(default_factory=list)
    """Mean and variance of the returns of earlier windows."""
    normalise: bool = True

    def following(self) -> Window:
        """The next window of the same policy."""
        return Window(before=self.before, normalise=self.normalise)

    def add(
        self,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        known: Tensor = EVERYWHERE,
        final: Tensor | None = None,
    ) -> None:
        """Append what followed an action; `known`: where it was experience; `final`: the value of the final observation."""
        self.finals.append(torch.full((BATCH,), torch.nan, dtype=torch.float64) if final is None else final)
        self.actions.append(action)
        self.rewards.append(reward)
        self.terminated.append(terminated)
        self.truncated.append(truncated)
        self.known.append(known)

    def judged(self, values: Tensor, *, discount: float, trace: float, **_: Any) -> tuple[Tensor, ...]:
        """Advantages, normalised from 32 samples on, targets of the values, and which ticks teach: from the definition.

        A tick teaches whose sequel is seen: within the window, and where it was truncated, if the value of the final observation
        is known. Where the next tick is no experience though the episode goes on, the agent has left it.
        """
        ticks = len(values)
        mean, deviation = self.statistics()
        values, finals = (mean + deviation * own for own in (values, torch.stack(self.finals)))
        advantages, valid = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
        for b in range(BATCH):
            known, cut, over = (
                [bool(x[b]) for x in own] for own in (self.known, self.truncated, self.terminated)
            )
            for t in range(ticks - 1):
                over[t] |= known[t] and not known[t + 1] and not cut[t]
            ends = [cut[t] and not over[t] for t in range(ticks)]
            lost = [ends[t] and bool(finals[t, b].isnan()) for t in range(ticks)]
            unseen = [lost[t] or not known[t] or t == ticks - 1 for t in range(ticks)]
            for t in range(ticks):
                valid[t, b], factor = not unseen[t], 1.0
                for k in range(t, ticks):
                    if unseen[k]:
                        break
                    after = 0.0 if over[k] else (finals[k] if ends[k] else values[k + 1])[b].item()
                    error = self.rewards[k][b].item() + discount * after - values[k, b].item()
                    advantages[t, b] += factor * error
                    factor *= discount * trace
                    if over[k] or ends[k]:
                        break
        returns = advantages + values
        if valid.any():
            self.before.append((returns[valid].mean().item(), returns[valid].var(correction=0).item()))
        mean, deviation = self.statistics()
        return _normalised(advantages / deviation, valid), (returns - mean) / deviation, valid

    def statistics(self) -> tuple[float, float]:
        """Mean and deviation of all returns so far, of which a window's weigh .99 times those of the next."""
        if not self.before or not self.normalise:
            return 0.0, 1.0
        weights = [0.99 ** (len(self.before) - k) for k in range(len(self.before))]
        shares = [weight / sum(weights) for weight in weights]
        mean = sum(share * own for share, (own, _) in zip(shares, self.before, strict=True))
        each = zip(shares, self.before, strict=True)
        variance = sum(share * (spread + (own - mean) ** 2) for share, (own, spread) in each)
        return mean, (variance + 1e-8) ** 0.5

    def returned(self, discount: float) -> tuple[Tensor, ...]:
        """Of reinforce: returns, less their mean, of the ticks whose episode's end is seen."""
        returns = torch.zeros(len(self.rewards), BATCH, dtype=torch.float64)
        valid = torch.zeros_like(returns, dtype=torch.bool)
        for b in range(BATCH):
            after: float | None = None
            for t in reversed(range(len(returns))):
                ends = bool(self.terminated[t][b] or self.truncated[t][b])
                after = 0.0 if ends else after
                if after is not None:
                    after = self.rewards[t][b].item() + discount * after
                    returns[t, b], valid[t, b] = after, True
        less = torch.where(valid, returns - returns[valid].mean(), 0.0)
        return _normalised(less, valid), returns, valid


def _normalised(advantages: Tensor, valid: Tensor) -> Tensor:
    if int(valid.sum()) < 32:
        return advantages
    some = advantages[valid]
    return (advantages - some.mean()) / (some.std() + 1e-8)


def loss_of(
    chances: Tensor,
    bonus: Tensor,
    values: Tensor | None,
    judged: tuple[Tensor, ...],
    then: Tensor | None = None,
    **options: float,
) -> Tensor:
    """The mean over the samples that teach; `then`: the chances of ppo's first pass, whose ratios are clipped."""
    advantages, returns, valid = judged
    options = {**DEFAULTS, **options}
    gain = chances * advantages
    if then is not None:
        ratio, clip = (chances - then).exp(), options["clip"]
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    loss = -gain - options["entropy"] * bonus
    if values is not None:
        loss = loss + options["value"] * (values - returns) ** 2
    return loss[valid].mean()


def orders(agent: str, step: int, epochs: int, minibatches: int) -> list[Tensor]:
    """The environments of each minibatch of the further passes."""
    found = []
    for epoch in range(1, epochs):
        seed = seed_for(seed_for(SEED, "agent", agent), "epoch", str(epoch))
        found += list(uniform(seed, step, BATCH).argsort(stable=True).tensor_split(minibatches))
    return found


# --- alone -----------------------------------------------------------------------------------------------------

OPTIONS: Document = {"discount": 0.9, "entropy": 0.05}
CRITIC: Document = {**OPTIONS, "trace": 0.8, "value": 0.7}
KINDS: dict[str, Document] = {
    "a2c": {**CRITIC, "normalise": "none"},
    "ppo": {**CRITIC, "clip": 0.1, "epochs": 3, "minibatches": 3},
    "reinforce": OPTIONS,
}


@pytest.mark.parametrize("backend", [reference, "cohort"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_alone(kind: str, backend: Chosen) -> None:
    source, options = Game(share=0.3), KINDS[kind]
    counts = {k: v for k, v in options.items() if k not in ("epochs", "minibatches", "normalise")}
    following = Window(normalise=kind == "ppo")
    agent = {
        "observes": ["x"],
        "acts": True,
        "clock": {"unroll": TICKS},
        "objective": {"kind": kind, **options},
    }
    simulation = simulation_of({"m": agent}, [], source, backend)
    p, start = leaves(simulation.agents["m"]), leaves(simulation.agents["m"])
    optimiser = by_torch(p)
    env, seen = world_of(source)
    for w in range(4):
        window, sights = following.following(), []
        for step in range(w * TICKS, (w + 1) * TICKS):
            sights.append(seen["x"])
            action = chosen(ports_of(p, seen["x"])["objective"], "m", step)
            seen, *followed, info = env.step(action + 2)  # the space starts at 2
            last = ports_of(p, info["final_obs"]["x"]).get("value") if "final_obs" in info else None
            window.add(action, *followed, final=None if last is None else last.detach()[:, 0])
        x, actions = torch.stack(sights), torch.stack(window.actions)
        ports = ports_of(p, x)
        then = log_prob(ports["objective"], actions).detach()
        if kind == "reinforce":
            judged = window.returned(options["discount"])
        else:
            judged = window.judged(ports["value"][..., 0].detach(), **options)
        passes = [torch.arange(BATCH)]
        passes += orders("m", step, options.get("epochs", 1), options.get("minibatches", 1))
        for rows in passes:
            ports = ports_of(p, x[:, rows])
            logits, own = ports["objective"], tuple(each[:, rows] for each in judged)
            values = ports["value"][..., 0] if "value" in ports else None
            before = then[:, rows] if kind == "ppo" else None
            chances = log_prob(logits, actions[:, rows])
            if own[2].any():
                follow(optimiser, loss_of(chances, entropy(logits), values, own, before, **counts))
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], p, 1e-9)
    assert all((value - start[name]).abs().max() > 1e-3 for name, value in p.items())


# --- two agents, by the channel between them -----------------------------------------------------------------

CHANNELS: dict[str, Document] = {
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "decoupled": {"gradient": {"kind": "linear", "context": ["y"], "gate": "none", "passes": "first"}},
    "replayed": {"gradient": {"kind": "linear", "context": ["y"], "gate": "none", "passes": "all"}},
    "replayed, deep": {
        "gradient": {
            "kind": "mlp",
            "hidden": [3],
            "norm": "none",
            "context": ["y"],
            "gate": "none",
            "passes": "all",
        }
    },
    "sampled": {"sample": {"kind": "gaussian", "noise": 0.4}},
}


@pytest.mark.parametrize(
    ("channel", "epochs"),
    [(channel, n) for channel in CHANNELS for n in (1, 3) if n > 1 or not channel.startswith("replayed")],
)
def test_a_sender_and_an_actor(channel: str, epochs: int) -> None:
    """A locked or replayed sender (rule 42b) moves in every pass; any other in the first one at most, by what its channel says:
    one that samples by the returns, as its messages are actions (rule 26b)."""
    clock = {"unroll": TICKS}
    agents: Document = {
        "s": {"observes": ["y"], "clock": clock},
        "m": {"observes": ["position"], "clock": clock, "acts": True},
    }
    agents["m"]["objective"] = {"kind": "ppo", "epochs": epochs, "minibatches": 2}
    if channel == "sampled":
        agents["s"]["objective"] = {"kind": "a2c"}
    source = Game(share=0.12)
    simulation = simulation_of(
        agents, [{"from": "s", "to": "m", "size": 2, "norm": "none", **CHANNELS[channel]}], source
    )
    handle, locked = simulation.channels["s->m"], channel == "locked"
    replayed = channel.startswith("replayed")
    s, m = (leaves(simulation.agents[name]) for name in "sm")
    head = leaves(handle.synthetic_gradient) if handle.synthetic_gradient is not None else {}
    actor = by_torch(s, m) if locked else by_torch(m)
    sender = by_torch(s)
    env, seen = world_of(source)
    of_m, of_s = Window(), Window()
    for w in range(3):
        window, views, places, messages, lasts = of_m.following(), [], [], [], []
        for step in range(w * TICKS, (w + 1) * TICKS):
            message = ports_of(s, seen["y"])["to_m"].detach()
            simulation.step()
            if channel == "sampled":
                message = handle.messages[step].value.clone()
            views.append(seen["y"])
            places.append(seen["position"])
            messages.append(message)
            action = chosen(ports_of(m, torch.cat([seen["position"], message], 1))["objective"], "m", step)
            seen, *followed, info = env.step(action + 2)
            window.add(action, *followed)
            lasts.append(info.get("final_obs", seen))
        view, place, actions = torch.stack(views), torch.stack(places), torch.stack(window.actions)
        from_s = ports_of(s, view)
        read = from_s["to_m"] if locked else torch.stack(messages).requires_grad_()
        last = {name: torch.stack([own[name] for own in lasts]) for name in ("y", "position")}
        sent = {name: port.detach() for name, port in ports_of(s, last["y"]).items()}
        noise = (read - from_s["to_m"]).detach().roll(-1, 0)  # of the step at which it would have been sent
        of_last = torch.cat([last["position"], sent["to_m"] + noise], 2)
        window.finals = list(ports_of(m, of_last)["value"].detach()[..., 0])

        def judged_loss(ports: Numbers, rows: Any, then: Tensor | None, judged: tuple[Tensor, ...]) -> Tensor:
            """Of these rows: ppo's, with the chances of the first pass."""
            logits, values = ports["objective"], ports["value"][..., 0]
            chances = log_prob(logits, actions[:, rows])  # noqa: B023
            own = tuple(each[:, rows] for each in judged)
            return loss_of(
                chances, entropy(logits), values, own, chances.detach() if then is None else then[:, rows]
            )

        def predictor_learns(loss: Tensor, read: Tensor, view: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
            """Return the predictions for what was read, and the predictor's slopes by what returns."""
            batch = read.shape[1]
            returned = batch * torch.autograd.grad(loss, read, retain_graph=True)[0]
            x = torch.cat([read.detach(), view], 2)
            if "0.weight" in head:
                x = said(head, "0", x).relu()
            output = said(head, "last", x)
            error = (output - returned).square().sum() / batch
            return output.detach(), torch.autograd.grad(error, list(head.values()), retain_graph=True)

        ports = ports_of(m, torch.cat([place, read], 2))
        judged = window.judged(ports["value"][..., 0].detach(), **DEFAULTS)
        then = log_prob(ports["objective"], actions).detach()
        loss = judged_loss(ports, slice(None), then, judged)
        if replayed or channel == "decoupled":
            predicted, slopes = predictor_learns(loss, read, view)
            follow(sender, (from_s["to_m"] * predicted).sum() / BATCH)
            taught(head, slopes)
        elif channel == "sampled":
            family = Independent(Normal(from_s["to_m"], torch.full_like(read, 0.4)), 1)
            values = from_s["value"][..., 0]
            window.before, window.finals = of_s.before, list(sent["value"][..., 0])
            own = window.judged(values.detach(), **DEFAULTS)
            follow(sender, loss_of(family.log_prob(read.detach()), family.entropy(), values, own))
        follow(actor, loss)
        for rows in orders("m", step, epochs, 2):
            live = ports_of(s, view[:, rows])["to_m"]
            again = live if locked else live.detach() if replayed else read[:, rows].detach()
            again.requires_grad_()
            loss = judged_loss(ports_of(m, torch.cat([place[:, rows], again], 2)), rows, then, judged)
            if replayed:
                predicted, slopes = predictor_learns(loss, again, view[:, rows])
                follow(sender, (live * predicted).sum() / len(rows))
                taught(head, slopes)
            follow(actor, loss)
        assert_close(simulation.agents["m"], m, 1e-9)
        assert_close(simulation.agents["s"], s, 1e-9)
        if head:
            assert_close(handle.synthetic_gradient, head, 1e-9)


# --- clocks and parts of the action ---------------------------------------------------------------------------


@pytest.mark.parametrize("next_step", [True, False])
def test_a_slower_agent_holds_its_action_and_sums_what_follows(next_step: bool) -> None:
    """Steps that are no experience bring nothing; what follows the window's last tick but for its own step is not seen.

    Of several ends before the next tick the first counts; without reset steps its final observation is known.
    """
    period, phase, ticks = 3, 1, 4
    source = Game(share=0.12 if next_step else 0.4, next_step=next_step)
    clock = {"period": period, "phase": phase, "unroll": ticks}
    goal = {"kind": "a2c", "reward": {"reward": 2.0}}
    agent = {"observes": ["y"], "clock": clock, "acts": True, "objective": goal}
    simulation = simulation_of({"m": agent}, [], source)
    p = leaves(simulation.agents["m"])
    optimiser = by_torch(p)
    env, seen = world_of(source)
    action, window, sights = torch.zeros(BATCH, dtype=torch.long), Window(), list[Tensor]()
    nothing, going = ~EVERYWHERE, EVERYWHERE
    for step in range(3 * period * ticks):
        ticking = step % period == phase
        if ticking:
            action = chosen(ports_of(p, seen["y"])["objective"], "m", step)
            sights.append(seen["y"])
            window.add(action, torch.zeros(BATCH, dtype=torch.float64), nothing, nothing)
            going = EVERYWHERE
        seen, reward, terminated, truncated, info = env.step(action + 2)
        if window.actions:
            known = info.get("_reward", EVERYWHERE)
            if "final_obs" in info:
                value = ports_of(p, info["final_obs"]["y"])["value"].detach()[:, 0]
                window.finals[-1] = torch.where(going & truncated, value, window.finals[-1])
            if ticking:
                window.known[-1] = known
            if len(window.actions) < ticks or ticking:
                window.rewards[-1] = window.rewards[-1] + torch.where(going & known, 2.0 * reward, 0.0)
                window.terminated[-1] = window.terminated[-1] | (going & terminated)
                window.truncated[-1] = window.truncated[-1] | (going & truncated)
                going = going & ~(terminated | truncated)
        simulation.step()
        if len(window.actions) == ticks and ticking:
            ports, actions = ports_of(p, torch.stack(sights)), torch.stack(window.actions)
            values, logits = ports["value"][..., 0], ports["objective"]
            judged = window.judged(values.detach(), **DEFAULTS)
            follow(optimiser, loss_of(log_prob(logits, actions), entropy(logits), values, judged))
            window, sights = window.following(), []
    assert simulation.agents["m"].updates == 3
    assert_close(simulation.agents["m"], p, 1e-9)


@pytest.mark.parametrize("space", ["choice", "numbers"])
def test_several_actors_each_for_its_part(space: str) -> None:
    """With a Gaussian too; each has its own reward where the world has one, and another where it names it."""
    source = Game(space, ("left", "right"), share=0.12, own=("l",))
    common = {"observes": ["y"], "clock": {"unroll": TICKS}}
    agents = {
        "l": {**common, "acts": "left", "objective": {"kind": "a2c"}},
        "r": {**common, "acts": "right", "objective": {"kind": "a2c", "reward": "reward"}},
    }
    simulation = simulation_of(agents, [], source)
    parameters = {name: leaves(simulation.agents[name]) for name in agents}
    optimisers = {name: by_torch(p) for name, p in parameters.items()}
    env, seen = world_of(source)
    windows = {name: Window() for name in agents}

    def family(outputs: Tensor) -> Independent:
        mean, deviation = outputs.chunk(2, -1)
        return Independent(Normal(mean, deviation.clamp(-5, 2).exp()), 1)

    for w in range(3):
        windows, sights = {name: window.following() for name, window in windows.items()}, list[Tensor]()
        for step in range(w * TICKS, (w + 1) * TICKS):
            actions = {}
            for name, p in parameters.items():
                outputs = ports_of(p, seen["y"])["objective"].detach()
                if space == "choice":
                    actions[name] = chosen(outputs, name, step)
                else:
                    own = family(outputs).base_dist
                    actions[name] = own.mean + own.stddev * Normal(0.0, 1.0).icdf(numbers_of(name, step, 2))
            sights.append(seen["y"])
            middle, half = (2, 1) if space == "choice" else (torch.tensor([1.0, 0]), torch.tensor([3.0, 1]))
            done = {"left": middle + half * actions["l"], "right": middle + half * actions["r"]}
            seen, reward, *ends, info = env.step(done)
            last = info.get("final_obs", seen)["y"]
            final = {name: ports_of(p, last)["value"].detach()[:, 0] for name, p in parameters.items()}
            windows["l"].add(actions["l"], info["reward.l"], *ends, info["_reward.l"], final["l"])
            windows["r"].add(actions["r"], reward, *ends, final=final["r"])
        for name, window in windows.items():
            ports, taken = ports_of(parameters[name], torch.stack(sights)), torch.stack(window.actions)
            values, outputs = ports["value"][..., 0], ports["objective"]
            if space == "choice":
                chances, bonus = log_prob(outputs, taken), entropy(outputs)
            else:
                chances, bonus = family(outputs).log_prob(taken), family(outputs).entropy()
            judged = window.judged(values.detach(), **DEFAULTS)
            follow(optimisers[name], loss_of(chances, bonus, values, judged))
        simulation.run(TICKS)
    for name, p in parameters.items():
        assert_close(simulation.agents[name], p, 1e-9)


def test_tied_actors_pass_over_their_windows_together() -> None:
    """The minibatches are of the same environments for all; what moves their parameters is the mean over them."""
    source, shows = Game(parts=("left", "right"), share=0.12, own=("l",)), {"l": "x", "r": "position"}
    goal = {"kind": "ppo", "epochs": 3, "minibatches": 2}
    common = {"share": "all", "clock": {"unroll": TICKS}, "objective": goal}
    acts = {"l": {"acts": "left", "observes": ["x"]}, "r": {"acts": "right", "observes": ["position"]}}
    simulation = simulation_of({name: {**common, **own} for name, own in acts.items()}, [], source)
    p = leaves(simulation.agents["l"])
    optimiser, (env, seen) = by_torch(p), world_of(source)
    before = list[tuple[float, float]]()
    for w in range(3):
        windows = {name: Window(before=[*before]) for name in shows}
        sights: dict[str, list[Tensor]] = {name: [] for name in shows}
        for step in range(w * TICKS, (w + 1) * TICKS):
            actions = {
                name: chosen(ports_of(p, seen[own])["objective"], name, step) for name, own in shows.items()
            }
            for name, own in shows.items():
                sights[name].append(seen[own])
            seen, reward, *ends, info = env.step({"left": actions["l"] + 2, "right": actions["r"] + 2})
            last = info.get("final_obs", seen)
            final = {name: ports_of(p, last[own])["value"].detach()[:, 0] for name, own in shows.items()}
            windows["l"].add(actions["l"], info["reward.l"], *ends, info["_reward.l"], final["l"])
            windows["r"].add(actions["r"], reward, *ends, final=final["r"])
        judged, then = dict[str, tuple[Tensor, ...]](), dict[str, Tensor]()
        for rows in [torch.arange(BATCH), *orders("l", step, 3, 2)]:
            loss = torch.zeros((), dtype=torch.float64)
            for name, window in windows.items():
                ports, taken = ports_of(p, torch.stack(sights[name])[:, rows]), torch.stack(window.actions)
                values, chances = ports["value"][..., 0], log_prob(ports["objective"], taken[:, rows])
                if name not in judged:  # the first pass is over all rows
                    judged[name], then[name] = window.judged(values.detach(), **DEFAULTS), chances.detach()
                own = tuple(each[:, rows] for each in judged[name])
                bonus = entropy(ports["objective"])
                loss = loss + loss_of(chances, bonus, values, own, then[name][:, rows]) / 2
            follow(optimiser, loss)
        before += [window.before[-1] for window in windows.values()]
        simulation.run(TICKS)
    assert_close(simulation.agents["l"], p, 1e-12)
