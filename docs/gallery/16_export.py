"""Train a policy by a document that names only its world, and use it without antiphon."""

import gymnasium
import torch

import antiphon

player = {"observes": ["observation"], "acts": True, "objective": "ppo"}
scenario = antiphon.Scenario(scenario="pole", env={"id": "gymnasium/CartPole-v1"}, agents={"player": player})
with antiphon.Simulation(scenario.with_training(batch=16, steps=3_000)) as simulation:
    simulation.run()
    state = simulation.compose().silence(1)
    simulation.export("player.pt2")

system = torch.export.load(
    "player.pt2"
).module()  # a call is a step: observations and state in, logits and state out
world = gymnasium.make("CartPole-v1")
observation, _ = world.reset(seed=0)
total, ended = 0.0, False
while not ended:
    outputs, state = system({"observation": torch.as_tensor(observation)[None, None]}, state)
    action = outputs["player"][0].argmax(1)  # of one environment, [1]
    observation, reward, terminated, truncated, _ = world.step(int(action))
    total, ended = total + float(reward), terminated or truncated
print(f"return {total:.0f}")
assert total > 150
