"""Train a policy by a document that names only its world, and use it without antiphon."""

import gymnasium
import torch

import antiphon

player = {"observes": ["observation"], "acts": True, "objective": "ppo"}
scenario = antiphon.Scenario(scenario="pole", env={"id": "gymnasium/CartPole-v1"}, agents={"player": player})
with antiphon.Simulation(scenario.with_training(batch=16, steps=1_500)) as simulation:
    simulation.run()
    simulation.export("player.pt2", actions="greedy")

policy = torch.export.load("player.pt2").module()  # from observation [batch, 4] to action [batch]
world = gymnasium.make("CartPole-v1")
observation, _ = world.reset(seed=0)
total, ended = 0.0, False
while not ended:
    action = policy({"observation": torch.as_tensor(observation)[None]})
    observation, reward, terminated, truncated, _ = world.step(int(action[0]))
    total, ended = total + float(reward), terminated or truncated
print(f"return {total:.0f}")
assert total > 150
