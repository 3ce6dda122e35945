"""Credit of a split model in words: heads that are the model's own later layers, copied, or small ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.agents.models import MapHead
from antiphon.agents.models import ResNet as PlainResNet
from antiphon.comms import Example
from antiphon.envs import from_tensors
from antiphon.splitting.credit import SiteHead
from tests.contracts.twins import made
from tests.kit.running import predictor_of
from tests.splitting.models import ResNet
from tests.splitting.parts import BATCH, CUTS, gpt, pictures, split_gpt


def example() -> Example:
    numbers = torch.Generator().manual_seed(1)
    message = torch.randn(BATCH, 6 * 8, generator=numbers, dtype=torch.float64)
    return Example(message, None, None, target=torch.randint(0, 7, (BATCH, 6), generator=numbers))


def slope(layers: Any, each: Example) -> Tensor:
    """Per sample, by autograd."""
    message = each.message.clone().requires_grad_()
    assert each.target is not None
    logits = layers(message.unflatten(1, (6, 8)))
    losses = F.cross_entropy(logits.movedim(2, 1), each.target, reduction="none").mean(1)
    return torch.autograd.grad(losses.sum(), message)[0]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("layers", "cut", "chosen"),
    [
        (2, "blocks.1", [2, 3]),
        (9, "blocks.2", [2, 3]),
        (1, "blocks.1", [3]),
    ],
)
def test_a_local_net_starts_as_the_later_blocks_evenly_spaced(
    layers: int, cut: str, chosen: list[int]
) -> None:
    model = gpt(dropout=0.0)
    run = made(split_gpt(model, {"kind": "aug_local", "layers": layers}, [cut]), "cohort")
    model.double().eval()

    def later(x: Tensor) -> Tensor:
        for block in chosen:
            x = model.blocks[block](x)
        logits: Tensor = model.head(model.norm(x))
        return logits

    own, each = predictor_of(run, "part0->part1"), example()
    torch.testing.assert_close(own.predict(each), slope(later, each), rtol=1e-5, atol=1e-8)
    before = [p.detach().clone() for p in own.parameters.values()]
    run.run(steps=1)
    assert not any(torch.equal(p, q) for p, q in zip(before, own.parameters.values(), strict=True))


@pytest.mark.parametrize(
    ("shape", "outputs"), [((6, 8), (6, 7)), ((6, 8), (7,)), ((8, 3, 5), (3, 5, 7))], ids=str
)
def test_a_site_head_is_at_every_site_or_on_their_mean(
    shape: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    env = from_tensors(x=torch.randn(20, *shape), label=torch.randint(7, (20, *outputs[:-1])))
    last = nn.Sequential(nn.Flatten(), nn.LazyLinear(math.prod(outputs)), nn.Unflatten(1, outputs))
    model = nn.Sequential(nn.LayerNorm(shape), last)
    model(torch.randn(2, *shape))
    gradient = {"kind": "local", "target": "label"}
    head = antiphon.split(model, [1], env=env, gradient=gradient).channels[0].gradient.network
    x = torch.randn(2, *shape)
    assert head(x).shape == (2, *outputs)
    assert not head(x).any()
    nn.init.normal_(head.linear.weight)
    found, axis = head(x), len(shape) - 1  # of maps the rows, of tokens the places
    order = torch.randperm(shape[axis - 1])
    again = head(x.index_select(axis, order))
    if outputs == (7,):  # a mean is the same in any order, and of twice the sites
        torch.testing.assert_close(again, found)
        torch.testing.assert_close(head(torch.cat([x, x], axis)), found)
    else:
        torch.testing.assert_close(again, found.index_select(1, order))


@pytest.mark.long
def test_tokens_learn_by_default_through_a_copied_block_or_a_small_head_where_the_last_layers_are_larger() -> (
    None
):
    found = [channel.gradient for channel in split_gpt(gpt(), None, ["blocks.2"]).channels]
    assert {gradient.kind for gradient in found} == {"local"}
    block = sum(p.numel() for p in gpt().blocks[3].parameters())
    assert all(
        sum(p.numel() for p in one.network.parameters()) > block for one in found
    )  # a copy is in the head
    wide = gpt()
    wide.head = nn.Sequential(nn.Linear(8, 200), nn.Linear(200, 7))
    narrow = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.Linear(8, 7))
    small = [
        *split_gpt(wide, None, ["blocks.2"]).channels,
        *split_gpt(narrow, None, [1, 2], inputs={"input": "tokens"}).channels,
    ]
    assert all(isinstance(channel.gradient.network, SiteHead) for channel in small)


@pytest.mark.long
def test_maps_learn_by_default_through_copied_blocks_or_a_small_head() -> None:
    torch.manual_seed(0)
    model = PlainResNet(1, 10, channels=2)
    found = [channel.gradient for channel in antiphon.split(model, CUTS, env=pictures(), batch=4).channels]
    assert {gradient.kind for gradient in found} == {"local"}
    copied = [2, 2, 3]  # the block that changes the shape, or the last one
    sizes = [
        sum(p.numel() for p in (*model.blocks[i].parameters(), *model.head.parameters())) for i in copied
    ]
    assert [sum(p.numel() for p in one.network.parameters()) for one in found] == sizes
    maps = antiphon.split(ResNet(), ["layer2"], env=pictures(), batch=4)  # a cut of no list of blocks
    assert [channel.gradient.network for channel in maps.channels] == [MapHead]


class Masked(nn.Module):
    """Blocks beside which their sum goes on, and a mask behind them: no part of it reads one message."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            x = x + layer(x)
        summed: Tensor = (x * mask[..., None]).mean(1)
        return self.classifier(summed)  # type: ignore[no-any-return]


def test_where_the_last_layers_read_more_than_one_message_every_channel_has_a_small_head() -> None:
    env = from_tensors(x=torch.rand(20, 3, 4), mask=torch.ones(20, 3), y=torch.arange(20) % 2)
    found = antiphon.split(Masked(), at=["layer.1", "layer.2"], env=env, objective="y").channels
    assert len(found) == 2
    assert all(isinstance(channel.gradient.network, SiteHead) for channel in found)
