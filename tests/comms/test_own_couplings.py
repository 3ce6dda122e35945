"""A user's own coupling: it is a class with keys, and the training step asks it as it asks antiphon's own."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import antiphon
from antiphon import Scenario, Simulation
from antiphon.base.mask import NONE, Mask
from antiphon.comms import Coupling, CreditedMessage, ReadKind
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
        self.noted.append((message.returned_gradient is None, message.counted))
        return None


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
    line = "channels[0].coupling.sahre: unknown key 'sahre'; did you mean 'share'?"
    with one_line(re.escape(line)):
        Scenario.from_yaml(DOCUMENT.replace("share", "sahre"))


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


@pytest.mark.usefixtures("_named")
def test_show_and_the_timeline_have_it(tmp_path: Path, cli: Commands) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    assert "mixed (share 0.25)" in cli("show", str(path))
    drawn = json.loads(cli("show", str(path), "--timeline", "--steps", "4", "--json"))
    (times,) = drawn["channels"].values()
    assert (times["coupling"], times["back"]) == ("mixed", [1, 2, 3, 4])


def test_a_credit_has_a_number_for_each_component() -> None:
    line = "channels[n0->n1].coupling: Flat gives a credit of [16], not [16, 4]; return a value for each component"
    with (
        one_line(re.escape(line)),
        Simulation(Scenario.model_validate(ring(channel={"coupling": Flat}))) as simulation,
    ):
        simulation.run(2)
