"""Synthetic inputs in a running scenario: where they stand in, what comes back for it, what they learn from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.synthetic_inputs import InputModel
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import Consumption, Delivery
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.builders import ring
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

BATCH, SIZE = 12, 4
NAME = "eye->mind"
DOUBLE = torch.float64
SGD = {"kind": "sgd", "lr": 0.05}


def pair(**channel: Any) -> Scenario:
    """Two linear agents, each seeing half of a digit; the second knows its class."""
    clocks = channel.pop("clocks", ({}, {}))
    agents = {
        "eye": {"observes": ["left_half"], "network": LINEAR_MAP, "clock": clocks[0]},
        "mind": {
            "observes": ["right_half"],
            "network": LINEAR_MAP,
            "objective": CLASSIFY,
            "clock": clocks[1],
        },
    }
    link = {"from": "eye", "to": "mind", "size": SIZE, "norm": "none", "gradient": {"context": ["label"]}}
    link["input"] = {"context": ["right_half"], "optimiser": SGD}
    return scenario_of(agents, [{**link, **channel}], batch=BATCH)


def channel_of(simulation: Simulation) -> Channel:
    return simulation._system.channels[NAME]


def model_of(simulation: Simulation) -> InputModel:
    model = channel_of(simulation).input
    assert model is not None
    return model


def halves(simulation: Simulation) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right half [B, 32] and label [B] of the coming step."""
    signals = simulation.world.step_signals.signals
    return signals["left_half"].flatten(1), signals["right_half"].flatten(1), signals["label"]


def linear(simulation: Simulation, agent: str, inputs: Tensor) -> Tensor:
    """What an agent without hidden layers says of its inputs, with its parameters of now."""
    weight, bias = simulation.agents[agent].parameters.values()
    return F.linear(inputs, weight.clone(), bias.clone())


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Delivery]]:
    """Everything that receivers consume, as they do."""
    found: list[tuple[int, Delivery]] = []
    genuine = GradientLedger.use

    def use(ledger: GradientLedger, step: int, reading: Delivery) -> Consumption | None:
        found.append((step, reading))
        return genuine(ledger, step, reading)

    monkeypatch.setattr(GradientLedger, "use", use)
    return found


def lost_at(simulation: Simulation, stamp: int) -> Tensor:
    lost = channel_of(simulation).ledger.link.lost(stamp, BATCH, "cpu")
    return torch.zeros(BATCH, dtype=torch.bool) if lost is None else lost


@pytest.mark.parametrize("coupling", ["decoupled", "unlocked"])
def test_it_is_read_where_the_message_is_missing_and_only_there(
    coupling: str, uses: list[tuple[int, Delivery]]
) -> None:
    with Simulation(pair(coupling=coupling, link={"drop": 0.4}), dtype=DOUBLE) as simulation:
        simulation.run(20)
        for step in range(20, 30):
            left, right, _ = halves(simulation)
            message = linear(simulation, "eye", left)
            expected = model_of(simulation).predict(right, BATCH)
            simulation.step()
            missing = lost_at(simulation, step) | (coupling == "unlocked")
            at, reading = uses[-1]
            assert at == step
            assert reading.value is not None
            assert torch.equal(reading.value, torch.where(missing.unsqueeze(1), expected, message))
            assert expected.norm() > 0.1
            assert missing.any()


@pytest.mark.parametrize(
    ("coupling", "stands_in"), [("decoupled", True), ("decoupled", False), ("unlocked", True)]
)
def test_what_comes_back_for_a_stand_in_is_learned_on_the_real_message(
    coupling: str, stands_in: bool
) -> None:
    expects = {} if stands_in else {"input": None}
    with Simulation(pair(coupling=coupling, link={"drop": 0.4}, **expects), dtype=DOUBLE) as simulation:
        simulation.run(20)
        for step in range(20, 25):
            left, right, label = halves(simulation)
            message = linear(simulation, "eye", left)
            lost = lost_at(simulation, step)
            read = message
            if stands_in:
                missing = lost | (coupling == "unlocked")
                read = torch.where(missing.unsqueeze(1), model_of(simulation).predict(right, BATCH), message)
            said = linear(simulation, "mind", torch.cat([right, read], 1))
            error = said.softmax(1) - F.one_hot(label, 10)
            delta = error @ next(iter(simulation.agents["mind"].parameters.values()))[:, -SIZE:]
            simulation.step()
            example = simulation.learned.predictor_updates[NAME].examples[-1]
            assert torch.equal(example.message, message)
            assert example.context is not None
            assert torch.equal(example.context.argmax(1), label)
            assert example.delta is not None
            counts = torch.ones_like(lost) if stands_in else ~lost
            assert torch.allclose(example.delta, torch.where(counts.unsqueeze(1), delta, 0.0), atol=1e-14)
            assert torch.equal(counts if example.valid is None else example.valid, counts)


