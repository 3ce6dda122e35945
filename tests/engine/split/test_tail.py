"""The tail of a model: from one of its submodules on."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.split.tail import tail
from tests.engine.numbers import one_line
from tests.engine.split.models import GPT, ResNet, UNet
from tests.engine.split.test_parts import picture, text_and_targets


@pytest.mark.parametrize("name", ["blocks.1", "norm", "head"])
def test_the_tail_takes_what_the_submodule_reads_and_gives_the_prediction(name: str) -> None:
    model = GPT().eval()
    found = tail(model, name, text_and_targets(4), output=0)
    reads: list[torch.Tensor] = []
    model.get_submodule(name).register_forward_pre_hook(lambda _, given: reads.append(given[0]))
    expected, _ = model(**text_and_targets(5))
    assert torch.equal(found.module(reads[0]), expected)
    assert found.shape == (6, 8)
    own = dict(model.named_parameters())
    assert all(torch.equal(own[key], value) for key, value in found.module.named_parameters())
    assert "head.weight" in found.parameters


def test_a_tail_of_maps() -> None:
    model = ResNet().eval()
    found = tail(model, "layer2.1", picture(4))
    assert found.shape == (8, 4, 4)
    assert found.module(torch.randn(3, 8, 4, 4)).shape == (3, 10)


def test_a_tail_that_needs_more_than_one_tensor_is_refused() -> None:
    with one_line(
        "tail: what 'up1' leads to reads relu, relu_1, relu_2; choose a place that only one tensor"
    ):
        tail(UNet(), "up1", picture(4))
