"""REINFORCE in your own training loop: the eye learns from a predicted policy gradient, before the reward is known."""

import torch
from torch import nn
from torch.distributions import Categorical

from antiphon import comms


def play(steps: int, **channel) -> float:
    """Train an eye, which sees 16 numbers and sends 4, and an actor; return the mean reward at the end."""
    torch.manual_seed(0)
    eye, actor = nn.Linear(16, 4), nn.Linear(4, 4)
    seen = comms.Channel(4, context={"state": (16,)}, name="seen", **channel)
    optimisers = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in (eye, actor)]
    baseline = 0.0
    for _ in range(steps):
        state = torch.randn(64, 16)
        seen.send(eye(state), state=state)  # the gradient is predicted here
        seen.credit().backward()
        policy = Categorical(logits=actor(seen.receive()))
        action = policy.sample()
        reward = (action == state[:, :4].argmax(1)).float()  # for the index of the largest of the first four
        loss = -(policy.log_prob(action) * (reward - baseline)).mean()
        loss.backward()  # returns the policy gradient
        baseline += 0.05 * (reward.mean().item() - baseline)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        seen.learn()  # the predictor learns the mean of what was returned
    return baseline


both = play(500)
alone = play(500, coupling="detached")
print(f"mean reward: both learn {both:.2f}, only the actor {alone:.2f}, chance 0.25")
assert both > alone + 0.2
