"""Where a model can be cut, parts of equal cost, and the example that a model is traced on."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import Simulation
from tests.engine.numbers import one_line
from tests.kit.tiers import sampled
from tests.splitting.models import ARCHITECTURES, Logits, UNet
from tests.splitting.parts import Chain, chain_split, pictures, split_of, split_text


def test_cuts_are_in_the_order_of_the_forward_with_what_would_cross() -> None:
    found = antiphon.cuts(UNet(), torch.randn(2, 1, 8, 8))
    assert [cut.name for cut in found] == ["down2", "bottom", "up1", "up2", "out"]
    assert list(found[3].tensors.values()) == [(3, 8, 8), (3, 4, 4)]
    assert found[3].size == 4 * (3 * 64 + 3 * 16)
    assert [cut.share for cut in found] == sorted(cut.share for cut in found)
    assert str(found).splitlines()[0].startswith("cut before")
    assert "up1 [3, 4, 4]" in str(found)


def test_random_numbers_of_the_caller_go_on_after_a_look_at_cuts() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2))
    random.seed(3)
    numpy.random.seed(3)
    before = random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()
    antiphon.cuts(model, torch.zeros(2, 4))
    assert (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()) == before


def test_what_cannot_be_cut_is_listed_with_the_reason() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x.transpose(0, 1))).transpose(0, 1))

    cut = {cut.name: cut for cut in antiphon.cuts(Transposed(), torch.randn(2, 3, 4))}
    assert "no batch as its first axis" in cut["b"].problem
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


def test_a_number_of_parts_calls_no_module_of_the_model() -> None:
    """Its parts begin with the batch norms of the model, in its type, and its hooks were not called."""
    model = nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 5))
    called: list[nn.Module] = []
    model.double()[0].register_forward_hook(lambda module, *_: called.append(module))
    with antiphon.Simulation(chain_split(model, 2, inputs={"input": "x"}), dtype=torch.float64) as run:
        joined = antiphon.join(run).state_dict()
    assert not called
    assert all(torch.equal(joined[name], value) for name, value in model.state_dict().items())


def test_attention_and_layers_of_transformers_have_a_cost() -> None:
    """In evaluation torch computes each by one operation, of which no cost is known."""
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(4)]
    shares = [cut.share for cut in antiphon.cuts(nn.Sequential(*layers), torch.rand(2, 3, 8))]
    assert shares == pytest.approx([0.25, 0.5, 0.75])

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    model = nn.Sequential(Attention(), nn.Linear(8, 8), nn.Linear(8, 8))
    multiplied = [2 * 32 * 32 * 8, 32 * 8 * 8, 32 * 8 * 8]
    expected = [sum(multiplied[:end]) / sum(multiplied) for end in (1, 2)]
    assert [cut.share for cut in antiphon.cuts(model, torch.rand(2, 32, 8))] == pytest.approx(expected)


@pytest.mark.long
def test_the_heads_of_a_number_of_parts_count() -> None:
    """The first of two parts computes a copy of a block and of the last layers too, and begins as with a cut that is named."""
    model, gradient = Logits(blocks=5), {"kind": "aug_local", "layers": 1}
    counted, named = (split_text(model, at, gradient=gradient) for at in (2, ["blocks.2"]))
    keys = [dict(agent.network.named_parameters()) for agent in counted.agents.values()]
    assert [sum(key.endswith("ln1.weight") for key in part) for part in keys] == [2, 3]
    heads = [scenario.channels[0].gradient.get("network").state_dict() for scenario in (counted, named)]
    assert heads[0].keys() == heads[1].keys()
    assert all(torch.equal(heads[0][key], value) for key, value in heads[1].items())


def test_the_heads_of_a_number_of_parts_have_the_type_of_the_model() -> None:
    scenario = split_text(Logits(blocks=3).double(), 2, gradient={"kind": "aug_local", "layers": 1})
    with antiphon.Simulation(scenario, dtype=torch.float64) as run:
        run.run(steps=1)


@pytest.mark.long
def test_parts_of_a_chain_are_split_where_it_cannot_be_traced() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    first, last = nn.Flatten(1, 2), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with one_line(r"split: .*give split\(parts=\[module"):
        antiphon.split(nn.Sequential(first, encoder, last), ["1.layers.1"], env=pictures())
    scenario = antiphon.split(
        parts=[nn.Sequential(first, encoder.layers[0]), encoder.layers[1], last], env=pictures()
    )
    assert [channel.size for channel in scenario.channels] == [(8, 8), (8, 8)]
    with antiphon.Simulation(scenario) as run:
        run.run(steps=2)
        joined = antiphon.join(run)
    assert isinstance(joined, nn.Sequential)
    assert isinstance(joined[1], nn.TransformerEncoderLayer)


class Overwriting(Chain):
    """Writes in place to what crosses, after it has been read."""

    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        z = self.second(h)
        h.add_(1.0)
        return self.third(z + h)


class Sites(nn.Module):
    """Sends sites with their features side by side, which lie apart in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 4, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.b(self.a(x.unsqueeze(1)).transpose(1, 2))
        return found.mean(1)


