"""The plain-torch models of the library scenarios."""

from __future__ import annotations

import pytest
import torch

from antiphon.agents.models import GPT, ResNet

TOKENS = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))


def test_a_place_of_the_gpt_depends_on_nothing_that_follows() -> None:
    model = GPT(11, 8, blocks=2, width=12, heads=3).eval()
    changed = TOKENS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    before, after = model(TOKENS), model(changed)
    assert before.shape == (3, 8, 11)
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=0)
    assert all((before[:, place] - after[:, place]).abs().max() > 1e-4 for place in range(5, 8))
    assert model(TOKENS[:, :4]).shape == (3, 4, 11)


def test_dropout_is_of_training_alone() -> None:
    model = GPT(11, 8, blocks=1, width=12, heads=3, dropout=0.5)
    assert torch.equal(model.eval()(TOKENS), model(TOKENS))
    assert not torch.equal(model.train()(TOKENS), model(TOKENS))


@pytest.mark.parametrize("stages", [(2, 2), (1,), (1, 2, 1)])
def test_stages_of_the_residual_network_double_their_channels(stages: tuple[int, ...]) -> None:
    model = ResNet(3, 5, channels=4, stages=stages)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    expected = [(4 * 2**k, 8 // 2**k, 8 // 2**k) for k, count in enumerate(stages) for _ in range(count)]
    assert shapes == expected


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_the_embedding(tied: bool) -> None:
    model = GPT(11, 8, blocks=1, width=12, heads=3, tied=tied)
    assert (model.head.weight is model.tokens.weight) == tied
