"""The plain-torch models of the library scenarios."""

from __future__ import annotations

import torch

from antiphon.agents.models import GPT

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
