"""A user's own coupling: it is a class with keys, and the training step asks it as it asks antiphon's own."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import antiphon
from antiphon import Population, Scenario, Simulation
from antiphon.base.mask import NONE, Mask
from antiphon.comms import Coupling, CreditedMessage, ReadKind
from antiphon.engine.state.objects import check_apart
from antiphon.errors import RunError, ScenarioError, ScenarioWarning
from antiphon.scenarios import ChannelSpec, Template
from antiphon.testing import check
from tests.contracts.builders import LABEL, Document, Play, document, levels, ring
from tests.distributed.parts.stages import different, learned, stages
from tests.distributed.virtual.profiles import on_cluster, profile
from tests.engine.numbers import one_line
from tests.kit import seams
from tests.kit.commands import Commands

LINK: Document = {"link": {"delay": 1, "drop": 0.25}}
GRADIENT: Document = {"kind": "linear", "context": ["label"], "scale": 0.5, "discount": 0.3, "clip": 0.2}
SOON: Document = {"optimiser": {"kind": "sgd", "lr": 0.1}}


class Waiting(Coupling):
    """The returned gradient, which is waited for."""

    uses_returned = waits = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


class Predicting(Coupling):
    """The prediction."""

    predicts = allows_states = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.applied_prediction


class Joining(Coupling):
    """The graph of a window."""

    joins_endpoints = True

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        return ReadKind.WITH_GRAPH if same_window else ReadKind.CONSTANT


class Mixed(Coupling):
    """Returned and predicted gradient."""

    predicts = uses_returned = waits = True

    class Options(antiphon.Options):
        """Keys of the mixture.

        Attributes:
            share: Share of the returned gradient.
        """

        share: float = 0.5

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        if message.returned_gradient is None or message.applied_prediction is None:
            return None
        return torch.lerp(message.applied_prediction, message.returned_gradient, self.share)


class Soonest(Coupling):
    """The returned gradient where it has come back by the end of the window, else the prediction; it notes which."""

    predicts = uses_returned = True
    noted: ClassVar[dict[tuple[int, int], bool]] = {}
    """By step and stamp of a message: whether its gradient was back."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        here = message.returned_gradient is not None
        self.noted[step, message.stamp] = here
        return message.returned_gradient if here else message.applied_prediction


class Replayed(Coupling):
    """How far the present parameters have moved a message."""

    uses_returned = waits = True
    moved: ClassVar[list[float]] = []

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.moved.append(float((message.now - message.sent).abs().max()))
        return message.returned_gradient


class Flat(Coupling):
    """One number for each sample."""

    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.sent.sum(1)


def simulated(coupling: Any, steps: int = 12, stacked: bool = True, **keys: Any) -> Simulation:
    """Return two levels of agents, and a coupling of the channels between them, after some steps."""
    channel = {"coupling": coupling, "gradient": GRADIENT, **LINK, **keys.pop("channel", {})}
    agent = keys.pop("agent", {})
    scenario = Scenario.model_validate(
        levels(low=agent, high=agent, channel=channel, wide=True, **SOON, **keys)
    )
    simulation = Simulation(scenario, seed=3, dtype=torch.float64, stacked=stacked)
    simulation.run(steps)
    return simulation


