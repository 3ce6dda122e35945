"""Channels: messages, links, and the synthetic gradients returned on them.

They work in any training loop (Jaderberg et al. 2017)::

    import torch
    from torch import nn
    from antiphon import comms

    eye, mind = nn.Linear(20, 32), nn.Linear(32, 4)
    adam = torch.optim.Adam([*eye.parameters(), *mind.parameters()], lr=1e-3)
    channel = comms.Channel(32, context={"label": 4})

    for image, label in batches:
        channel.send(eye(image), label=label)
        loss = nn.functional.cross_entropy(mind(channel.receive()), label)
        (loss + channel.credit()).backward()
        adam.step()
        adam.zero_grad()
        channel.learn()

`context` is the predictor's input beside the message, `gradient` its kind ("linear", "mlp", "conv", "sobolev",
"local", ...). Only the simulator has delay, clocks and lossy links.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.comms.channel import Channel
    from antiphon.comms.couplings import Coupling, CreditedMessage, ReadKind
    from antiphon.comms.examples import Example
    from antiphon.comms.gradient_alignment import alignment
    from antiphon.comms.predictors import Predictor
    from antiphon.nets.mask import Mask

__all__ = [
    "Channel",
    "Coupling",
    "CreditedMessage",
    "Example",
    "Mask",
    "Predictor",
    "ReadKind",
    "alignment",
]
_FROM = {
    "channel": "Channel",
    "couplings": "Coupling CreditedMessage ReadKind",
    "examples": "Example Mask",
    "gradient_alignment": "alignment",
    "predictors": "Predictor",
}
"""The public names by module. Most import torch, which `couplings` is read without."""


def __getattr__(name: str) -> Any:
    for module, names in _FROM.items():
        if name in names.split():
            return getattr(import_module(f"antiphon.comms.{module}"), name)
    raise AttributeError(f"module 'antiphon.comms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
