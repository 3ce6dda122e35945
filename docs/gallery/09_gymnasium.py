"""Act in one's own Gymnasium environment: an eye sees where the cart is, a hand learns from rewards what to do about it."""

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

    def state_dict(self):  # so that a run can be resumed
        return {"steps": self.steps, "seen": self.seen.tolist(), "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state):
        self.steps, self.seen = state["steps"], np.array(state["seen"], np.float32)
        self.np_random.bit_generator.state = state["random"]


antiphon.envs.register("Cart", Cart)
hand = {"objective": {"kind": "ppo"}, "acts": True, "clock": {"unroll": 10}}
channel = {"from": "eye", "to": "hand", "size": 8, "gradient": {"kind": "mlp", "context": ["observation"]}}
agents = {"eye": {"observes": ["observation"], "clock": {"unroll": 10}}, "hand": hand}
scenario = antiphon.Scenario(scenario="cart", env={"id": "Cart"}, agents=agents, channels=[channel])
with antiphon.Simulation(scenario, seed=0, logdir="runs/cart") as simulation:
    simulation.run(steps=800)
    policy, env = simulation.policy(), Cart()  # what has been learned, in Gymnasium's own loop
observation, total, ended = env.reset(seed=1)[0], 0.0, False
while not ended:
    observation, reward, _, ended, _ = env.step(policy.act(observation))
    total += reward
assert -4 < total < 0  # the closer to zero, the better; left alone it is -19
print(f"return of an episode: {total:.1f}; how it was learned: antiphon tb runs/cart")
