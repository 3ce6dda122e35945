"""Targets come back over channels, in place of gradients: difference target propagation (Lee et al. 2015)."""

import torch
from torch.nn import Linear

import antiphon
from antiphon.comms import Coupling


class Differences(torch.autograd.Function):
    """y, which returns to x how far a target of y is from it after the inverse, g(y) - g(target), in place of a gradient."""

    @staticmethod
    def forward(ctx, x, y, inverse):
        ctx.save_for_backward(y, inverse)
        return y.clone()

    @staticmethod
    def backward(ctx, away):
        y, inverse = ctx.saved_tensors
        return (y.tanh() - (y - away).tanh()) @ inverse.T, away, None


class Layer(torch.nn.Module):
    """A layer with an inverse, whose loss is the error in the layer's input."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = Linear(inputs, outputs)
        self.inverse = Linear(outputs, inputs, bias=False)

    def forward(self, x):
        y = self.layer(x.detach().tanh())
        loss = (self.inverse(y.detach().tanh()) - x.detach()).square().sum(1)
        return Differences.apply(x, y, self.inverse.weight.T), loss


@antiphon.coupling("target")
class Target(Coupling):
    """The sender moves what it would send now, not what it sent, to the target: what was sent, less what has come back."""

    uses_returned = waits = True

    def credit(self, message, step):
        return None if (back := message.returned_gradient) is None else message.now - (message.sent - back)


def targets(coupling):
    """Messages, and what comes back, take eight steps, except where locked."""
    aligned = {"align": coupling != "locked"}
    channel = {"size": 32, "coupling": coupling, "link": {"delay": 8 * aligned["align"]}, "horizon": 64}
    channel["gradient"] = {"context": ["label"]}
    mid = {"network": Layer, "objective": "own_loss"} if coupling == "target" else {}
    mind = {"objective": {"kind": "classification", "target": "label"}}
    return antiphon.Scenario(
        scenario="targets",
        env={"id": "antiphon/Digits-v0"},
        agents={"eye": {"observes": ["image"]}, "mid": mid | aligned, "mind": mind | aligned},
        channels=[{"from": s, "to": r, **channel} for s, r in (("eye", "mid"), ("mid", "mind"))],
        training={"batch": 64, "steps": 600, "optimiser": {"kind": "sgd", "lr": 0.05}},
        readout=["mind"],
    )


couplings = {"coupling": ["locked", "delayed", "decoupled", "target"]}
print(table := antiphon.study(targets, grid=couplings, seeds=3, logdir="runs/targets"))
assert table.to_pandas()["mean"].iloc[-1] > 0.97
