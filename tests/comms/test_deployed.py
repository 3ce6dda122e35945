"""A synthetic input that is deployed uses the statistics it has gathered, whoever is in the batch."""

from __future__ import annotations

import torch

from antiphon.comms.model import ContextSpec
from antiphon.comms.synthetic_inputs import MlpInput
from antiphon.nets.optimisers import Rate


def test_what_it_expects_of_a_sample_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    model = MlpInput(
        3,
        [ContextSpec("x", (4,))],
        generator=torch.Generator().manual_seed(1),
        optimiser={"kind": "adam"},
        rate=Rate(base=0.01, horizon=1),
        hidden=(8,),
    )
    for _ in range(5):
        x = 2 + torch.randn(32, 4)
        _, gradients = model.gradients([(x, x[:, :3], None)])
        model.step(gradients, 0)
    x = torch.randn(6, 4)
    deployed = model.predict(x, 6, training=False)
    assert torch.allclose(model.predict(x[:2], 2, training=False), deployed[:2], atol=1e-6)
    assert not torch.allclose(model.predict(x[:2], 2), model.predict(x, 6)[:2], atol=1e-3)