def test_a_part_keeps_its_message_as_it_lies_in_the_model() -> None:
    """Kernels round by the order of the axes in memory."""
    part: Any = chain_split(Overwriting()).agents["part1"].network
    message = torch.randn(4, 7)
    before = message.clone()
    part(message)
    assert torch.equal(message, before)
    part = chain_split(Sites(), ("b",)).agents["part1"].network
    strides = []
    (last,) = (module for module in part.modules() if isinstance(module, nn.Linear))
    last.register_forward_pre_hook(lambda _, given: strides.append(given[0].stride()))
    part(torch.randn(4, 7 * 4))
    assert strides == [(28, 1, 7)]


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


@pytest.mark.parametrize("names", [("_a", "a"), ("a_", "a"), ("ä", "ö")])
def test_messages_whose_names_have_the_same_letters_have_ports_of_their_own(names: tuple[str, str]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in names:
                self.add_module(name, nn.Linear(64, 4))
            self.b, self.b2, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 10)
            self.d, self.d2 = nn.Linear(4, 10), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            one, other = (getattr(self, name)(x.flatten(1)) for name in names)
            y: Tensor = self.c(self.b(one) + self.b2(other)) + self.d(one) + self.d2(other)
            return y

    scenario = antiphon.split(Twice(), ["b", "c"], env=pictures())
    ports = [channel.port for channel in scenario.channels if channel.sender == "part0"]
    assert len(ports) == 4
    assert len({*ports}) == 2
    with Simulation(scenario) as simulation:
        simulation.step()


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
    inside = antiphon.cuts(Wrapped(), torch.randn(2, 6), inside=True)
    assert {cut.name for cut in found} <= {cut.name for cut in inside}


def test_blocks_within_what_cannot_be_traced_stay_whole() -> None:
    class Routing(Backbone):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > 0 else x

    model = Wrapped()
    model.backbone = Routing()
    assert [cut.name for cut in antiphon.cuts(model, torch.randn(2, 6))] == ["single", "head"]


def test_a_number_of_parts_is_refused_where_what_stays_whole_is_more_than_an_equal_part() -> None:
    class Routing(Backbone):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.isnan().any() else super().forward(x)

    model = Wrapped()
    model.backbone = Routing()
    env = antiphon.envs.from_tensors(x=torch.rand(20, 6), label=torch.arange(20) % 3)
    with one_line(r"split: at=3: 'backbone' alone has \d\d% of the operations and cannot be divided; .*"):
        antiphon.split(model, at=3, env=env)


class Optional(nn.Module):
    """Blocks without some steps, None in their lists; the first one is called with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.rand(1, 4))
        self.layers = nn.ModuleList(
            nn.ModuleList([None, nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())])  # type: ignore[list-item]
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layers[0][1](self.query)  # type: ignore[index]
        for before, linear, block in self.layers:  # type: ignore[misc]
            x = block(linear(x if before is None else before(x)))
        return x


@pytest.mark.long
def test_lists_with_a_place_left_out_and_layers_called_with_a_parameter_are_cut() -> None:
    found = [cut.name for cut in antiphon.cuts(Optional(), torch.rand(3, 4))]
    assert {"layers.0.2", "layers.1.1", "layers.1.2"} <= set(found)
    env = antiphon.envs.from_tensors(x=torch.rand(20, 4), label=torch.arange(20) % 4)
    assert len(antiphon.split(Optional(), at=2, env=env).agents) == 2


@pytest.mark.parametrize(
    ("of_model", "of_example"),
    [
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
    ],
)
def test_a_model_and_its_example_may_have_any_precision(
    of_model: torch.dtype, of_example: torch.dtype
) -> None:
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 3)).to(of_model)
    found = antiphon.cuts(model, torch.rand(2, 1, 4, dtype=of_example))
    assert [cut.name for cut in found] == ["1", "2", "3"]
    assert model[0].weight.dtype is of_model
    assert antiphon.cuts(nn.Linear(3, 3).to(of_model), torch.rand(2, 3, dtype=of_example)) == ()


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
