"""What a placement cuts: shares, bytes, neighbours and lookahead, each as counted by hand; and what stays together."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.build.builder import build
from antiphon.engine.core.system import System
from antiphon.engine.parts.division import division_of
from antiphon.engine.parts.placement import agent_costs, check_free, placement_for, unaligned_readers
from antiphon.engine.planning.cost_model import CostModel
from antiphon.envs import describe
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document, ring


def made(doc: Document) -> tuple[System, Scenario]:
    scenario = Scenario.model_validate(doc)
    return build(
        scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float32
    ), scenario


def test_a_ring_in_three_parts() -> None:
    """Batch 4, messages of four floats: 64 bytes a step each way over each of the three channels."""
    turns = [{"link": {"delay": 2}}, {"link": {"delay": 3}}, {"link": {"delay": 2}}]
    system, _ = made(ring(6, channel=turns))
    division = division_of(system, {"n0": 0, "n1": 0, "n2": 1, "n3": 1, "n4": 2, "n5": 2})
    assert division.parts == (("n0", "n1"), ("n2", "n3"), ("n4", "n5"))
    assert division.shares == pytest.approx([1 / 3] * 3)
    assert (division.cut, division.bytes) == ({"n1->n2": 3, "n3->n4": 2, "n5->n0": 2}, 3 * 128)
    assert (division.total, division.lookahead, division.speedup) == (6, 2, pytest.approx(3))


def test_the_flop_of_all_parts_are_those_of_the_plan() -> None:
    """A synthetic gradient is computed where its sender is, a synthetic input where its receiver is."""
    doc = ring(4, channel={"input": {"kind": "linear", "context": ["y"]}, "link": {"drop": 0.5, "delay": 1}})
    system, _ = made(doc)
    division = division_of(system, {"n0": 0, "n1": 0, "n2": 0, "n3": 1})
    assert sum(agent_costs(system).values()) == pytest.approx(CostModel(system).flop())
    assert division.shares == pytest.approx([3 / 4, 1 / 4])
    assert division.speedup == pytest.approx(4 / 3)


def test_parts_without_a_common_channel() -> None:
    doc = ring(4)
    pairs = [("n0", "n1"), ("n2", "n3")]
    doc["channels"] = [{"from": a, "to": b, "size": 4, "link": {"delay": 1}} for a, b in pairs]
    system, scenario = made(doc)
    placement = placement_for(system, scenario, 2)
    assert placement == {"n0": 0, "n1": 0, "n2": 1, "n3": 1}
    division = division_of(system, placement)
    assert (division.cut, division.lookahead) == ({}, None)


DIGITS = {"id": "antiphon/Digits-v0"}


@pytest.mark.parametrize(
    ("env", "align", "readers"),
    [(DIGITS, True, []), (DIGITS, None, ["n1"]), (DIGITS | {"hold": 60}, None, ["n1"]), (None, None, [])],
)
def test_what_parts_that_do_not_wait_could_mix_up(
    env: Document | None, align: bool | None, readers: list[str]
) -> None:
    doc = ring(2, agent={"observes": ["x" if env is None else "image"]}, env=env)
    doc["channels"] = doc["channels"][:1]
    if align:
        doc["agents"]["n1"]["align"] = True
    system, _ = made(doc)
    check_free(system)
    assert unaligned_readers(system, {"n0": 0, "n1": 1}) == readers


def test_an_agent_that_is_aligned_within_its_part_may_read_late_messages_of_other_examples() -> None:
    doc = ring(3, agent={"observes": ["image"]}, env=DIGITS)
    doc["channels"] = [{"from": name, "to": "n2", "size": 4, "link": {"delay": 1}} for name in ("n0", "n1")]
    doc["agents"]["n2"]["align"] = "n1->n2"
    system, _ = made(doc)
    assert unaligned_readers(system, {"n0": 0, "n1": 1, "n2": 1}) == ["n2"]
    assert unaligned_readers(system, {"n0": 0, "n1": 1, "n2": 2}) == []
