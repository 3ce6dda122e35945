"""A thousand agents, four thousand channels: built, trained for three epochs and evaluated, with progress."""

import time

import networkx as nx
import torch

import antiphon

torch.manual_seed(0)
x = torch.randn(640, 8)
env = antiphon.envs.from_tensors(x=x, target=x[:, :2].prod(1, keepdim=True), training_only=["target"])

start = time.process_time()
graph = nx.MultiDiGraph(nx.random_regular_graph(4, 1000, seed=0))  # each edge in both directions
goal = {"kind": "regression", "target": "target"}
for agent in graph.nodes.values():
    agent.update(observes=["x"], network={"kind": "mlp", "hidden": [16]}, objective=goal)
for channel in graph.edges.values():
    channel.update(size=8, link={"delay": 1}, gradient={"kind": "linear"})
scenario = antiphon.Scenario.from_graph(graph, env=env, batch=64)
simulation = antiphon.Simulation(scenario, seed=0)  # building and evaluating show progress
print(f"{len(scenario.agents)} agents and {len(scenario.channels)} channels")
print(f"made, checked and built in {time.process_time() - start:.1f} s of CPU time")

losses = [
    sum(simulation.step()["losses"].values()) / 1000 for _ in range(21)
]  # an epoch of 448 examples is 7 steps
first, third = sum(losses[:7]) / 7, sum(losses[14:]) / 7
score = simulation.evaluate()
print(
    f"mean loss of the first epoch {first:.3f}, of the third {third:.3f}, of the test split {score.loss:.3f}"
)
assert (len(score.agents), len(scenario.channels)) == (1000, 4000)
assert third < first
simulation.close()
