"""A study of communication in your own PettingZoo environment: who learns to speak, what is said, and which messages earn return."""

import numpy as np
import pettingzoo
from gymnasium.spaces import Box, Discrete

import antiphon
from antiphon.inspection.ablation import ablate
from antiphon.inspection.language import language

SEEN = {"lookout": Discrete(4), "gauge": Box(-1, 1, (4,), np.float32), "pilot": Discrete(2)}


class Harbour(pettingzoo.ParallelEnv):
    """Half the reward is for the free berth, which a lookout sees, half for sails by flag and wind, first of a gauge's numbers."""

    possible_agents = tuple(SEEN)

    def observation_space(self, agent):
        return SEEN[agent]

    def action_space(self, agent):
        return Discrete(8 if agent == "pilot" else 1)  # four berths, sails up or down

    def reset(self, seed=None, options=None):
        self.random = self.random if seed is None else np.random.default_rng(seed)
        values = self.random.integers(4), self.random.uniform(-1, 1, 4), self.random.integers(2)
        self.seen, self.agents = dict(zip(SEEN, values, strict=True)), list(SEEN)
        return self.seen, {agent: {} for agent in SEEN}

    def step(self, actions):
        berth, sails = divmod(int(actions["pilot"]), 2)
        turned = (self.seen["gauge"][0] > 0) ^ self.seen["pilot"]
        reward = 0.5 * (berth == self.seen["lookout"]) + 0.5 * (sails == turned)
        self.agents = []  # an episode has one step
        return self.seen, *(dict.fromkeys(SEEN, value) for value in (reward, True, False, {}))


def harbour(coupling="decoupled", gradient="ridge") -> antiphon.Scenario:
    slow, fast = ({"optimiser": {"kind": "adam", "lr": lr}, "clock": {"unroll": 4}} for lr in (3e-3, 1e-2))
    network = {"kind": "mlp", "hidden": [32], "norm": "none"}
    policy = {"objective": {"kind": "ppo", "discount": 0.0, "entropy": 0.1}, "network": network}
    agents, channels = {"pilot": {"observes": ["pilot.observation"], "acts": "pilot", **policy, **slow}}, []
    for name, sent in ("lookout", {"sample": {"kind": "gumbel", "vocabulary": 8}}), ("gauge", {"size": 2}):
        seen = [f"{name}.observation"]
        agents[name] = {"observes": seen, "network": {**network, "hidden": []}, **fast}
        learned = {"kind": gradient, **({"target": seen[0]} if gradient == "local" else {})}
        channels.append({"from": name, "to": "pilot", "coupling": coupling, "gradient": learned, **sent})
    return antiphon.Scenario(scenario="harbour", env={"id": "Harbour"}, agents=agents, channels=channels)


antiphon.envs.register("Harbour", Harbour)
cases = {c: {"coupling": c} for c in ("locked", "decoupled", "detached")} | {"local": {"gradient": "local"}}
table = antiphon.study(harbour, variants=cases, steps=400, seeds=5, logdir="runs/harbour")
print(table)
with antiphon.Simulation.load("runs/harbour/decoupled-s0", scenario=harbour()) as run:
    print(ablate(run, "resample", episodes=8))
    share = language(run)["lookout->pilot"].information_share["lookout.observation"]
    weights = run.agents["gauge"].parameters["to_pilot.weight"].detach().norm(dim=0)
print(f"symbols tell {share:.0%} of the berth; weights of the gauge's numbers: {weights.numpy().round(1)}")
assert table.to_pandas()["mean"].diff()[2] < -0.1  # detached is worse than decoupled
