"""Where a model can be cut, parts of equal cost, and the example that a model is traced on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import antiphon
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


def test_what_cannot_be_cut_is_listed_with_the_reason() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x.transpose(0, 1))).transpose(0, 1))

    cut = {cut.name: cut for cut in antiphon.cuts(Transposed(), torch.randn(2, 3, 4))}
    assert "only float tensors [batch, …] cross" in cut["b"].problem
    assert not cut["c"].problem


class Widened(nn.Module):
    """Most of its operations are products that its own forward computes."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Parameter(torch.rand(7, 70))
        self.first, self.second, self.third = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return self.third(nn.functional.linear((y @ self.wide).relu_(), self.wide))


def test_what_a_forward_computes_by_functions_has_a_cost() -> None:
    found = antiphon.cuts(Widened(), torch.rand(2, 7))
    total = 7 * 7 * 2 + 7 * 70 * 2 + 7 * 5
    expected = [7 * 7 / total, (total - 7 * 5) / total]
    assert {cut.name: cut.share for cut in found} == pytest.approx(
        dict(zip(("second", "third"), expected, strict=True))
    )


@pytest.mark.long
@pytest.mark.parametrize(("count", "largest"), sampled([(3, 3), (1, 5)], 2, "nightly"))
def test_a_number_of_parts_makes_their_costs_about_equal(count: int, largest: int) -> None:
    """All but the last part compute a copy of a block too."""
    scenario = split_text(Logits(blocks=5), count)
    keys = [dict(agent.network.named_parameters()) for agent in scenario.agents.values()]
    blocks = [sum(key.endswith("ln1.weight") for key in part) for part in keys]
    assert sum(blocks) == 5
    assert max(*(own + 1 for own in blocks[:-1]), blocks[-1], 0) == largest


def test_attention_and_layers_of_transformers_have_a_cost() -> None:
    """In evaluation torch computes each by one operation, of which no cost is known."""
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(4)]
    shares = [cut.share for cut in antiphon.cuts(nn.Sequential(*layers), torch.rand(2, 3, 8))]
    assert shares == pytest.approx([0.25, 0.5, 0.75])

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    model = nn.Sequential(nn.Linear(8, 8), Attention(), nn.Linear(8, 8))
    multiplied = [32 * 8 * 8, 2 * 32 * 32 * 8, 32 * 8 * 8]
    expected = [sum(multiplied[:end]) / sum(multiplied) for end in (1, 2)]
    assert [cut.share for cut in antiphon.cuts(model, torch.rand(2, 32, 8))] == pytest.approx(expected)


@pytest.mark.long
def test_a_chain_of_parts_is_split() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    first, last = nn.Flatten(1, 2), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    scenario = antiphon.split(
        parts=[nn.Sequential(first, encoder.layers[0]), encoder.layers[1], last], env=pictures()
    )
    assert [channel.size for channel in scenario.channels] == [(8, 8), (8, 8)]
    with antiphon.Simulation(scenario) as run:
        run.run(steps=2)
        joined = antiphon.join(run)
    assert isinstance(joined, nn.Sequential)
    assert isinstance(joined[1], nn.TransformerEncoderLayer)


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


def test_two_readers_of_a_tensor_share_a_port() -> None:
    class Fan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 4), nn.Linear(4, 4), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x.flatten(1))
            return self.c(self.b(x)) + self.c.bias.sum() * x.sum(1, keepdim=True)

    scenario = antiphon.split(Fan(), ["b", "c"], env=pictures())
    assert {channel.name: channel.port for channel in scenario.channels} == {
        "part0->part1": "a",
        "part0->part2": "a",
        "part1->part2": None,
    }


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Wrapped(nn.Module):
    """A model around a model around a list of blocks, as transformers have it; and one around a single block."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.single = Block()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.single(self.backbone(x)))
        return found


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 6)
        self.layer = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.layer:
            x = block(x)
        return x


@pytest.mark.long
def test_blocks_are_found_within_what_is_around_them() -> None:
    found = antiphon.cuts(Wrapped(), torch.randn(2, 6))
    blocks = [f"backbone.layer.{i}" for i in range(4)]
    assert [cut.name for cut in found] == [*blocks, "single", "head"]


def test_blocks_within_what_cannot_be_traced_stay_whole() -> None:
    class Routing(Backbone):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > 0 else x

    model = Wrapped()
    model.backbone = Routing()
    assert [cut.name for cut in antiphon.cuts(model, torch.randn(2, 6))] == ["single", "head"]


class Timed(nn.Sequential):
    """A sequence whose layers are called with more than their input."""

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        for layer in self:
            x = layer(x) * scale
        return x


def test_blocks_of_a_sequence_with_a_forward_of_its_own_are_listed() -> None:
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Timed(block(), block(), block())

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    found = [cut.name for cut in antiphon.cuts(Model(), torch.rand(3, 4))]
    assert {"net.1", "net.2"} <= set(found)
