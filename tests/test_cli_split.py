"""`antiphon split`: where a model can be cut, and the parts of a cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Commands

MODULE = """
import torch
from tests.engine.split.models import GPT, UNet

TOKENS = torch.zeros(2, 6, dtype=torch.long)


def gpt():
    return GPT(), {"idx": TOKENS, "targets": TOKENS}


def unet():
    model = UNet()
    model.example_input_array = torch.randn(2, 1, 8, 8)
    return model


def bare():
    return UNet()


def number():
    return 7


def broken():
    raise ValueError("no weights")
"""


@pytest.fixture(autouse=True)
def _module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (here / "made.py").write_text(MODULE)
    yield
    sys.modules.pop("made", None)


def test_it_lists_where_a_model_can_be_cut_and_what_would_cross(cli: Commands) -> None:
    text = cli("split", "made:gpt")
    assert "blocks.1" in text
    assert "blocks_0 [6, 8]" in text
    found = {cut["name"]: cut for cut in cli.json("split", "made:gpt")["cuts"]}
    assert found["blocks.1"]["crosses"] == {"blocks_0": [6, 8]}
    assert found["blocks.1"]["bytes"] == 6 * 8 * 4
    assert 0.3 < found["blocks.1"]["cost"] < 0.35
    assert "blocks.1.mlp" not in found
    assert "blocks.1.mlp" in {cut["name"] for cut in cli.json("split", "made:gpt", "--inside")["cuts"]}


def test_it_shows_the_parts_of_a_cut_and_what_crosses(cli: Commands) -> None:
    text = cli("split", "made:unet", "--at", "bottom,up2")
    assert "relu [3, 8, 8] from part0" in text
    parts = cli.json("split", "made:unet", "--at", "bottom", "--at", "up2")["parts"]
    assert [part["inputs"] for part in parts] == [["x"], [], []]
    assert [read["from"] for read in parts[2]["reads"]] == ["part0", "part1"]
    assert sum(part["cost"] for part in parts) == pytest.approx(1)
    assert len(cli.json("split", "made:gpt", "--at", "3")["parts"]) == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("split made:nothing", "split made:nothing: module 'made' has no 'nothing'"),
        ("split made", "split made: must be MODULE:FUNCTION"),
        ("split made:bare", "split made:bare: returned a model without an example"),
        ("split made:number", "split made:number: returned int"),
        ("split made:broken", "split made:broken: ValueError: no weights (made.py:"),
        ("split made:unet --at botom", "at: no submodule 'botom'; did you mean 'bottom'?"),
        ("split made:gpt --output 7", "output: 7 is no tensor that forward returns"),
    ],
)
def test_what_is_wrong_is_one_line(words: str, problem: str, cli: Commands) -> None:
    assert problem in cli.refused(words)
