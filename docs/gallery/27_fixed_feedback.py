"""Gradients that go back through fixed weights: feedback alignment, direct feedback alignment, kickback."""

import torch
from torch.nn.functional import one_hot

import antiphon

WIDTH = 32


class Feedback(torch.autograd.Function):
    """y, whose gradient goes back to x through a fixed matrix, [outputs, inputs]."""

    @staticmethod
    def forward(ctx, y, x, fixed):
        ctx.save_for_backward(fixed)
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient @ ctx.saved_tensors[0], None


class Layer(torch.nn.Module):
    """A map of the last message that it reads; the gradient goes back through it, or to all messages through fixed weights."""

    def __init__(self, inputs, outputs, feedback):
        super().__init__()
        self.map, self.feedback = torch.nn.Linear(WIDTH, outputs), feedback
        fixed = torch.ones(outputs, inputs) if feedback == "kickback" else torch.randn(outputs, inputs)
        self.register_buffer("fixed", fixed / inputs**0.5)

    def forward(self, x):
        h = x.tanh()
        y = self.map((h if self.feedback == "locked" else h.detach())[:, -WIDTH:])
        return y if self.feedback == "locked" else Feedback.apply(y, h, self.fixed)


def squared_error(output, label):
    return (output - one_hot(label, 10)).square().sum(1)


def feedback(kind):
    """With `dfa` and `kickback` the error of the mind goes straight back to the eye, past the mid."""
    layer = {"network": {"kind": Layer, "feedback": kind}}
    message = {"size": WIDTH, "norm": "none", "port": "h"}
    direct = {("eye", "mid"): "detached", ("eye", "mind"): "locked"} if kind in ("dfa", "kickback") else {}
    ways = {("eye", "mid"): "locked", ("mid", "mind"): "locked", **direct}
    return antiphon.Scenario(
        scenario="feedback",
        env={"id": "antiphon/Digits-v0"},
        agents={
            "eye": {"observes": ["image"], "network": {"kind": "mlp", "hidden": []}},
            "mid": layer,
            "mind": layer | {"objective": {"kind": squared_error, "target": "label"}},
        },
        channels=[{"from": s, "to": r, "coupling": way, **message} for (s, r), way in ways.items()],
        training={"batch": 64, "steps": 600, "optimiser": {"kind": "adam", "lr": 0.003}},
    )


kinds = {"kind": ["locked", "fa", "dfa", "kickback"]}
print(table := antiphon.study(feedback, grid=kinds, seeds=3, logdir="runs/feedback"))
assert table.to_pandas()["mean"].iloc[:3].max() < 0.25