def test_it_learns_what_arrived_by_squared_error_and_nothing_else() -> None:
    with Simulation(pair(link={"drop": 0.4}), dtype=DOUBLE) as simulation:
        for step in range(6):
            left, right, _ = halves(simulation)
            weight, bias = (p.clone() for p in model_of(simulation).parameters.values())
            arrived = ~lost_at(simulation, step)
            error = F.linear(right, weight, bias) - linear(simulation, "eye", left)
            error = torch.where(arrived.unsqueeze(1), error, 0.0)
            simulation.step()
            assert torch.allclose(simulation.learned.input_updates[NAME].loss, error.square().sum() / BATCH)
            after = list(model_of(simulation).parameters.values())
            assert torch.allclose(after[0], weight - 0.05 * 2 / BATCH * error.T @ right, atol=1e-14)
            assert torch.allclose(after[1], bias - 0.05 * 2 / BATCH * error.sum(0), atol=1e-14)


def test_a_link_that_loses_everything_teaches_it_nothing_and_the_rest_learns_on() -> None:
    with Simulation(pair(link={"drop": 1.0}), dtype=DOUBLE) as simulation:
        before = [p.clone() for p in model_of(simulation).parameters.values()]
        simulation.run(10)
        assert equal(before, model_of(simulation).parameters.values())
        assert model_of(simulation).predict(torch.randn(3, 32, dtype=DOUBLE), 3).norm() == 0
        assert simulation.learned.predictor_updates[NAME].loss > 0
        assert simulation.learned.updates[0].injected[NAME].norm() > 0


def test_an_unlocked_receiver_never_sees_the_message() -> None:
    """Another sender, the same receiver: bits of its first update differ only through the synthetic input."""
    found = []
    for factor in (1.0, -3.0):
        with Simulation(pair(coupling="unlocked"), dtype=DOUBLE) as simulation:
            weight = next(iter(simulation.agents["eye"].parameters.values()))
            weight.data.mul_(factor)
            simulation.step()
            found.append(parameters(simulation, "mind"))
            assert model_of(simulation).parameters["last.weight"].norm() > 0
    assert equal(*found)


def test_its_context_is_of_the_moment_of_the_message_it_stands_in_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Tensor] = []
    genuine = InputModel.predict

    def predict(model: InputModel, context: Tensor | None, rows: int) -> Tensor:
        assert context is not None
        asked.append(context.clone())
        return genuine(model, context, rows)

    monkeypatch.setattr(InputModel, "predict", predict)
    slow: tuple[dict[str, int], dict[str, int]] = ({}, {"period": 3, "phase": 1})
    scenario = pair(coupling="unlocked", link={"delay": 2, "rate": 0.5}, clocks=slow)
    stamps = {4: 2, 7: 4, 10: 8, 13: 10}  # sent at 0 2 4 …, under way for two steps, read at 1 4 7 10 13
    with Simulation(scenario) as simulation:
        seen: dict[int, Tensor] = {}
        for step in range(14):
            seen[step] = halves(simulation)[1].clone()
            simulation.step()
            assert len(asked) == (step in stamps)
            if asked:
                assert torch.equal(asked.pop(), seen[stamps[step]])


def test_held_and_age_are_those_of_the_newest_that_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []

    def predict(model: InputModel, context: Tensor | None, rows: int) -> Tensor:
        assert context is not None
        asked.append(context.clone())
        return torch.zeros(rows, SIZE)

    monkeypatch.setattr(InputModel, "predict", predict)
    scenario = pair(
        coupling="unlocked", link={"drop": 0.5, "delay": 1, "bits": 3}, input={"context": ["age", "held"]}
    )
    with Simulation(scenario) as simulation:
        held, stamp_held = torch.zeros(BATCH, SIZE), torch.full((BATCH,), -1)
        due = torch.zeros(BATCH, SIZE)
        for step in range(14):
            sent = linear(simulation, "eye", halves(simulation)[0])
            simulation.step()
            if step:
                (context,) = asked
                age = torch.where(stamp_held >= 0, step - 1 - stamp_held, 0)
                columns = {"age": age.unsqueeze(1).float(), "held": held}
                names = channel_of(simulation).input_ends
                assert torch.equal(context, torch.cat([columns[name] for name in names], 1))
                came = ~lost_at(simulation, step - 1)
                held = torch.where(came.unsqueeze(1), due, held)
                stamp_held = torch.where(came, step - 1, stamp_held)
                asked.clear()
            due = channel_of(simulation).ledger.link.carry(step, sent)
        assert (held != 0).any()


