"""A competitor of `worlds.py`: PPO in a bare loop, as CleanRL's `ppo.py` has it, no antiphon.

One network chooses actions and another one estimates values; of images both have one trunk (Mnih et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

Step = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""From actions, [rows], to the next observations, rewards and where an episode ended."""
DISCOUNT, TRACE, CLIP, ENTROPY, VALUE, LONGEST = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def nature() -> nn.Module:
    """Return the trunk for four frames of 84 x 84 bytes; it has 512 outputs."""
    layers = [
        nn.Conv2d(4, 32, 8, 4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU())


class PPOLoop:
    """Owns networks, optimiser and the newest observations, [rows, …]; `update` takes a window of so many ticks and learns from it."""

    def __init__(
        self,
        step: Step,
        observed: Tensor,
        choices: int,
        *,
        ticks: int,
        epochs: int,
        minibatches: int,
        images: bool,
    ) -> None:
        self.step, self.observed, self.ticks, self.images = step, observed, ticks, images
        self.epochs, self.minibatches = epochs, minibatches
        self.trunk = nature() if images else nn.Identity()
        size = 512 if images else observed.shape[1]
        self.policy, self.values = (
            nn.Linear(size, outputs) if images else mlp(size, outputs) for outputs in (choices, 1)
        )
        self.parameters = [*chain(*(net.parameters() for net in (self.trunk, self.policy, self.values)))]
        self.optimiser = torch.optim.Adam(self.parameters, lr=0.0003, eps=1e-5)

    def evaluate(self, x: Tensor) -> tuple[torch.distributions.Categorical, Tensor]:
        """Return the policy and the values, [rows], of observations."""
        hidden = self.trunk(x.float() / 255 if self.images else x)
        return torch.distributions.Categorical(logits=self.policy(hidden)), self.values(hidden).squeeze(1)

    def update(self) -> None:
        seen, did, was, expected, rewards, ends = (list[Tensor]() for _ in range(6))
        with torch.no_grad():
            for _ in range(self.ticks):
                policy, value = self.evaluate(self.observed)
                action = policy.sample()
                seen.append(self.observed)
                did.append(action)
                was.append(policy.log_prob(action))
                expected.append(value)
                self.observed, reward, ended = self.step(action)
                rewards.append(reward)
                ends.append(ended.float())
            following, advantage = self.evaluate(self.observed)[1], torch.zeros_like(rewards[0])
            advantages = []
            for reward, value, ended in zip(rewards[::-1], expected[::-1], ends[::-1], strict=True):
                error = reward + DISCOUNT * following * (1 - ended) - value
                advantage = error + DISCOUNT * TRACE * (1 - ended) * advantage
                advantages.append(advantage)
                following = value
        x, actions, before, values = map(torch.cat, (seen, did, was, expected))
        gains = torch.cat(advantages[::-1])
        returns = gains + values
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).chunk(self.minibatches):
                self._follow(x[rows], actions[rows], before[rows], gains[rows], returns[rows])

    def _follow(self, x: Tensor, actions: Tensor, before: Tensor, gains: Tensor, returns: Tensor) -> None:
        policy, values = self.evaluate(x)
        gains = (gains - gains.mean()) / (gains.std() + 1e-8)
        ratio = (policy.log_prob(actions) - before).exp()
        gain = torch.min(ratio * gains, ratio.clamp(1 - CLIP, 1 + CLIP) * gains).mean()
        loss = VALUE * (values - returns).square().mean() - gain - ENTROPY * policy.entropy().mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, LONGEST)
        self.optimiser.step()
