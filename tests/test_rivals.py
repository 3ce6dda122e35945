"""The benchmark of rivals: what its ways of training compute, how long their steps take, and that no run is repeated."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import rivals, virtual_time
from benchmarks.rivals import (
    Chain,
    Conditions,
    Costs,
    Digits,
    Network,
    OneWay,
    Pipeline,
    Setting,
    Study,
    Synchronous,
    full_pipeline,
)

chain_module = sys.modules["rivals_chain"]
ways_module = sys.modules["rivals_ways"]

FREE = Costs(predict=0.0, learn=0.0)


@pytest.fixture(scope="module")
def data() -> Digits:
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.randn(200, 6, generator=generator), torch.randint(10, (200,), generator=generator)
    return Digits(images[:150], labels[:150], images[150:], labels[150:])


def chain(data: Digits, stages: int, **more: Any) -> Chain:
    return Chain(stages, data, **{"rate": 0.01, "seed": 0, "rows": 16, **more})


def numbers(one: Chain) -> list[Tensor]:
    return [tensor.detach().clone() for stage in one.stages for tensor in stage.own.tensors]


def test_a_learner_takes_the_steps_of_adam() -> None:
    start = [torch.randn(3, 4), torch.randn(4)]
    learner = chain_module.Learner(start, 0.02)
    twins = [nn.Parameter(tensor.clone()) for tensor in start]
    adam = torch.optim.Adam(twins, lr=0.02)
    before = learner.tensors
    for step in range(5):
        gradients = [torch.randn_like(tensor) * 10**-step for tensor in start]
        learner.update(gradients)
        for twin, gradient in zip(twins, gradients, strict=True):
            twin.grad = gradient
        adam.step()
    torch.testing.assert_close(list(learner.tensors), [twin.detach() for twin in twins])
    assert all(torch.equal(old, first) for old, first in zip(before, start, strict=True))


def test_one_minibatch_in_flight_is_backpropagation(data: Digits) -> None:
    plain, piped = chain(data, 3), chain(data, 3)
    machines = Pipeline(piped, Network(Conditions(latency=2.0), 0), FREE, in_flight=1)
    machines.run(4 * (3 + 4 * 2.0) + 0.01)
    for _ in range(4):
        plain.step()
    assert machines.updates == 4
    assert machines.staleness == [12, 0]
    torch.testing.assert_close(numbers(piped), numbers(plain))


@pytest.mark.parametrize("replay", [False, True])
def test_a_pipeline_differentiates_with_stashed_or_with_present_parameters(
    data: Digits, replay: bool
) -> None:
    """Two stages, two minibatches in flight: the first stage sends both before a gradient is back."""
    learned, mine = chain(data, 2), chain(data, 2)
    machines = Pipeline(learned, Network(Conditions(latency=1.0), 0), FREE, in_flight=2, replay=replay)
    while machines.updates < 2:
        machines.run(machines.now + 0.25)
    first, second = mine.stages
    old = first.own.tensors
    inputs = [mine.batch(), mine.batch()]
    sent = [first.forward(x) for x, _ in inputs]
    deltas = []
    for message, (_, labels) in zip(sent, inputs, strict=True):
        x = message.detach().requires_grad_()
        gradients = torch.autograd.grad(second.loss(second.forward(x), labels), [*second.own.tensors, x])
        second.own.update(gradients[:-1])
        deltas.append(gradients[-1])
    first.own.update(torch.autograd.grad(sent[0], old, deltas[0]))
    if replay:
        again = first.forward(inputs[1][0], statistics=False)
        first.own.update(torch.autograd.grad(again, first.own.tensors, deltas[1]))
    else:
        first.own.update(torch.autograd.grad(sent[1], old, deltas[1]))
    torch.testing.assert_close(list(learned.stages[0].own.tensors), list(first.own.tensors))


def test_a_full_pipeline_takes_a_stage_time_per_minibatch(data: Digits) -> None:
    machines = Pipeline(
        chain(data, 3), Network(Conditions(latency=5.0), 0), FREE, in_flight=full_pipeline(3, 5.0)
    )
    machines.run(100.0)
    before = machines.updates
    machines.run(200.0)
    assert machines.updates - before == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("way", "stages", "latency", "period"),
    [
        ("one_machine", 4, 20.0, 4),
        ("locked", 4, 20.0, 4 + 6 * 20.0),
        ("1f1b", 4, 0.0, (32 + 3) / 32),
        ("1f1b", 8, 5.0, (32 + 7) / 32 + 14 * 5.0),
        ("data_parallel", 4, 20.0, 1 + 20.0),
        ("ring", 4, 20.0, 1 + 6 * 20.0),
    ],
)
def test_periods_of_those_that_wait(
    data: Digits, way: str, stages: int, latency: float, period: float
) -> None:
    machines = Synchronous(way, chain(data, stages), Network(Conditions(latency=latency), 0), Costs())
    machines.run(2.5 * period)
    assert machines.updates == 3
    assert machines.now == pytest.approx(3 * period)


def test_bytes_of_a_step(data: Digits) -> None:
    network = Network(Conditions(), 0)
    locked, direct, ring = (
        Synchronous(way, chain(data, 3), network, Costs()) for way in ("locked", "data_parallel", "ring")
    )
    piped = Pipeline(chain(data, 3), network, Costs(), in_flight=1)
    for machines in (locked, direct, ring, piped):
        machines.run(0.5)
    piped.run(7.2)
    size = 4 * sum(tensor.numel() for tensor in numbers(locked.chain))
    assert locked.bytes_sent == piped.bytes_sent == 4 * 16 * 128 * 4
    assert (direct.bytes_sent, ring.bytes_sent) == (6 * size, 4 * size)


def test_a_synthetic_gradient_is_nothing_at_first_and_learns_from_what_is_returned(data: Digits) -> None:
    learned, mine = chain(data, 2), chain(data, 2)
    machines = OneWay(learned, Network(Conditions(latency=1.0), 0), Costs(), local=False)
    stage, twin = learned.stages[0], mine.stages[0]
    machines.run(2.3)
    torch.testing.assert_close(list(stage.own.tensors), list(twin.own.tensors), rtol=0, atol=0)
    while not stage.predictor.updates:
        machines.run(machines.now + 0.1)
    x, labels = mine.batch()
    message = twin.forward(x).detach().requires_grad_()
    last = mine.stages[1]
    (delta,) = torch.autograd.grad(last.loss(last.forward(message), labels), message)
    context = torch.cat([message.detach(), F.one_hot(labels, 10)], 1)
    weight, bias = twin.predictor.tensors
    loss = (F.linear(context, weight, bias) - 16 * delta).square().sum(1).mean()
    twin.predictor.update(torch.autograd.grad(loss, [weight, bias]))
    torch.testing.assert_close(list(stage.predictor.tensors), list(twin.predictor.tensors))


def test_a_local_classifier_is_trained_where_it_is(data: Digits) -> None:
    learned, mine = chain(data, 2), chain(data, 2)
    machines = OneWay(learned, Network(Conditions(latency=100.0), 0), Costs(predict=0.0), local=True)
    machines.run(3.5)
    stage = mine.stages[0]
    layer = nn.Linear(6, 128)
    norm, head = nn.BatchNorm1d(128), nn.Linear(128, 10)
    parameters = [layer.weight, layer.bias, norm.weight, norm.bias, head.weight, head.bias]
    for own, value in zip(parameters, [*stage.own.tensors, *stage.classifier.tensors], strict=True):
        own.data = value.detach().clone()
    adam = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(3):
        x, labels = mine.batch()
        adam.zero_grad()
        F.cross_entropy(head(norm(layer(x)).relu()), labels).backward()
        adam.step()
    found = [*learned.stages[0].own.tensors, *learned.stages[0].classifier.tensors]
    pairs = list(zip(found, parameters, strict=True))
    del pairs[1]  # the bias before batch norm has no gradient but rounding errors, which Adam magnifies
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_queue_drops_the_oldest_and_a_bound_makes_the_sender_wait(data: Digits) -> None:
    def run(**policy: Any) -> OneWay:
        conditions = Conditions(latency=1.0, slow=4.0)
        machines = OneWay(chain(data, 2), Network(conditions, 0), FREE, local=False, **policy)
        machines.run(100.0)
        return machines

    newest, everything, bounded = run(queue=1), run(queue=None), run(queue=None, ahead=8)
    assert newest.updates == everything.updates == pytest.approx(100, abs=1)
    assert newest.dropped == pytest.approx(75, abs=3)
    assert everything.dropped == bounded.dropped == 0
    mean = {run: run.staleness[1] / run.staleness[0] for run in (newest, everything, bounded)}
    assert mean[newest] < 8 < mean[everything]
    assert mean[bounded] <= 8
    assert bounded.updates == pytest.approx(100 / 4, abs=8)


def test_a_lost_gradient_must_not_be_waited_for(data: Digits) -> None:
    with pytest.raises(ValueError, match="leave ahead out"):
        OneWay(chain(data, 2), Network(Conditions(loss=0.1), 0), FREE, local=False, ahead=4)


def test_conditions_of_machines_and_network() -> None:
    jitter = Network(Conditions(latency=2.0, jitter=0.5), 1)
    works = torch.tensor([jitter.work(1.0) for _ in range(4000)])
    assert works.mean().item() == pytest.approx(1.0, rel=0.05)
    assert works.log().std().item() == pytest.approx(0.5, rel=0.05)
    pauses = Network(Conditions(pauses=0.1, pause=9.0), 1)
    whole = sum(pauses.work(1.0) for _ in range(4000)) / 4000
    parts = sum(pauses.work(0.1) for _ in range(40_000)) / 4000
    assert whole == pytest.approx(1.9, rel=0.1)
    assert parts == pytest.approx(1.9, rel=0.1)
    slow = Network(Conditions(slow=3.0), 1)
    assert (slow.work(1.0), slow.work(1.0, slow=True)) == (1.0, 3.0)
    lossy = Network(Conditions(latency=2.0, loss=0.5), 1)
    assert 400 < sum(lossy.transit() is None for _ in range(1000)) < 600
    assert sum(lossy.reliable() for _ in range(4000)) / 4000 == pytest.approx(2.0 + 4.0, rel=0.1)


@pytest.mark.parametrize("way", rivals.WAYS)
def test_a_run_repeats_itself(data: Digits, way: str) -> None:
    conditions = Conditions(latency=1.0, jitter=0.3, pauses=0.1, pause=2.0, loss=0.05)
    setting = Setting(way, 2, 1, conditions, rate=0.01)
    first, second = (rivals.trained(setting, data, 60.0) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert 0 < first["working"] <= 1
    if way not in ("data_parallel", "ring"):  # these have all that they need after one stage's work
        assert first["working"] < 0.9


def test_a_run_is_given_up_at_its_limits(data: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "STEPS", 5)
    local, locked = Setting("local", 2, 0), Setting("locked", 2, 0, Conditions(latency=100.0))
    by_limit, by_steps = rivals.trained(local, data, 12.0), rivals.trained(locked, data, 12.0)
    outrun = rivals.trained(local, data, 12.0, best=6.0)
    assert (by_limit["slower"], by_steps["slower"], outrun["slower"]) == (False, False, True)
    assert not by_steps["reached"]  # noise cannot be learned


def arguments(folder: Path, **more: Any) -> argparse.Namespace:
    given = {"study": "latency", "stages": [2], "latencies": [0.0, 3.0], "ways": ["locked", "asynchronous"]}
    given |= {"conditions": Conditions(), "seeds": 2, "limit": 50.0, "folder": folder}
    return argparse.Namespace(**(given | more))


def test_runs_are_kept_and_the_best_pipeline_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Setting] = []

    def trained(setting: Setting, data: object, limit: float, best: float) -> dict[str, Any]:
        done.append(setting)
        assert best == (10.0 + setting.seed if (setting.in_flight or 1) > 1 else math.inf)
        time = 10.0 * (setting.in_flight or 1) + setting.seed
        reached = {str(goal): {"time": time, "updates": 4, "mb": 1.0} for goal in rivals.GOALS}
        if setting.way == "locked":
            del reached["0.97"]
        return {"limit": limit, "reached": reached, "working": 0.5, "slower": False}

    monkeypatch.setattr(rivals, "trained", trained)
    Study(arguments(tmp_path)).train()
    count = len(done)
    assert len(set(done)) == count == 2 * (2 * 1 + 2 + len({8, 4, 2, 1}))
    study = Study(arguments(tmp_path))
    study.train()
    assert len(done) == count
    rows = {(row["way"], row["latency"]): row for row in study.rows()}
    assert rows["locked", 0.0]["0.97"] is None
    assert rows["locked", 0.0]["0.95"]["by_seed"] == [10.0, 11.0]
    assert rows["asynchronous", 3.0]["0.95"]["chosen"] == {"in_flight": 1}
    columns, lines = rivals.crossed(study.rows(), 0.97)
    assert columns == ["stages", "latency", "locked", "asynchronous"]
    assert [line["locked"] for line in lines] == [None, None]
    Study(arguments(tmp_path, limit=60.0)).train()
    assert {setting.way for setting in done[count:]} == {"locked"}  # given up too early for this limit
    assert not Study(arguments(tmp_path, seeds=3)).rows()


@pytest.mark.parametrize("study", ["rates", "stragglers", "free", "costs"])
def test_cells_of_the_other_studies(tmp_path: Path, study: str) -> None:
    found = list(rivals.cells(study, arguments(tmp_path)))
    assert len({json.dumps(cell) for cell, _ in found}) == len(found)
    settings = [setting for _, tried in found for setting in tried]
    assert len({setting.file for setting in settings}) >= len(found)
    for setting in settings:
        assert setting.ahead is None or not setting.conditions.loss
        assert setting.rows == 64 or setting.way in rivals.WAITING


def test_the_number_of_parts_of_a_pipeline_is_the_fastest(data: Digits) -> None:
    machines = Synchronous("1f1b", chain(data, 3), Network(Conditions(latency=1.0), 0), Costs())
    assert machines.parts == 32
    step = ways_module._Flushed(3, Network(Conditions(latency=1.0), 0), Costs(), 1)
    step.run(math.inf)
    assert step.now == pytest.approx(3 + 4)


def test_a_record_has_the_command_without_where_the_runs_are() -> None:
    words = [
        "--study",
        "free",
        "--table",
        "--folder",
        "somewhere",
        "--seeds",
        "3",
        "--folder=there",
        "--save",
    ]
    assert rivals._chosen_options(words) == ["--study", "free", "--seeds", "3", "--save"]


def test_the_first_look_that_finds_the_accuracy_counts() -> None:
    clock = [0.0]

    def run(until: float) -> None:
        clock[0] = until

    looks: list[float] = []

    def accuracy() -> float:
        looks.append(clock[0])
        return 0.96 if clock[0] >= 102.5 else 0.9

    assert virtual_time.reached(lambda: clock[0], run, accuracy) == pytest.approx(51 * 1.02**36, rel=0.02)
    assert looks[:3] == [1.0, 2.0, 3.0]
    clock[0] = 0.0
    assert virtual_time.reached(lambda: clock[0], run, lambda: 0.9) >= virtual_time.LIMIT


def test_the_scenario_of_the_comparison_is_the_chain_of_the_rivals() -> None:
    for way, kind in (("decoupled", "linear"), ("local", "local")):
        found = virtual_time.scenario(3, way)
        assert list(found.agents) == ["s0", "s1", "s2"]
        assert [channel.gradient.kind for channel in found.channels] == [kind, kind]
        assert all(channel.link.delay == 1 for channel in found.channels)
