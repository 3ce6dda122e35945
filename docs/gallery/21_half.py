"""A coupling of your own: senders wait for the returned gradient at first, and go over to the predicted one."""

import torch

import antiphon
from antiphon.comms import Coupling


@antiphon.coupling("half")
class Half(Coupling):
    """A mixture of returned and predicted gradient, whose share of the returned one falls to 0."""

    predicts = uses_returned = waits = True

    class Options(antiphon.Options):
        """Keys of `half`.

        Attributes:
            steps: Steps until the returned gradient is no longer used, nor waited for.
        """

        steps: int = 150

    def __init__(self, steps=150):
        self.steps = steps

    def waits_for(self, stamp, step):
        return stamp < self.steps

    def credit(self, message, step):
        share = max(0.0, 1 - step / self.steps)
        if share == 0 or message.returned_gradient is None or message.applied_prediction is None:
            return message.applied_prediction
        return torch.lerp(message.applied_prediction, message.returned_gradient, share)


def losses(coupling):
    """Test losses after 150, 300, 450 and 600 steps: messages and gradients take eight steps, except where locked."""
    channel = {"size": 32, "coupling": coupling, "link": {"delay": 0 if coupling == "locked" else 8}}
    if coupling in ("decoupled", "half"):
        channel["gradient"] = {"kind": "linear", "context": ["label"]}
    if coupling in ("delayed", "half"):
        channel["horizon"] = 64
    network, aligned = {"kind": "mlp", "hidden": [64], "norm": "batch"}, coupling != "locked"
    goal = {"kind": "classification", "target": "label"}
    mid, mind = ({"network": network, "align": aligned} | own for own in ({}, {"objective": goal}))
    scenario = antiphon.Scenario(
        scenario="half",
        env={"id": "antiphon/Digits-v0"},
        agents={"eye": {"observes": ["image"], "network": network}, "mid": mid, "mind": mind},
        channels=[{"from": s, "to": r, **channel} for s, r in (("eye", "mid"), ("mid", "mind"))],
        training={"batch": 64, "steps": 600, "optimiser": {"kind": "sgd", "lr": 0.05}},
    )
    with antiphon.Simulation(scenario) as simulation:
        for _ in range(4):
            simulation.run(150, progress=False)
            yield simulation.evaluate().agents["mind"]["loss"]


table = {name: list(losses(name)) for name in ("locked", "delayed", "decoupled", "half")}
for name, found in table.items():
    print(f"{name:10}", *(f"{loss:.3f}" for loss in found))
for early, late, half in zip(table["delayed"], table["decoupled"], table["half"], strict=True):
    assert half < 1.3 * min(early, late)
