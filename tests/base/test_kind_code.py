"""What of a registered kind is compared, when a run goes on with it."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.base.kind_code import codes_of

KEPT_IN = {
    "a dict of the class": ("SIZES = {'hidden': 3}", "SIZES = {'hidden': 4}"),
    "a list of the class": ("SIZES = [3, 4]", "SIZES = [3, 5]"),
    "a set of the class": ("SIZES = {3, 4}", "SIZES = {3, 5}"),
    "an array of the class": ("MEAN = torch.tensor([0.5])", "MEAN = torch.tensor([0.6])"),
    "bytes": ("KEY = b'a'", "KEY = b'b'"),
    "a setter": (
        "size = property(lambda self: 1, lambda self, size: None)",
        "size = property(lambda self: 1, lambda self, size: print(size))",
    ),
    "a cache": (
        "scale = functools.lru_cache(lambda self: 1.0)",
        "scale = functools.lru_cache(lambda self: 2.0)",
    ),
    "a cached property": (
        "scale = functools.cached_property(lambda self: 1.0)",
        "scale = functools.cached_property(lambda self: 2.0)",
    ),
    "a keyword's default": ("def scaled(self, *, by=1): ...", "def scaled(self, *, by=2): ..."),
    "a constant set": (
        "has = lambda self, key: key in {'a', 'b'}",
        "has = lambda self, key: key in {'a', 'c'}",
    ),
    "a field": (
        "fields = [dataclasses.field(default_factory=lambda: 1)]",
        "fields = [dataclasses.field(default_factory=lambda: 2)]",
    ),
    "an object of another class of the cell": ("act = Act()", "act = Act()"),
}


@pytest.mark.parametrize("what", KEPT_IN)
def test_whatever_a_class_is_made_of_is_its_code(what: str) -> None:
    def compared(line: str, times: int) -> object:
        scope: dict[str, Any] = {"__name__": "__main__"}
        text = f"""
import dataclasses, functools, torch
class Act:
    times = {times}
class Net(torch.nn.Linear):
    {line}
"""
        exec(text, scope)  # noqa: S102  (as a notebook does)
        antiphon.register("network", "kept", scope["Net"])
        return codes_of(["kept"])

    before, after = KEPT_IN[what]
    others = 2 if before == after else 1
    assert compared(before, 1) == compared(before, 1)
    assert compared(before, 1) != compared(after, others)


def test_what_a_kind_fills_as_it_runs_is_no_other_code() -> None:
    class Filled(nn.Linear):
        seen: ClassVar[dict[str, int]] = {}
        mean: ClassVar[Tensor] = torch.zeros(2)

        @functools.lru_cache  # noqa: B019  (a user's)
        def size(self, times: int = 1) -> int:
            return times * self.in_features

        def forward(self, x: Tensor, shapes: list[int] = []) -> Tensor:  # noqa: B006  (a user's)
            shapes.append(len(x))
            self.seen[str(len(x))] = self.size()
            self.mean.mul_(0.5).add_(1)
            return super().forward(x)

    antiphon.register("network", "filled", Filled)
    before = codes_of(["filled"])
    Filled(3, 4)(torch.zeros(2, 3))
    assert (Filled.seen, Filled.mean.tolist()) == ({"2": 3}, [1.0, 1.0])
    assert codes_of(["filled"]) == before
