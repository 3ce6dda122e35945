"""A competitor of `speaking.py`: speakers that learn by PPO through what others do with their messages, in a bare loop, no antiphon.

The gradient of a listener's loss goes on into the speaker, in all passes. As in antiphon the first pass is over the whole window,
which is an episode, and minibatches are of environments; values are of returns less their mean, over their deviation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

DISCOUNT, TRACE, CLIP, ENTROPY, VALUE, LONGEST, MEMORY = 0.95, 0.95, 0.2, 0.01, 0.5, 0.5, 0.99
EPOCHS, MINIBATCHES, RATE, TICKS, WORDS, PUSHES = 10, 4, 3e-3, 25, 3, 5
Seen = dict[str, Tensor]


class Agent(nn.Module):
    """Two hidden layers of 64 tanh units; a message, a choice and a value."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.say = nn.Sequential(nn.Linear(64, WORDS), nn.LayerNorm(WORDS))
        self.act, self.value = nn.Linear(64, PUSHES), nn.Linear(64, 1)


class SpeakingLoop:
    """Agents `a` and `b`: `a` speaks and `b` moves, or both do both and read what was said the step before.

    Args:
        env: An environment of `speaking.py`, reset.
        seen: The first observations.
    """

    def __init__(self, env: Any, seen: Seen) -> None:
        self.env, self.seen, self.rows = env, seen, len(seen["body.b"])
        self.both = "body.a" in seen
        self.movers = ("a", "b") if self.both else ("b",)
        goal, body = seen["goal.b"].shape[1], seen["body.b"].shape[1]
        inputs = [goal + body + WORDS] * 2 if self.both else [goal, body + WORDS]
        self.agents = dict(zip("ab", map(Agent, inputs), strict=True))
        self.parameters = [p for agent in self.agents.values() for p in agent.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, RATE)
        self.moments = {name: torch.tensor([0.0, 0.0, 0.0]) for name in self.movers}

    def tick(self, seen: Seen, heard: Seen) -> tuple[Seen, Seen]:
        """Return the hidden units of those that move, and what is heard next."""
        if not self.both:
            said = self.agents["a"].say(self.agents["a"].trunk(seen["goal.b"]))
            return {"b": self.agents["b"].trunk(torch.cat([seen["body.b"], said], -1))}, {}
        hidden, said = {}, {}
        for name, other in (("a", "b"), ("b", "a")):
            x = torch.cat([seen[f"goal.{other}"], seen[f"body.{name}"], heard[name]], -1)
            hidden[name] = self.agents[name].trunk(x)
            said[other] = self.agents[name].say(hidden[name])
        return hidden, said

    def window(self, seen: Seen) -> Seen:
        """Return the hidden units at all ticks of some environments, [T, rows, 64]."""
        if not self.both:
            return self.tick(seen, {})[0]
        each, heard = [], self.silence(seen["goal.b"].shape[1])
        for t in range(TICKS):
            hidden, heard = self.tick({name: value[t] for name, value in seen.items()}, heard)
            each.append(hidden)
        return {name: torch.stack([hidden[name] for hidden in each]) for name in self.movers}

    @staticmethod
    def silence(rows: int) -> Seen:
        """Return what is heard at first."""
        return {name: torch.zeros(rows, WORDS) for name in "ab"}

    @torch.no_grad()
    def episode(self, *, greedy: bool = False) -> tuple[list[Seen], list[Seen], list[Tensor], Seen]:
        """Play an episode; return observations, actions, rewards and the values after it."""
        seen, did, rewards, heard = list[Seen](), list[Seen](), list[Tensor](), self.silence(self.rows)
        for _ in range(TICKS):
            hidden, heard = self.tick(self.seen, heard)
            logits = {name: self.agents[name].act(own) for name, own in hidden.items()}
            choices = {
                n: own.argmax(1) if greedy else Categorical(logits=own).sample() for n, own in logits.items()
            }
            seen.append(self.seen)
            did.append(choices)
            self.seen, reward, _, _, info = self.env.step(choices)
            rewards.append(reward)
        last = self.tick(info["final_obs"], heard)[0]
        return seen, did, rewards, {name: self.agents[name].value(own)[:, 0] for name, own in last.items()}

    def update(self) -> None:
        """Play an episode, and learn from it."""
        observed, did, rewards, last = self.episode()
        seen = {name: torch.stack([own[name] for own in observed]) for name in observed[0]}
        actions = {name: torch.stack([own[name] for own in did]) for name in self.movers}
        known = {}
        with torch.no_grad():
            for name, hidden in self.window(seen).items():
                policy, values = self.read(name, hidden)
                gains, returns = self.judged(
                    name, torch.stack(rewards), torch.cat([values, last[name][None]])
                )
                known[name] = actions[name], policy.log_prob(actions[name]), gains, returns
        whole = [torch.arange(self.rows)]
        orders = [torch.randperm(self.rows).chunk(MINIBATCHES) for _ in range(EPOCHS - 1)]
        for rows in [*whole, *(some for order in orders for some in order)]:
            hidden = self.window({name: value[:, rows] for name, value in seen.items()})
            self.follow([(self.read(n, own), [k[:, rows] for k in known[n]]) for n, own in hidden.items()])

    def read(self, name: str, hidden: Tensor) -> tuple[Categorical, Tensor]:
        """Return the policy and the values of hidden units."""
        agent = self.agents[name]
        return Categorical(logits=agent.act(hidden)), agent.value(hidden)[..., 0]

    def judged(self, name: str, rewards: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return advantages and the targets of values, both without scale."""
        mean, deviation = self.scale(name)
        values, gain, gains = values * deviation + mean, torch.zeros(self.rows), []
        for t in reversed(range(TICKS)):
            gain = rewards[t] + DISCOUNT * values[t + 1] - values[t] + DISCOUNT * TRACE * gain
            gains.append(gain)
        gain = torch.stack(gains[::-1])
        returns = gain + values[:-1]
        now = torch.stack([torch.ones(()), returns.mean(), returns.square().mean()])
        self.moments[name] = MEMORY * self.moments[name] + now
        mean, deviation = self.scale(name)
        return (gain - gain.mean()) / (gain.std() + 1e-8), (returns - mean) / deviation

    def scale(self, name: str) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of an agent's returns so far."""
        count, total, squares = self.moments[name]
        if not count:
            return torch.zeros(()), torch.ones(())
        return total / count, (squares / count - (total / count) ** 2 + 1e-8).sqrt()

    def follow(self, each: list[tuple[tuple[Categorical, Tensor], list[Tensor]]]) -> None:
        """Follow the sum of the agents' losses."""
        loss = torch.zeros(())
        for (policy, values), (actions, before, gains, returns) in each:
            ratio = (policy.log_prob(actions) - before).exp()
            gain = torch.min(ratio * gains, ratio.clamp(1 - CLIP, 1 + CLIP) * gains)
            loss = loss + (VALUE * (values - returns).square() - gain - ENTROPY * policy.entropy()).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, LONGEST)
        self.optimiser.step()