def of_agents(simulation: Simulation) -> dict[str, Tensor]:
    with simulation:
        agents = simulation.agents.items()
        return {f"{a} {key}": p.detach().clone() for a, one in agents for key, p in one.parameters.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(
    ("own", "name", "keys"),
    [
        (Waiting, "delayed", {}),
        (Predicting, "decoupled", {}),
        (Joining, "locked", {"channel": {"link": {"delay": 1}}, "agent": {"clock": {"unroll": 3}}}),
    ],
)
def test_a_copy_of_a_coupling_computes_its_bits(
    own: type[Coupling], name: str, keys: Document, stacked: bool
) -> None:
    mine, theirs = (of_agents(simulated(one, stacked=stacked, **keys)) for one in (own, name))
    assert same(mine, theirs)
    assert not same(mine, of_agents(simulated("detached", stacked=stacked, **keys)))


@pytest.mark.parametrize(
    "keys", [{}, {"link": {"drop": 1}}, {"gradient": {"kind": "local", "target": "label"}}]
)
@pytest.mark.parametrize(
    ("own", "name"), [(Waiting, "delayed"), (Predicting, "decoupled"), (Joining, "locked")]
)
def test_advice_takes_one_for_a_learning_signal_as_antiphons_own(
    own: type[Coupling], name: str, keys: Document
) -> None:
    mine, theirs = (
        ChannelSpec.model_validate({"from": "a", "to": "b", "coupling": one, **keys}) for one in (own, name)
    )
    for asked in ("credits_from_receiver", "credits_without_returns"):
        assert getattr(mine.coupling, asked)(mine) is getattr(theirs.coupling, asked)(theirs)


def test_one_that_joins_graphs_loses_no_message() -> None:
    with one_line(
        "link.drop: must be 0 on a Joining channel, not 0.5; leave it out, or use another coupling"
    ):
        simulated(Joining, steps=0, channel={"link": {"drop": 0.5}})


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_state_may_have_one_that_says_so() -> None:
    recurrent = {"network": {"kind": "gru", "size": 4}, "observes": ["x"], "clock": {"unroll": 2}}

    def learned_by(own: Any) -> dict[str, Tensor]:
        state = {"coupling": own, "gradient": {"kind": "linear"}}
        scenario = Scenario.model_validate(ring(2, agent=recurrent, state=state, **SOON))
        simulation = Simulation(scenario, seed=3)
        simulation.run(12)
        return of_agents(simulation)

    assert same(learned_by(Predicting), learned_by("decoupled"))
    assert not same(learned_by(Predicting), learned_by("detached"))
    with one_line("a state channel cannot be Waiting"):
        learned_by(Waiting)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_what_comes_back_and_what_is_predicted_are_mixed_by_the_key() -> None:
    whole = {"gradient": {**GRADIENT, "scale": 1, "discount": 1, "clip": None}}
    returned = of_agents(simulated({"kind": Mixed, "share": 1}, channel=whole))
    assert same(returned, of_agents(simulated("delayed", channel=whole)))
    shares = [of_agents(simulated({"kind": Mixed, "share": share}, channel=whole)) for share in (0, 0.5)]
    assert not any(same(one, returned) for one in shares)
    assert not same(*shares)
    halved = {"gradient": {**GRADIENT, "scale": 0.5, "discount": 1, "clip": None}}
    assert not same(shares[1], of_agents(simulated(Mixed, channel=halved)))


def test_a_gradient_is_there_once_its_link_has_brought_it_back() -> None:
    """Of four messages, sent at steps 0 to 3 and read a step later, one gradient has taken its two steps back at step 3."""
    Soonest.noted.clear()
    slow = [{"clock": {"unroll": 4}}, {}]
    channel = [
        {"coupling": Soonest, "link": {"delay": [1, 2]}},
        {"coupling": "detached", "link": {"delay": 1}},
    ]
    scenario = Scenario.model_validate(ring(2, agent=slow, channel=channel, **SOON))
    whole = Simulation(scenario, seed=3)
    whole.run(8)
    back = [True, False, False, False]
    assert Soonest.noted == {(step, step - 3 + i): there for step in (3, 7) for i, there in enumerate(back)}
    Soonest.noted.clear()
    divided = Simulation(scenario, seed=3, parts=2)
    divided.run(8)
    assert list(Soonest.noted.values()) == 2 * back
    assert not different(learned(divided), learned(whole))
    whole.close()
    divided.close()


class OfMessage(Coupling):
    """The message itself, without a prediction or anything that returns."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.sent


@pytest.mark.parametrize(("own", "count"), [(OfMessage, 8), ("detached", 0)])
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_credit_of_the_message_alone_is_a_learning_signal(own: Any, count: int) -> None:
    agents: Document = {
        "a": {"observes": ["image"]},
        "b": {"objective": {"kind": "classification", "target": "label"}},
    }
    channel: Document = {"from": "a", "to": "b", "size": 4, "coupling": own}
    training: Document = {"batch": 4, "steps": 8}
    document: Document = {"scenario": "own", "env": {"id": "antiphon/Digits-v0"}}
    scenario = Scenario.model_validate(
        {**document, "agents": agents, "channels": [channel], "training": training}
    )
    with Simulation(scenario, seed=3) as simulation:
        simulation.run()
        assert simulation.agents["a"].updates == count
    assert ("a" in scenario.relations.reached) is (count > 0)


class Returned(Coupling):
    """The returned gradient, if it is back when the sender learns."""

    uses_returned = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_gradient_is_there_after_the_step_at_which_a_window_without_a_tick_completes_it() -> None:
    """The message of step 7 is read at 10, where an episode ends; the next one, to 12, has no tick, and completes its gradient."""
    Soonest.noted.clear()
    seen = {"observes": ["x"], "objective": LABEL}
    agents = {
        "a": {**seen, "clock": {"period": 5, "phase": 2, "unroll": 3}},
        "b": {**seen, "clock": {"period": 4, "phase": 2, "unroll": "episode"}},
    }
    channel = {"from": "a", "to": "b", "size": 2, "coupling": Soonest, "link": {"delay": [3, 0]}}
    scenario = Scenario.model_validate(document(agents, [channel], Play(lengths=(11, 2))))
    with Simulation(scenario, seed=3) as simulation:
        simulation.run(13)
    assert Soonest.noted == {(12, 2): True, (12, 7): False}


class Following(Coupling):
    """The graph, where another channel joins the ends."""

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        return ReadKind.WITH_GRAPH if same_window else ReadKind.CONSTANT


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_message_with_its_graph_that_is_lost_is_zeros() -> None:
    """Not the message: over a link that loses all, it is as if nothing was read."""

    def learned_with(coupling: Any) -> dict[str, Tensor]:
        document = levels(count=1, channel={"coupling": "locked"}, **SOON)
        (joined,) = document["channels"]
        lost = {**joined, "key": "lost", "coupling": coupling, "link": {"drop": 1}}
        simulation = Simulation(Scenario.model_validate({**document, "channels": [joined, lost]}), seed=3)
        simulation.run(6)
        return of_agents(simulation)

    assert same(learned_with(Following), learned_with("detached"))


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_agents_that_are_alike_do_not_become_of_one_window() -> None:
    """Each learns by itself: of a neighbour that does too there is no graph to read, stacked or not."""

    def learned_with(coupling: Any, **how: bool) -> dict[str, Tensor]:
        channel = {"coupling": coupling, "link": {"delay": 1}}
        scenario = Scenario.model_validate(ring(agent={"clock": {"unroll": 2}}, channel=channel, **SOON))
        simulation = Simulation(scenario, seed=3, **how)
        simulation.run(4)
        return of_agents(simulation)

    assert same(learned_with(Following), learned_with("detached", stacked=False))


class Always(Coupling):
    """The graph, of whatever window."""

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        return ReadKind.WITH_GRAPH


class AlwaysJoining(Always):
    """The same, where the endpoints learn as one."""

    joins_endpoints = True


@pytest.mark.parametrize(("own", "stamp"), [(Always, 1), (AlwaysJoining, 2)])
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_graph_of_another_window_is_refused(own: type[Coupling], stamp: int) -> None:
    """Windows of joined endpoints have two steps: the second message is read in the next one."""
    agent = {"clock": {"unroll": 2}}
    channel = {"coupling": own, "link": {"delay": 1}}
    read = f"channels[n3->n0].coupling: {own.__name__} reads the message of step {stamp} with its graph"
    fix = "which is of another window, and has none; return WITH_GRAPH from read_kind only if same_window"
    with (
        one_line(re.escape(f"{read}, {fix}")),
        Simulation(Scenario.model_validate(ring(agent=agent, channel=channel)), stacked=False) as simulation,
    ):
        simulation.run(4)


class WhereRead(Coupling):
    """The returned gradient in the rows in which a read counted, elsewhere the prediction; it notes both rows."""

    predicts = uses_returned = waits = True
    noted: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        if message.returned_gradient is None or message.applied_prediction is None:
            return message.applied_prediction
        counted = message.counted.tensor(len(message.sent), "cpu")
        self.noted.append((counted, message.returned_gradient.any(1)))
        return message.counted.where(message.returned_gradient, message.applied_prediction)


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_coupling_knows_in_which_rows_a_gradient_has_come_back() -> None:
    """Links lose a quarter of the messages."""
    WhereRead.noted.clear()
    simulated(WhereRead).close()
    counted, with_gradient = map(torch.cat, zip(*WhereRead.noted, strict=True))
    assert torch.equal(counted, with_gradient)
    assert 0.6 < counted.double().mean() < 0.9


class Unreturned(Coupling):
    """Nothing, without a declared use of the returned gradient; it notes of each message whether one is back, and where a read counted."""

    noted: ClassVar[list[tuple[bool, Mask]]] = []

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self._note(message)  # read by `credit` itself, it is refused
        return None

    def _note(self, message: CreditedMessage) -> None:
        self.noted.append((message.returned_gradient is None, message.counted))


class Helped(Coupling):
    """What comes back, read by a method of its own; else the prediction, if its option asks for one."""

    uses_returned = waits = True

    def __init__(self, share: float = 0.0) -> None:
        self.share = share

    @property
    def predicts(self) -> bool:  # type: ignore[override]
        return self.share > 0

    def returned(self, message: CreditedMessage) -> Tensor | None:
        return message.returned_gradient

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        gradient = self.returned(message)
        return message.applied_prediction if gradient is None else gradient


class Assigned(Coupling):
    """The prediction, by a credit of each object."""

    predicts = True

    def __init__(self) -> None:
        self.credit = lambda message, step: message.applied_prediction  # type: ignore[method-assign]


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
@pytest.mark.parametrize("own", [Helped, Assigned])
def test_what_credit_reads_may_be_read_elsewhere_or_asked_for_by_an_option(own: type[Coupling]) -> None:
    with simulated(own) as run:
        assert run.agents["a0"].updates > 0


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_no_read_has_counted_where_no_gradient_returns() -> None:
    """Not even for a message whose reads are over before its sender learns."""
    Unreturned.noted.clear()
    slow = [{"clock": {"unroll": 4}}, {}]
    document = levels(low=slow[0], high=slow[1], count=1, channel={"coupling": Unreturned}, **SOON)
    with Simulation(Scenario.model_validate(document), seed=3) as simulation:
        simulation.run(8)
    assert len(Unreturned.noted) == 8
    assert all(none_back and counted is NONE for none_back, counted in Unreturned.noted)


class Aged(Coupling):
    """The prediction, by half for each tick of the sender since; it notes the ages."""

    predicts = True
    ages: ClassVar[set[float]] = set()

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        age = (step - message.stamp) / message.tick_period
        self.ages.add(age)
        return None if message.applied_prediction is None else message.applied_prediction * 0.5**age


def test_a_credit_may_be_weighed_by_the_age_of_its_message_in_ticks() -> None:
    clock = {"period": 3, "unroll": 4}
    with simulated(Aged, steps=0, agent={"clock": clock}) as simulation:
        Aged.ages.clear()  # of trial calls
        simulation.run(20)
    assert Aged.ages == {0, 1, 2, 3}


def test_a_window_that_has_waited_is_replayed_with_the_present_parameters() -> None:
    Replayed.moved.clear()
    simulated(Replayed, channel={"link": {"delay": 1}}).close()
    assert len(Replayed.moved) > 10
    assert Replayed.moved[0] == 0  # nothing has been learned before
    assert 0 < Replayed.moved[-1] < 1


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
@pytest.mark.parametrize("back", [0, 20])
def test_a_window_without_a_delayed_gradient_has_the_credit_of_an_own_coupling(back: int) -> None:
    """Back after 20 steps, the delayed gradient is given up; that of the other channel reaches the sender all the same (rule 27b)."""
    seen = {"observes": ["x"], "objective": LABEL}
    agents: Document = {"a": {"observes": ["x"], "clock": {"unroll": 4}}, "b": seen, "c": seen}
    delayed = {
        "from": "a",
        "to": "b",
        "size": 2,
        "coupling": "delayed",
        "horizon": 1,
        "link": {"delay": [0, back]},
    }
    own = {"from": "a", "to": "c", "size": 2, "coupling": Returned}
    with Simulation(Scenario.model_validate(document(agents, [delayed, own])), seed=3) as simulation:
        simulation.run(20)
        assert simulation.agents["a"].updates > 2


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_windows_that_nothing_reaches_any_more_are_in_the_report_of_their_step() -> None:
    """Those of `a`, whose gradients are back after the horizon; each is skipped as the next one ends."""
    seen = {"observes": ["x"], "objective": LABEL}
    link = {"delay": [0, 20]}
    delayed = {"from": "a", "to": "b", "size": 2, "coupling": "delayed", "horizon": 1, "link": link}
    agents: Document = {"a": {"observes": ["x"], "clock": {"unroll": 4}}, "b": seen}
    skipped = {}
    with Simulation(Scenario.model_validate(document(agents, [delayed])), seed=3) as simulation:
        for step in range(16):
            simulation.step()
            for group, window in simulation.learned.skipped_windows:
                skipped[step] = group.agent_names, window.number
        assert simulation.agents["a"].updates == 0
    assert skipped == {7: (("a",), 0), 11: (("a",), 1), 15: (("a",), 2)}


class Resigned(Soonest):
    """The returned gradient, which is waited for, or in place of one that is given up the prediction."""

    waits = True


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_in_place_of_gradients_that_are_given_up_a_coupling_may_predict() -> None:
    """That of a message is back five steps later: of those of a window of four, all but the last one's within a horizon of one."""
    seen = {"observes": ["x"], "objective": LABEL}
    link = {"delay": [0, 5]}
    channel = {"from": "a", "to": "b", "size": 2, "coupling": Resigned, "link": link, "horizon": 1}
    agents: Document = {"a": {"observes": ["x"], "clock": {"unroll": 4}}, "b": seen}
    scenario = Scenario.model_validate(document(agents, [{**channel, "gradient": {"context": ["label"]}}]))
    Resigned.noted.clear()
    with Simulation(scenario, seed=3) as simulation:
        for step in range(16):
            simulation.step()
            assert not simulation.learned.skipped_windows
            assert simulation.agents["a"].updates == max(step + 1 - 4, 0) // 4
    assert Resigned.noted == {(stamp // 4 * 4 + 7, stamp): False for stamp in range(12)}


class Relaxed(Mixed):
    """A mixture that is waited for at first."""

    def waits_for(self, stamp: int, step: int) -> bool:
        return stamp < 4

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return (
            super().credit(message, step)
            if message.returned_gradient is not None
            else message.applied_prediction
        )


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_coupling_may_stop_waiting() -> None:
    """A message of step t and its gradient take a step each: a window that is waited for is learned from at step t + 2."""

    def updates(own: Any) -> list[int]:
        with simulated(own, steps=0, channel={"link": {"delay": 1}}) as simulation:
            return [(simulation.step(), simulation.agents["a0"].updates)[1] for _ in range(8)]

    assert updates("delayed") == [0, 0, 1, 2, 3, 4, 5, 6]
    assert updates("decoupled") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert updates(Relaxed) == [0, 0, 1, 2, 4, 6, 7, 8]  # at steps 4 and 5 two windows are learned from


@pytest.mark.long
@pytest.mark.parametrize("own", [Waiting, Predicting, Joining, Mixed, Relaxed])
def test_the_check_tries_it_alone_stacked_saved_and_in_parts(own: type[Coupling]) -> None:
    check(own, point="coupling")


@pytest.mark.long
@pytest.mark.parametrize("own", [Waiting, Predicting, Mixed, Soonest])
def test_machines_without_latency_compute_its_bits(own: type[Coupling]) -> None:
    scenario = stages(kind="linear", channel={"coupling": own, **({} if own.predicts else {"gradient": {}})})
    with (
        Simulation(scenario, seed=3, stacked=False) as one,
        on_cluster(scenario, profile(3), seed=3) as cluster,
    ):
        for _ in range(12):
            one.step()
            cluster.step()
        assert not different(learned(cluster), learned(one))


class Numbered(Predicting):
    """A prediction that grows with the calls: a state that no checkpoint has."""

    def __init__(self) -> None:
        self.calls = 0

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.calls += 1
        return message.applied_prediction * self.calls if message.applied_prediction is not None else None


class Early(Waiting):
    """What depends on where the channel is: parts of a run have objects of their own."""

    def __init__(self) -> None:
        self.first: list[int] = []

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.first.append(step)
        return None if message.returned_gradient is None else message.returned_gradient * len(self.first)


@pytest.mark.parametrize("own", [Numbered, Early])
def test_the_check_finds_a_state_that_is_not_saved(own: type[Coupling]) -> None:
    with pytest.raises(AssertionError, match=rf"{own.__name__}, (alone|in a stack|saved and resumed): "):
        check(own, point="coupling")


# --- in scenario files ---------------------------------------------------------------------------------------


@pytest.fixture
def _named() -> None:
    antiphon.coupling("mixed")(Mixed)


DOCUMENT = """
scenario: own
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image]}
  mind: {objective: {kind: classification, target: label}}
channels:
  - {from: eye, to: mind, size: 8, coupling: {kind: mixed, share: 0.25}, gradient: {context: [label]}}
training: {batch: 4, steps: 4}
"""


@pytest.mark.usefixtures("_named")
def test_its_keys_are_read_checked_and_written() -> None:
    scenario = Scenario.from_yaml(DOCUMENT)
    (channel,) = scenario.channels
    assert channel.coupling.name == "mixed"
    assert isinstance(channel.coupling, Mixed)
    assert channel.coupling.share == 0.25
    assert "coupling: {kind: mixed, share: 0.25}" in scenario.to_yaml()
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    bare = Scenario.from_yaml(DOCUMENT.replace("{kind: mixed, share: 0.25}", "mixed"))
    assert "coupling: mixed" in bare.to_yaml()
    for text, line in (
        (
            DOCUMENT.replace("share", "sahre"),
            "channels[0].coupling.sahre: unknown key 'sahre'; did you mean 'share'?",
        ),
        (
            DOCUMENT.replace("0.25", "much"),
            "channels[0].coupling.share: must be a number, not the word 'much'",
        ),
        (
            DOCUMENT.replace("kind: mixed", "kind: mixd"),
            "channels[0].coupling.kind: unknown kind 'mixd'; did you mean 'mixed'?",
        ),
        (
            DOCUMENT.replace("kind: mixed", "kind: delayed"),
            "channels[0].coupling.share: delayed has no share; leave it out, or use mixed",
        ),
        (
            DOCUMENT.replace("{kind: mixed, share: 0.25}", "mixd"),
            "channels[0].coupling: unknown coupling 'mixd'; did you mean 'mixed'?",
        ),
    ):
        with one_line(re.escape(line)):
            Scenario.from_yaml(text)


@pytest.mark.usefixtures("_named")
def test_another_process_registers_a_name_that_it_can_import(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Mixed):
        """A class that no other process finds."""

    antiphon.coupling("local-mixed")(Local)
    scenario = Scenario.from_yaml(DOCUMENT)
    sent, unknown = (
        pickle.dumps(scenario),
        pickle.dumps(Scenario.from_yaml(DOCUMENT.replace("kind: mixed", "kind: local-mixed"))),
    )
    monkeypatch.setitem(resolve_name(seams.REGISTERED), "coupling", {})
    with one_line(re.escape("channels[0].coupling.kind: unknown kind 'mixed'")):
        Scenario.from_yaml(DOCUMENT)
    assert pickle.loads(sent) == scenario
    assert Scenario.from_yaml(DOCUMENT) == scenario
    with one_line("unknown kind 'local-mixed'"):
        pickle.loads(unknown)


@pytest.mark.long
@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize("name", ["mixed", "predicting"])
def test_seeds_that_run_as_one_learn_what_each_learns_alone(tmp_path: Path, cli: Commands, name: str) -> None:
    antiphon.coupling("predicting")(Predicting)
    path = tmp_path / "own.yaml"
    path.write_text(DOCUMENT.replace("{kind: mixed, share: 0.25}", name), encoding="utf-8")
    words = "--steps 12 --logdir", tmp_path / "runs"
    together = cli.json("run", path, "--seeds 2 --name all", *words)
    for seed, found in enumerate(together["seeds"]):
        alone = cli.json("run", path, f"--seed {seed} --name one-{seed}", *words)
        assert found["agents"]["mind"]["loss"] == pytest.approx(alone["agents"]["mind"]["loss"], rel=1e-5)


@pytest.mark.usefixtures("_named")
def test_a_template_chooses_it() -> None:
    text = "parameters: {coupling: {default: mixed, choices: [mixed, locked]}}" + DOCUMENT.replace(
        "kind: mixed", "kind: $coupling"
    )
    template = Template.from_yaml(text)
    assert template.resolve().channels[0].coupling.name == "mixed"
    assert template.resolve(values={"coupling": "locked"}).channels[0].coupling.name == "locked"


@pytest.mark.usefixtures("_named")
def test_show_and_the_timeline_have_it(tmp_path: Path, cli: Commands) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    assert "mixed (share 0.25)" in cli("show", str(path))
    drawn = json.loads(cli("show", str(path), "--timeline", "--steps", "4", "--json"))
    (times,) = drawn["channels"].values()
    assert (times["coupling"], times["back"]) == ("mixed", [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("own", "line"),
    [
        (dict, "channels[0].coupling.kind: dict makes a dict; make it a subclass of antiphon.comms.Coupling"),
        (7, "channels[0].coupling: unknown coupling 7; known: "),
    ],
)
def test_what_is_no_coupling_is_refused(own: Any, line: str) -> None:
    with one_line(re.escape(line)):
        Scenario.model_validate(ring(channel={"coupling": own}))


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("joins_endpoint", True, "joins_endpoints"),
        ("wait", True, "waits"),
        ("use_returned", True, "uses_returned"),
        ("credits", lambda self, message, step: message.applied_prediction, "credit"),
    ],
)
def test_an_attribute_that_would_have_no_effect_is_refused(name: str, value: Any, nearest: str) -> None:
    line = rf"Half\.{name}: no coupling has '{name}'; did you mean '{nearest}'\? If it is your own, begin its name with '_'"
    with one_line(line):
        type("Half", (Predicting,), {name: value})
    type("Half", (Predicting,), {f"_{name}": value})


def test_so_is_one_of_a_base_that_is_no_coupling() -> None:
    class Shared:
        use_returned = True

    with one_line(r"Half\.use_returned: no coupling has 'use_returned'; did you mean 'uses_returned'\?"):
        type("Half", (Shared, Predicting), {})
    with one_line(re.escape(f"Half.credit: {OTHER} (self, message, step)")):
        type("Half", (type("Shared", (), {"credit": lambda self: None}), Predicting), {})


def test_helpers_and_options_of_ones_own_may_sound_like_a_couplings() -> None:
    def helper(self: Coupling) -> None: ...

    names = ("credit_of", "credited", "read", "waiting", "predict")
    type(
        "Half",
        (Predicting,),
        {**dict.fromkeys(names, helper), "problems": Coupling.problems, "problem": helper},
    )
    type("Half", (Predicting,), {**dict.fromkeys(["predict", "returned", "waiting", "carries"], True)})
    type("Half", (Predicting,), {**dict.fromkeys(["word", "world", "returns"], "of its own")})

    @dataclass
    class Option(Predicting):
        wait: bool = True

    class Given(Predicting):
        wait = joins = True

        def __init__(self, wait: bool = True, joins: bool = True) -> None:
            self.wait, self.joins = wait, joins

    assert Scenario.model_validate(ring(channel={"coupling": {"kind": Option, "wait": False}}))
    assert Scenario.model_validate(ring(channel={"coupling": {"kind": Given, "wait": False}}))


class Equal(Waiting):
    """Equal to others by a rule of its own, and without a hash of its own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)


@dataclass
class Fields(Waiting):
    share: float = 0.5


@dataclass(unsafe_hash=True)
class Hashed(Fields):
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Frozen(Waiting):
    share: float = 0.5


def test_couplings_differ_by_options_in_slots_and_by_those_that_their_equality_leaves_out() -> None:
    class Slotted(Waiting):
        __slots__ = ("share",)

        def __init__(self, share: float) -> None:
            self.share = share

    @dataclass(eq=False)
    class Apart(Waiting):
        share: float = 0.5

        def __eq__(self, other: object) -> bool:
            return True

    for kind in (Slotted, Apart, Frozen, Hashed):
        keys = [kind(share).stacking_key for share in (0.5, 0.5, 0.25)]
        assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("own", [Equal, Fields, Hashed, Frozen])
def test_couplings_with_an_equality_of_their_own_are_stacked(own: type[Coupling]) -> None:
    with simulated(own, steps=3, channel=LINK) as one, simulated(Waiting, steps=3, channel=LINK) as other:
        assert not different(learned(one), learned(other))


OTHER = "has other parameters than that of a coupling; let it take"


@pytest.mark.parametrize(
    ("name", "method", "line"),
    [
        ("credit", lambda self, message: None, f"{OTHER} (self, message, step)"),
        (
            "read_kind",
            lambda self, *, within, state: ReadKind.COUNTED,
            f"{OTHER} (self, *, same_window, is_state)",
        ),
        (
            "waits",
            lambda self, stamp: True,
            "is a method, and that of a coupling is a value; make it a property",
        ),
    ],
)
def test_a_method_that_cannot_be_called_as_a_couplings_is_refused(name: str, method: Any, line: str) -> None:
    with one_line(re.escape(f"Half.{name}: {line}")):
        type("Half", (Predicting,), {name: method})
    type(
        "Half", (Predicting,), {"credit": lambda self, *arguments: None, "waits": property(lambda self: True)}
    )


def test_a_credit_has_a_number_for_each_component() -> None:
    line = "channels[n0->n1].coupling: Flat gives a credit of [16], not [16, 4]; return a value for each component"
    with (
        one_line(re.escape(line)),
        Simulation(Scenario.model_validate(ring(channel={"coupling": Flat}))) as simulation,
    ):
        simulation.run(2)


class Halved(Coupling):
    """Half of the returned gradient, or of the prediction."""

    predicts = uses_returned = True
    returned: ClassVar[int] = 0
    """How many messages had a returned gradient."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        type(self).returned += message.returned_gradient is not None
        gradient = (
            message.applied_prediction if message.returned_gradient is None else message.returned_gradient
        )
        return None if gradient is None else self.half(gradient)

    def half(self, gradient: Tensor) -> Tensor:
        return gradient * 0.5


class HalvedInPlace(Halved):
    """The same, in place, as are its message's other tensors."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        message.sent.zero_()
        message.now.zero_()
        return super().credit(message, step)

    def half(self, gradient: Tensor) -> Tensor:
        return gradient.mul_(0.5)


@pytest.mark.parametrize(("unroll", "delay"), [(3, 1), (1, 0)])
@pytest.mark.parametrize("stacked", [True, False])
def test_a_credit_may_change_its_message_in_place(stacked: bool, unroll: int, delay: int) -> None:
    """Without a delay a predictor learns at the step of its prediction."""
    channel = {"link": {"delay": delay}, "gradient": {"kind": "linear", "gate": "none"}}
    same_words = {"stacked": stacked, "agent": {"clock": {"unroll": unroll}}, "channel": channel}
    first, second = (of_agents(simulated(one, **same_words)) for one in (Halved, HalvedInPlace))
    assert same(first, second)


def test_a_predictor_learns_from_a_returned_gradient_as_it_was_before_a_credit_changed_it() -> None:
    """A sender of longer windows has gradients back of some of its messages."""

    def learned_with(coupling: type[Halved]) -> tuple[int, dict[str, Tensor]]:
        coupling.returned = 0
        slow = [{"clock": {"unroll": 4}}, {}]
        channel = {"coupling": coupling, "link": {"delay": 1}}
        simulation = Simulation(Scenario.model_validate(ring(2, agent=slow, channel=channel)), seed=3)
        simulation.run(12)
        return coupling.returned, of_agents(simulation)

    (count, first), (second_count, second) = map(learned_with, (Halved, HalvedInPlace))
    assert count == second_count > 0
    assert same(first, second)


class Noisy(Halved):
    """The same with noise."""

    def half(self, gradient: Tensor) -> Tensor:
        return gradient + torch.randn_like(gradient)


def test_a_credit_draws_no_random_numbers() -> None:
    line = "channels[n0->n1].coupling: Noisy.credit draws random numbers, and a credit is of its message and step alone; draw them once, in __init__, from a torch.Generator with a seed"
    with (
        one_line(re.escape(line)),
        Simulation(Scenario.model_validate(ring(channel={"coupling": Noisy}))) as simulation,
    ):
        simulation.run(2)


class Fading(Halved):
    """Less at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def half(self, gradient: Tensor) -> Tensor:
        self.calls += 1
        return gradient / self.calls


class CountingFirst(Halved):
    """Counts at a step at which no coupling is tried: members are stepped together at first."""

    def __init__(self) -> None:
        self.calls = 0

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.calls += step == 0
        return super().credit(message, step)


def test_a_run_whose_coupling_keeps_a_state_does_not_go_on() -> None:
    scenario = Scenario.model_validate(ring(channel={"coupling": Fading}))
    line = (
        "^the coupling of n0->n1 keeps a state, which {}; compute its credit from the message and the step$"
    )
    with Simulation(scenario) as simulation:
        simulation.run(2)
        with one_line(line.format("no checkpoint has"), error=RunError):
            simulation.fork()
    later = Scenario.model_validate(ring(channel={"coupling": CountingFirst}))
    for several in (scenario, later):
        with one_line(line.format("several runs would share"), error=RunError):
            Population(several, [0, 1]).run(steps=4)


def test_the_first_checkpoint_says_that_no_run_can_go_on_from_it(tmp_path: Path) -> None:
    scenario = Scenario.model_validate(ring(channel={"coupling": Fading}))
    lost = "the coupling of n0->n1 keeps a state, which no checkpoint has"
    with Simulation(scenario, logdir=tmp_path / "run", checkpoint_every=2) as simulation:
        with pytest.warns(ScenarioWarning) as issued:
            simulation.run(8)
        lines = [str(warning.message) for warning in issued if "checkpoint" in str(warning.message)]
        assert [line.partition(";")[0] for line in lines] == [
            f"the run cannot go on from this checkpoint: {lost}"
        ]
    with one_line(lost, error=RunError):
        Simulation.resume(tmp_path / "run", scenario)


def test_problems_of_a_coupling_are_pairs() -> None:
    def problems(self: Coupling, channel: Any) -> Any:
        yield "no delay, please"

    silent = type("Silent", (Predicting,), {"problems": lambda self, channel: None})
    assert Scenario.model_validate(ring(channel={"coupling": silent}))
    line = "Told.problems yields 'no delay, please', not a key and its problem; yield pairs, such as ('link.drop', "
    with one_line(re.escape(f"channels[0].coupling: {line}")):
        Scenario.model_validate(
            ring(channel={"coupling": type("Told", (Predicting,), {"problems": problems})})
        )


@pytest.mark.parametrize(
    ("problems", "line"),
    [
        (
            lambda self, channel: "no delay, please",
            "Other.problems yields 'no delay, please', not a key and its",
        ),
        (lambda self, channel: True, "Other.problems yields True, not a key and its problem; yield pairs"),
        (lambda self, channel: [channel.nosuch], "<lambda> failed at test_own_couplings.py:"),
    ],
    ids=["text", "flag", "fails"],
)
def test_problems_that_are_no_pairs_or_fail_are_a_line(problems: Any, line: str) -> None:
    other = type("Other", (Predicting,), {"problems": problems})
    with one_line(re.escape(f"channels[0].coupling: {line}")):
        Scenario.model_validate(ring(channel={"coupling": other}))


class Table(Predicting):
    """Predictions with factors that were drawn once."""

    def __init__(self, size: int = 4) -> None:
        self.factors = torch.rand(size, generator=torch.Generator().manual_seed(0))

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        prediction = message.applied_prediction
        return None if prediction is None else prediction * self.factors


def test_couplings_that_have_tensors_are_compared_by_their_numbers() -> None:
    assert Table() == Table()
    assert Table() != Table(3)
    halved = Table()
    halved.factors = halved.factors / 2
    assert halved != Table()
    first, second = (of_agents(simulated(Table, stacked=stacked)) for stacked in (True, False))
    for name, parameter in first.items():
        torch.testing.assert_close(parameter, second[name], rtol=1e-12, atol=1e-12)


class Normed(Predicting):
    """Predictions of a batch with the norm 1, but very small ones."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        prediction = message.applied_prediction
        return None if prediction is None else prediction / prediction.norm().clamp_min(1e-6)


class Slower(Normed):
    """The same, and less at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.calls += 1
        credit = super().credit(message, step)
        return None if credit is None else credit / self.calls


@pytest.mark.parametrize("own", [Normed, Slower])
def test_a_credit_of_a_whole_batch_is_of_its_own_channel_alone(own: type[Coupling]) -> None:
    together, apart = (of_agents(simulated(own, stacked=stacked)) for stacked in (True, False))
    for name, parameter in together.items():
        torch.testing.assert_close(parameter, apart[name], rtol=1e-12, atol=1e-12)


def test_a_credit_of_a_whole_batch_is_of_its_own_seed_alone() -> None:
    scenario = Scenario.model_validate(ring(2, channel={"coupling": Normed, **LINK}, **SOON))
    with Simulation(scenario, seed=1, dtype=torch.float64) as one:
        one.run(6)
        population = Population(scenario, [0, 1], dtype=torch.float64)
        population.run(steps=6)
        assert population.sequential_reason == (
            "'n0->n1' runs unstacked: its credit for a sample depends on the others in its batch"
        )
        assert same(of_agents(one), of_agents(population.simulations[1]))
        population.close()


def test_runs_of_one_scenario_share_no_coupling() -> None:
    scenario = Scenario.model_validate(ring(2, channel={"coupling": Slower, **LINK}, **SOON))
    with Simulation(scenario) as first, Simulation(scenario) as second:
        first.run(4)
        second.run(4)
        assert same(of_agents(first), of_agents(second))


def test_runs_of_one_scenario_are_compared_until_a_credit_of_each_class_was_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[bool]()

    def asking(*systems: Any) -> bool:
        asked.append(check_apart(*systems))
        return asked[-1]

    monkeypatch.setattr("antiphon.jobs.populations.population.check_apart", asking)
    for kind in (Halved, Joining):
        asked.clear()
        Population(Scenario.model_validate(ring(channel={"coupling": kind})), [0, 1]).run(steps=6)
        assert asked[-1]
        assert asked.count(True) == 1


def test_a_class_is_no_word_of_a_scenario_file() -> None:
    seeing = {"observes": ["image"], "objective": {"kind": "classification", "target": "label"}}
    scenario = Scenario.model_validate(
        ring(channel={"coupling": Mixed}, agent=seeing, env={"id": "antiphon/Digits-v0"})
    )
    line = "channels[0].coupling: a Python Mixed cannot be written as YAML; give it a name with antiphon.register"
    with one_line(re.escape(line)):
        scenario.to_yaml()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (torch.tensor([True, False]), r"Tensor of shape \[2\]"),
        (np.zeros((2, 2), bool), r"ndarray of shape \[2, 2\]"),
        (None, "None"),
        ("no", "str"),
    ],
)
def test_what_is_no_answer_to_waits_for_is_refused(answer: Any, shown: str) -> None:
    class Asked(Waiting):
        def waits_for(self, stamp: int, step: int) -> bool:
            return answer  # type: ignore[no-any-return]

    with pytest.raises(ScenarioError, match=f"Asked.waits_for returns {shown}; return True or False"):
        Asked().has_to_wait(0, 1)
    answer = torch.tensor([True])
    assert Asked().has_to_wait(0, 1) is True
    answer = np.bool_(False)
    assert Asked().has_to_wait(0, 1) is False
