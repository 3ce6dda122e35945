"""Heads of local losses: auxiliary networks from a message in its own shape to outputs for a target.

Local losses with auxiliary networks replace the returned gradient in Nøkland & Eidnes 2019 ("Training Neural Networks with
Local Error Signals", 1901.06656) and Belilovsky et al. 2019, 2020 ("Greedy Layerwise Learning Can Scale to ImageNet",
1812.11446; "Decoupled Greedy Learning of CNNs", 1901.08164). AugLocal initialises them from copies of the model's own
later layers (Ma et al. 2024, 2402.17318).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from antiphon.base.errors import ScenarioError
from antiphon.comms.examples import ContextSpec
from antiphon.nets.modules import check_module
from antiphon.nets.user_modules import module_of

HeadSource = Callable[..., nn.Module] | nn.Module


def output_shape(target: ContextSpec) -> tuple[int, ...]:
    """Return the shape of a head's output for a target: [*S, classes], or the shape of a float target."""
    return target.shape if target.classes is None else (*target.shape, target.classes)


class PredictorHead(nn.Module):
    """Wrap a module that reads messages in their own shape for flat rows: [B, M] to [B, outputs].

    It runs in evaluation mode, so that nothing is random, but batch norms use the statistics of the batch.

    Args:
        shape: Shape of a message.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs] of [B, M]."""
        outputs: Tensor = self.module(x.reshape(*x.shape[:-1], *self.shape))
        return outputs.flatten(1)

    def train(self, mode: bool = True) -> PredictorHead:
        """Set batch norms to `mode`, all other modules to evaluation."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(mode)
        return self


def head_of(
    source: HeadSource,
    shape: tuple[int, ...],
    outputs: tuple[int, ...],
    seed: int,
) -> PredictorHead:
    """Return a head from a copy of a module, or from a factory called with `shape` and `outputs`.

    Args:
        shape: Shape of a message.
        outputs: Shape of the head's output for one message.
        seed: Seed of the random state under which a factory samples its initial parameters.

    Raises:
        ScenarioError: The head does not fit; the line begins with the key `gradient.network`.
    """
    try:
        module = module_of(source, seed, shape=shape, outputs=outputs)
        size, features = torch.Size(shape).numel(), torch.Size(outputs).numel()
        head = PredictorHead(module, shape)
        check_module(head, size, features, f"outputs of {list(outputs)} for messages of {list(shape)}")
    except ScenarioError as error:
        raise ScenarioError(f"gradient.network: {error}") from None
    return head
