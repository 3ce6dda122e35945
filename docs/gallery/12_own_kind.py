"""Add a kind of synthetic gradient with two keys of its own; use it from YAML and Python, misspell one, resume the run."""

from torch import nn

import antiphon


@antiphon.gradient("bounded")
class Bounded(nn.Sequential):
    """A gradient of at most `bound` in every component, by one hidden layer."""

    class Options(antiphon.Options):
        """Hidden units, and the largest component."""

        width: int = 32
        bound: float = 1.0

    def __init__(self, inputs: int, outputs: int, width: int, bound: float) -> None:
        super().__init__(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs), nn.Hardtanh(-bound, bound)
        )


document = """
scenario: own-kind
env: {id: antiphon/Digits-v0}
agents: {eye: {observes: [image]}, mind: {objective: {kind: classification, target: label}}}
channels: [{from: eye, to: mind, size: 16, gradient: {kind: bounded, width: 64, context: [label]}}]
"""
with antiphon.Simulation(antiphon.Scenario.from_yaml(document), logdir="runs/own-kind") as simulation:
    simulation.run(steps=200)
with antiphon.Simulation.resume("runs/own-kind") as resumed:
    resumed.run(steps=200)
    print(f"step {resumed.now}: {resumed.evaluate()}")
assert antiphon.comms.Channel(16, gradient={"kind": "bounded", "bound": 0.5}, context={"label": 10})
try:
    antiphon.Scenario.from_yaml(document.replace("width", "widht"))
except antiphon.ScenarioError as error:
    print(error)
