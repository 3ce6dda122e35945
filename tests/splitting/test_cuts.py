"""Where a model can be cut, parts of equal cost, and the example that a model is traced on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.envs import from_tensors
from tests.kit.tiers import sampled
from tests.splitting.models import ARCHITECTURES, Logits, UNet
from tests.splitting.parts import pictures, split_of, split_text


def test_cuts_are_in_the_order_of_the_forward_with_what_would_cross() -> None:
    found = antiphon.cuts(UNet(), torch.randn(2, 1, 8, 8))
    assert [cut.name for cut in found] == ["down2", "bottom", "up1", "up2", "out"]
    assert list(found[3].tensors.values()) == [(3, 8, 8), (3, 4, 4)]
    assert found[3].size == 4 * (3 * 64 + 3 * 16)
    assert [cut.share for cut in found] == sorted(cut.share for cut in found)
    assert str(found).splitlines()[0].startswith("cut before")
    assert "up1 [3, 4, 4]" in str(found)


def test_layers_of_torch_s_transformer_can_be_cut_whose_forward_asks_other_sizes_in_evaluation() -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Transformer(8, 2, 2, 1, 16, dropout=0.0, batch_first=True)
            self.out = nn.Linear(8, 2)

        def forward(self, source: Tensor, given: Tensor) -> Tensor:
            return self.out(self.layers(source, given))

    env = from_tensors(
        source=torch.randn(8, 5, 8), given=torch.randn(8, 6, 8), label=torch.randint(2, (8, 6))
    )
    scenario = antiphon.split(Transformer(), ["layers.encoder.layers.1", "layers.decoder"], env=env)
    assert [channel.size for channel in scenario.channels] == [(5, 8), (5, 8)]


@pytest.mark.long
@pytest.mark.parametrize(("count", "largest"), sampled([(3, 3), (1, 5)], 2, "nightly"))
def test_a_number_of_parts_makes_their_costs_about_equal(count: int, largest: int) -> None:
    """All but the last part compute a copy of a block too."""
    scenario = split_text(Logits(blocks=5), count)
    keys = [dict(agent.network.named_parameters()) for agent in scenario.agents.values()]
    blocks = [sum(key.endswith("ln1.weight") for key in part) for part in keys]
    assert sum(blocks) == 5
    assert max(*(own + 1 for own in blocks[:-1]), blocks[-1], 0) == largest


def test_what_crosses_goes_straight_to_its_reader_and_masks_tables_and_inputs_are_not_sent() -> None:
    unet = antiphon.split(UNet(), ["bottom", "up2"], env=pictures())
    assert {(c.sender, c.receiver): c.size for c in unet.channels} == {
        ("part0", "part1"): (4, 2, 2),
        ("part0", "part2"): (3, 8, 8),
        ("part1", "part2"): (3, 4, 4),
    }
    rotary = split_of(ARCHITECTURES["rotary"], ("first", "second", "head"))
    assert [agent.observes for agent in rotary.agents.values()] == [("in_idx",)] * 3 + [()]
    assert [(c.receiver, c.size) for c in rotary.channels] == [
        ("part1", (6, 8)),
        ("part2", (6, 8)),
        ("part2", (6, 8)),
        ("part3", (6, 8)),
    ]
