"""Stacks of agents: what holds for each member is what holds for it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.agent import Agent
from antiphon.engine.core.records import Replicas, select_rows
from antiphon.engine.core.system import Stacked
from tests.contracts.builders import LABEL, OWN, Document, document, levels, ring
from tests.engine.numbers import normal
from tests.engine.scenes import BATCH, Sights
from tests.engine.stacks import by_rows, mask, only_stack, stack_of, stacked_system


def members(count: int = 4, **keys: Any) -> Stacked:
    return stacked_system(ring(count, agent={"clock": {"unroll": 2}, **keys}))


@pytest.mark.parametrize("p_update", [0.05, 0.5, 0.95])
def test_participation_is_sampled_as_alone(p_update: float) -> None:
    found = members(6, p_update=p_update)
    cohort = only_stack(found)
    for window in (*range(30), 5, 7, 7):
        own = [agent.participates(window) is True for agent in cohort.members]
        learning = cohort.learning(window)
        assert learning is not None
        assert learning.tolist() == own
        rows = cohort.participates(window)
        if all(own) or not any(own):
            assert rows is own[0]
        else:
            assert isinstance(rows, Tensor)
            assert rows.tolist() == by_rows([int(one) for one in own])


def test_without_draws_all_but_disabled_members_participate() -> None:
    cohort = only_stack(members())
    assert cohort.learning(3) is None
    assert cohort.participates(3) is True
    cohort.disable(mask(0, 1, 0, 0))
    cohort.disable(mask(0, 0, 0, 1))
    rows = cohort.participates(3)
    assert isinstance(rows, Tensor)
    assert rows.tolist() == by_rows([1, 0, 1, 0])
    assert cohort.learning(3) is None  # disabled or not


def test_disabled_members_do_not_participate() -> None:
    cohort = only_stack(members(6, p_update=0.5))
    cohort.disable(mask(1, 0, 0, 0, 1, 0))
    for window in range(12):
        own = [agent.participates(window) is True for agent in cohort.members]
        own[0] = own[4] = False
        rows = cohort.participates(window)
        found = rows.tolist() if isinstance(rows, Tensor) else [rows] * (6 * BATCH)
        assert found == by_rows([int(one) for one in own])


def test_totals_and_rows_of_members() -> None:
    cohort = only_stack(members())
    rows = normal(4 * BATCH)
    assert torch.equal(cohort.total(rows), torch.stack([own.sum() for own in torch.split(rows, BATCH)]))
    assert cohort.rows_of(mask(0, 1, 1, 0)).tolist() == by_rows([0, 1, 1, 0])
    signal = normal(BATCH, 3)
    assert torch.equal(cohort.to_rows(signal), signal.repeat(4, 1))


SEEN = {"x": (4,), "y": (3,), "z": (4,), "image": (1, 6, 6)}


def scene(*looks: list[str], replicas: int = 1, kind: str = "mlp") -> Agent:
    """A stack whose members observe these signals, turn by turn in the replicas."""
    network: Document = {"kind": kind, "hidden": [4], "norm": "layer"}
    if kind == "conv":
        network = {"kind": kind, "hidden": [2], "filter": 3}
    agents = {
        f"n{i}": {**OWN, "objective": LABEL, "observes": look, "network": network}
        for i, look in enumerate(looks)
    }
    cohort = only_stack(stacked_system(document(agents, [], Sights())))
    cohort.replicas = Replicas([n % replicas for n in range(len(looks))], replicas, BATCH)
    return cohort


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    "looks",
    [
        [["x"], ["x"], ["x"]],
        [["x"], ["z"], ["x"], ["z"]],
        [["z"], ["x"], ["z"], ["z"]],
        [["x", "y", "z"], ["z", "y", "x"]],
        [["x", "z"], ["x", "z"]],
    ],
)
def test_each_member_observes_its_own_signals_in_its_own_replica(
    looks: list[list[str]], replicas: int
) -> None:
    cohort = scene(*looks, replicas=replicas)
    for seed in (0, 1):  # the order is remembered
        signals = {
            name: normal(replicas * BATCH, *SEEN[name], seed=seed + i, dtype=torch.float32)
            for i, name in enumerate(SEEN)
        }
        seen = cohort.observations(signals.__getitem__, torch.float64)
        assert len(seen) == len(looks[0])
        for n, look in enumerate(looks):
            replica = slice(n % replicas * BATCH, (n % replicas + 1) * BATCH)
            for value, name in zip(seen, look, strict=True):
                assert value.dtype is torch.float64
                own = value.view(len(looks), BATCH, *SEEN[name])[n]
                assert torch.equal(own, signals[name][replica].double())


def test_images_keep_their_shape_and_flat_networks_see_them_flat() -> None:
    signals = {"image": normal(BATCH, 1, 6, 6)}
    cohort = scene(["image"], ["image"], kind="conv")
    assert cohort.observations(signals.__getitem__, torch.float64)[0].shape == (2 * BATCH, 1, 6, 6)
    cohort = scene(["image"], ["image"])
    assert torch.equal(
        cohort.observations(signals.__getitem__, torch.float64)[0][BATCH:], signals["image"].flatten(1)
    )


def test_before_its_first_message_an_aligned_agent_sees_blanks() -> None:
    found = stacked_system(levels(high={"align": True, "observes": ["y", "x"]}))
    seen = stack_of(found, "b0").observations(
        lambda name: found.system.network_input(name, None), torch.float64
    )
    assert [value.shape for value in seen] == [(3 * BATCH, 3), (3 * BATCH, 4)]
    assert not any(bool(value.any()) for value in seen)


@pytest.mark.parametrize(
    ("each", "count"), [([0, 0, 0], 1), ([0], 1), ([0, 1, 2], 3), ([2, 0, 0, 1], 3), ([1, 1], 2), ([1, 0], 2)]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_a_member_s_rows_of_a_signal_are_its_replica_s(
    each: list[int], count: int, shape: tuple[int, ...]
) -> None:
    replicas = Replicas(each, count, BATCH)
    signal = normal(count * BATCH, *shape)
    expected = [signal[replica * BATCH : (replica + 1) * BATCH] for replica in each]
    assert torch.equal(replicas.by_member(signal), torch.stack(expected))
    assert torch.equal(replicas.to_rows(signal), torch.cat(expected))


def test_picking_rows() -> None:
    rows = normal(3 * BATCH, 2)
    assert select_rows(rows, None, BATCH) is rows
    assert torch.equal(select_rows(rows, torch.tensor([2, 2]), BATCH), rows[2 * BATCH :].repeat(2, 1))