def test_evaluation_over_perfect_links_does_without_it() -> None:
    with Simulation(pair(coupling="unlocked", link={"drop": 0.4})) as simulation:
        simulation.run(30)
        perfect, as_run = simulation.evaluate(), simulation.evaluate(links="as_run")
        model_of(simulation).parameters["last.bias"].data.fill_(50.0)
        assert simulation.evaluate() == perfect
        assert simulation.evaluate(links="as_run").agents != as_run.agents


def test_the_figures_say_what_the_link_does() -> None:
    link = {"drop": 0.4, "bits": 3, "rate": 0.5, "delay": 1}
    with Simulation(pair(link=link, clocks=({"period": 2}, {}))) as simulation:
        simulation.run(20)
        figures = simulation.channels[NAME].figures()
        assert 0 < figures["lost"] < 1
        assert figures["stand_in"] == figures["lost"]
        assert figures["si_loss"] > 0
        assert (
            figures["traffic"] == SIZE * 3 / 4
        )  # at every other tick of an agent that ticks at every other step
        assert 1 <= figures["age"] <= 4
        assert 0 < figures["distortion"] < 1
    with Simulation(pair(coupling="unlocked")) as simulation:
        simulation.run(5)
        figures = simulation.channels[NAME].figures()
        assert (figures["lost"], figures["stand_in"]) == (0.0, 1.0)
        assert figures["traffic"] == SIZE * 32
    with Simulation(pair(link={"noise": 0.5})) as simulation:
        simulation.run(5)
        assert simulation.channels[NAME].figures()["distortion"] == pytest.approx(0.5, rel=0.3)
    with Simulation(pair(input=None, link={"drop": 0.4})) as simulation:
        simulation.run(5)
        assert not {"stand_in", "si_loss", "distortion"} & simulation.channels[NAME].figures().keys()


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (["label"], "label.*training-only"),
        (["returned"], "returned"),
        (["lable"], "lable"),
        (["right_halv"], "right_half"),
    ],
)
def test_what_it_may_not_know_is_refused(context: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        Simulation(pair(input={"context": context}))
    assert "\n" not in str(caught.value)
    assert str(caught.value).partition(":")[0] in (
        "channels[eye->mind].input.context",
        "channels[0].input.context[0]",
    )


def test_an_unlocked_channel_needs_one() -> None:
    with pytest.raises((ScenarioError, ValueError), match="input"):
        Simulation(pair(coupling="unlocked", input=None))


def test_one_that_diverges_stops_the_run_before_any_of_its_parameters_moves() -> None:
    with Simulation(pair()) as simulation:
        simulation.run(2)
        model = model_of(simulation).parameters
        model["last.weight"].data.fill_(1e38)
        before = [p.clone() for p in model.values()], parameters(simulation, "mind")
        with pytest.raises(DivergenceError, match=NAME):
            simulation.step()
        assert equal(before[0], model.values())
        assert equal(before[1], parameters(simulation, "mind"))


@pytest.mark.parametrize("scene", ["reference", "engine", "stacks"])
def test_predictors_and_input_models_follow_the_schedules_of_their_own_rates(scene: str) -> None:
    """The schedule ends at step 6, at a rate of nothing: from there on they stand, and agents go on."""
    own = {"kind": "sgd", "lr": 0.05, "schedule": {"kind": "cosine", "factor": 0.0}}
    how = {"gradient": {"context": ["label"], "optimiser": own}, "link": {"delay": 1, "drop": 0.4}}
    if scene == "stacks":
        how["input"] = {"kind": "linear", "context": ["x"], "optimiser": own}
        scenario, agent = Scenario.model_validate(ring(channel=how, steps=6)), "n0"
    else:
        how["input"] = {"context": ["right_half"], "optimiser": own}
        scenario, agent = pair(**how).with_training(steps=6), "mind"
    backend = "reference" if scene == "reference" else "cohort"
    with Simulation(scenario, backend=backend) as simulation:
        simulation.run(4)
        for steps, stands in ((1, False), (1, False), (3, True)):
            channel = next(iter(simulation._system.channels.values()))
            models = [model for model in (channel.predictor, channel.input) if model is not None]
            before = [[p.data.clone() for p in model.parameters.values()] for model in models]
            weights = parameters(simulation, agent)
            simulation.run(steps)
            channel = next(iter(simulation._system.channels.values()))
            models = [model for model in (channel.predictor, channel.input) if model is not None]
            for model, values in zip(models, before, strict=True):
                assert equal(values, model.parameters.values()) == stands
            assert not equal(weights, parameters(simulation, agent))
        assert len(models) == 2
