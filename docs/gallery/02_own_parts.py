"""Bring a module with attention, a loss and a predictor of gradients."""

import networkx as nx
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import antiphon


class Rows(nn.Module):
    """Attention over the rows of half an image, 8 of 4 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reads, self.out = nn.Linear(4, 12), nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 8, 4)
        read = scaled_dot_product_attention(*self.reads(rows).chunk(3, dim=2))
        return self.out((rows + read).flatten(1))


def smoothed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return cross_entropy(output, target, reduction="none", label_smoothing=0.1)  # a loss per sample


def predictor(inputs: int, outputs: int) -> nn.Module:
    last = nn.Linear(32, outputs).apply(lambda layer: nn.init.zeros_(layer.weight))
    return nn.Sequential(nn.Linear(inputs, 32), nn.Tanh(), last)


graph = nx.DiGraph()
graph.add_node("mind", objective={"kind": smoothed, "target": "label"})
for side in ("left", "right"):
    graph.add_node(side, network=Rows, observes=[f"{side}_half"])
    graph.add_edge(side, "mind", size=16, gradient={"kind": predictor, "context": ["label"]})
scenario = antiphon.Scenario.from_graph(graph, env={"id": "antiphon/Digits-v0"})
with antiphon.Simulation(scenario) as simulation:
    simulation.run(steps=500)
    score = simulation.evaluate()
print(score)
assert score.agents["mind"]["error"] < 0.8  # 2.3 by chance, 0.5 at best
