"""What the parts of a cut model read, send and hold (engine/split/parts.py, plan.py).

That they are the model, one after the other, is in test_architectures.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antiphon.engine.split.cuts import containers
from antiphon.engine.split.outputs import prediction_of
from antiphon.engine.split.parts import Part, build_parts
from antiphon.engine.split.plan import plan_parts
from antiphon.engine.split.tracer import trace
from tests.engine.split.models import GPT, Rotary, UNet, ViT


def tokens(rows: int) -> Tensor:
    return torch.randint(0, 7, (rows, 6), generator=torch.Generator().manual_seed(rows))


def numbers(rows: int, *shape: int) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(rows))


def image(rows: int) -> dict[str, Tensor]:
    return {"image": numbers(rows, 1, 8, 8)}


def picture(rows: int) -> dict[str, Tensor]:
    return {"x": numbers(rows, 1, 8, 8)}


def text(rows: int) -> dict[str, Tensor]:
    return {"idx": tokens(rows)}


def parts_of(model: nn.Module, at: list[str], example: dict[str, Tensor]) -> list[Part]:
    traced = trace(model, containers(at), example)
    output = 0 if isinstance(model, GPT) else None
    plan = plan_parts(traced, at, prediction_of(traced, output, None))
    return build_parts(traced, plan, model, [f"part{i}" for i in range(len(at) + 1)], None)


def test_a_skip_goes_straight_to_its_reader() -> None:
    parts = parts_of(UNet(), ["bottom", "up2"], picture(4))
    assert [(w.message.sender, w.message.shape) for w in parts[2].reads] == [(0, (3, 8, 8)), (1, (3, 4, 4))]
    assert all(w.message.sender == 0 for w in parts[1].reads)


def test_masks_tables_and_inputs_are_not_sent() -> None:
    parts = parts_of(Rotary(), ["first", "second", "head"], text(4))
    assert [part.observes for part in parts] == [("idx",), ("idx",), ("idx",), ()]
    assert [[w.message.shape for w in part.reads] for part in parts] == [
        [],
        [(6, 8)],
        [(6, 8), (6, 8)],
        [(6, 8)],
    ]


def test_what_is_tied_in_a_part_stays_tied() -> None:
    (part,) = parts_of(GPT(tied=True), [], text(4))
    assert part.module.head.weight is part.module.wte.weight
    (frozen,) = parts_of(GPT(tied=True).requires_grad_(False), [], text(4))
    assert not list(frozen.module.parameters())
    assert frozen.module.head.weight.data_ptr() == frozen.module.wte.weight.data_ptr()


def test_frozen_parameters_are_buffers_of_their_part() -> None:
    model = ViT()
    model.patch.requires_grad_(False)
    model.position.requires_grad_(False)
    parts = parts_of(model, ["blocks.1"], image(4))
    assert not {"patch.weight", "position"} & dict(parts[0].module.named_parameters()).keys()
    assert {"patch.weight", "position"} <= dict(parts[0].module.named_buffers()).keys()


class Overwriting(nn.Module):
    """Writes in place to what crosses, after it has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        z = self.b(h)
        h.add_(1.0)
        found: Tensor = self.c(z + h)
        return found


def test_a_part_that_writes_in_place_keeps_its_message() -> None:
    parts = parts_of(Overwriting(), ["b"], {"x": numbers(4, 5)})
    message = numbers(4, 4)
    parts[1].module(message)
    assert torch.equal(message, numbers(4, 4))


class Channels(nn.Module):
    """Sends sites with their features side by side, which lie apart in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.b(self.a(x).transpose(1, 2))
        return found.mean(1)


def test_a_message_lies_in_memory_as_in_the_model() -> None:
    """Kernels round by the order of the axes there."""
    parts = parts_of(Channels(), ["b"], {"x": numbers(4, 1, 5)})
    strides = []
    parts[1].module.b.register_forward_pre_hook(lambda _, given: strides.append(given[0].stride()))
    parts[1].module(numbers(4, 5 * 4))
    assert strides == [(20, 1, 5)]
