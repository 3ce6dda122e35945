"""Watch one's own Gymnasium environment: an eye sees where the cart is, a hand acts on the eye's messages."""

from pathlib import Path

import gymnasium
import numpy as np

import antiphon


class Cart(gymnasium.Env):
    """Keep the cart at zero against a wind, which the observation shows beside its position."""

    observation_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)  # left, stay, right

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.seen = 0, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.seen.copy(), {}

    def step(self, action):
        self.steps += 1
        self.seen[0] = np.clip(self.seen[0] + 0.3 * (action - 1) + 0.1 * self.seen[1], -2, 2)
        return self.seen.copy(), -abs(float(self.seen[0])), False, self.steps == 20, {}


antiphon.envs.register("Cart", Cart)
hand = {"objective": {"kind": "regression", "target": "reward"}, "acts": True}
agents = {"eye": {"observes": ["observation"]}, "hand": hand}
channels = [{"from": "eye", "to": "hand", "size": 8, "gradient": {"kind": "mlp", "hidden": [32]}}]
scenario = antiphon.Scenario(
    scenario="cart", env={"id": "Cart"}, agents=agents, channels=channels, telemetry={"every": 20}
)
with antiphon.Simulation(scenario, seed=0, logdir="runs/cart") as simulation:
    simulation.run(steps=600)
    steps, returns = simulation.history.of("", "episode_return")
print(f"return of an episode: {returns[0]:.1f} at step {steps[0]}, {returns[-1]:.1f} at step {steps[-1]}")
assert returns[0] / 3 < returns[-1] < 0  # the closer to zero, the better
assert list(Path("runs/cart").glob("events.out.tfevents.*"))
print("antiphon tb runs/cart  # Scalars: env/episode_return; Channels: eye->hand, step by step")
