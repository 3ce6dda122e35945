"""Channels: messages, links, and the synthetic gradients returned on them.

They work in any training loop. Here three networks learn to classify, each with its own optimiser, and no network
waits for the one above it (Jaderberg et al. 2017)::

    import torch
    from torch import nn
    from antiphon import comms

    eye = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU())
    mind = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())
    voice = nn.Linear(32, 4)
    seen = comms.Channel(32, context={"label": 4}, name="seen")
    thought = comms.Channel(32, context={"label": 4}, name="thought")
    optimisers = [torch.optim.Adam(network.parameters(), lr=1e-3) for network in (eye, mind, voice)]

    for image, label in batches:
        seen.send(eye(image), label=label)
        thought.send(mind(seen.receive()), label=label)
        loss = nn.functional.cross_entropy(voice(thought.receive()), label)

        comms.learn(None, eye.parameters(), sent=[seen])  # sets the gradients; in any order
        comms.learn(None, mind.parameters(), received=[seen], sent=[thought])
        comms.learn(loss, voice.parameters(), received=[thought])
        for optimiser in optimisers:
            optimiser.step()
        seen.learn()
        thought.learn()

`context` is the predictor's input beside the message, `gradient` its kind ("linear", "mlp", "conv", "sobolev",
"local", ...). With `coupling="detached"` no gradient is returned. Critics ("sobolev") learn from the loss of each sample:
pass `learn` an objective [B]. All predictions are made when the message is sent, before any update of the step.
Only the simulator has delay, clocks and lossy links.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.base.mask import Mask
    from antiphon.comms.couplings import Coupling, CreditedMessage, ReadKind
    from antiphon.comms.examples import Example
    from antiphon.comms.gradient_alignment import alignment
    from antiphon.comms.loop.learn import learn
    from antiphon.comms.loop.loop_channel import Channel
    from antiphon.comms.synthetic_gradients import Predictor

__all__ = [
    "Channel",
    "Coupling",
    "CreditedMessage",
    "Example",
    "Mask",
    "Predictor",
    "ReadKind",
    "alignment",
    "learn",
]
_FROM = {
    "Channel": "loop.loop_channel",
    "Coupling": "couplings",
    "Example": "examples",
    "Mask": "examples",
    "Predictor": "synthetic_gradients",
    "ReadKind": "couplings",
    "CreditedMessage": "couplings",
    "alignment": "gradient_alignment",
    "learn": "loop.learn",
}
"""The modules of the public names. They import torch, which `couplings` is read without."""


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(f"antiphon.comms.{_FROM[name]}"), name)
    raise AttributeError(f"module 'antiphon.comms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
