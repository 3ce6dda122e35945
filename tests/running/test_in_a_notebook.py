"""What a notebook shows: short texts, tables as HTML, and plots."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import antiphon
from antiphon.agents.models import ResNet
from antiphon.telemetry import read_run
from tests.kit.documented import ablate

LONGEST = 600
"""Characters of a printed object of a small scenario."""


@pytest.fixture(scope="module")
def simulation() -> Any:
    values = {"depth": 3, "width": 8, "batch": 8, "steps": 20}
    scenario = antiphon.load("digits-mlp").resolve(values=values)
    with antiphon.Simulation(scenario, seed=0) as simulation:
        simulation.channels["n0->n1"].record(["delta"])
        simulation.history  # noqa: B018 (kept from here on)
        simulation.run(steps=12, progress=False)
        yield simulation


def tables(shown: Any) -> list[list[list[str]]]:
    """Return the tables of what a notebook shows, by row and cell."""
    page = ElementTree.fromstring(f"<div>{shown._repr_html_()}</div>")
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in page.iter("table")
    ]


def test_a_simulation_shows_its_state_and_the_newest_metrics(simulation: Any) -> None:
    assert repr(simulation) == "<Simulation of digits-mlp: step 12 of 20, seed 0, 3 agents, 2 channels>"
    assert repr(simulation.graph) == "SimulationGraph with 3 nodes and 2 edges"
    agents, channels = tables(simulation)
    assert agents[0] == ["agent", "parameters", "updates", "accuracy", "loss"]
    assert [row[:3] for row in agents[1:]] == [["n0", "536", "12"], ["n1", "88", "12"], ["n2", "90", "12"]]
    accuracy = simulation.history.of("n2", "accuracy")[1][-1]
    assert agents[3][3] == f"{100 * accuracy:.2f} %"
    assert channels[0][:6] == ["channel", "coupling", "size", "delay", "cosine", "sg_loss"]
    newest = simulation.history.of("n0->n1", "cosine")[1][-1]
    assert channels[1][:5] == ["n0->n1", "decoupled", "8", "0", f"{newest:.4g}"]
    assert channels[2][0] == "n1->n2"
    assert (tables(simulation.agents), tables(simulation.channels)) == ([agents], [channels])
    with simulation.fork() as twin:
        before = twin.agents["n0"].parameters["0.weight"].clone()
        twin._repr_html_()
        assert torch.equal(before, twin.agents["n0"].parameters["0.weight"])
    assert repr(twin).endswith("2 channels, closed>")
    assert tables(twin)


def test_handles_are_one_line_each(simulation: Any) -> None:
    assert repr(simulation.agents["n0"]) == "<Agent n0: 536 parameters, 12 updates>"
    channel = simulation.channels["n0->n1"]
    assert repr(channel) == "<Channel n0->n1: decoupled, size 8, delay 0, 1 message held>"
    assert tables(simulation.agents["n0"]) == [
        [
            ["parameter", "shape"],
            ["0.weight", "[8, 64]"],
            ["0.bias", "[8]"],
            ["0.norm.gain", "[8]"],
            ["0.norm.bias", "[8]"],
        ]
    ]
    assert repr(channel.synthetic_gradient).startswith("<Model of last.weight [8, 18], last.bias [8], 12")
    assert repr(channel.messages) == "{11: <Message sent at step 11: [8, 8], a gradient returned, complete>}"
    assert repr(simulation.recordings) == "[<Recording of n0->n1: 12 of delta>]"
    assert tables(channel.metrics())[0][0] == ["metric", "value"]
    (newest,) = tables(channel)
    assert newest[0] == ["metric", "value", "step"]
    cosine = simulation.history.of("n0->n1", "cosine")[1][-1]
    assert ["cosine", f"{cosine:.4g}", "12"] in newest


def test_what_a_simulation_holds_is_short(simulation: Any) -> None:
    learned = "<AgentReport: updates of n0, n1, n2, n0->n1, n1->n2>"
    assert repr(simulation.learned) == learned
    assert repr(simulation.world).startswith("<EnvironmentRunner of ")
    assert repr(simulation.train_means) == "<MeanAccumulator of 3 agents>"
    module = simulation.agents["n0"].module
    assert "weight [8, 64], bias [8]" in repr(module)
    assert "weight [8, 64], bias [8]" in repr(pickle.loads(pickle.dumps(module)))


def test_environment_graph_and_events_are_tables(simulation: Any) -> None:
    (signals,) = tables(simulation.world)
    assert (signals,) == tuple(tables(simulation.signals))
    assert signals[1] == ["image", "float32", "[8, 1, 8, 8]", *signals[1][3:]]
    agents, channels = tables(simulation.graph)
    assert agents[0] == ["agent", "updates", "accuracy", "loss"]
    assert [row[0] for row in channels] == ["channel", "n0->n1", "n1->n2"]
    with simulation.fork() as twin:
        assert tables(twin.events) == []
        twin.set("*.lr", 0.002)
        (events,) = tables(twin.events)
        assert events[0] == ["step", "event"]
        assert events[1][0] == "12"
        assert twin.events == [(12, events[1][1])]


def test_held_messages_are_a_table(simulation: Any) -> None:
    (held,) = tables(simulation.channels["n0->n1"].messages)
    assert held == [
        ["sent at step", "shape", "gradient returned", "complete"],
        ["11", "[8, 8]", "yes", "yes"],
    ]


def test_the_graph_has_after_a_resume_what_was_logged_before(tmp_path: Path) -> None:
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 8, "batch": 8})
    with antiphon.Simulation(scenario, logdir=tmp_path / "a") as run:
        run.run(steps=3, progress=False)
        before = dict(run.graph.nodes(data=True)), list(run.graph.edges(data=True))
    with antiphon.Simulation.resume(tmp_path / "a") as resumed:
        assert (dict(resumed.graph.nodes(data=True)), list(resumed.graph.edges(data=True))) == before
        resumed.step()
        assert resumed.graph.nodes["n0"]["updates"] == 4, "not what was logged"


def test_a_run_that_is_read_is_a_table(tmp_path: Path) -> None:
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 8, "batch": 8})
    with antiphon.Simulation(scenario, logdir=tmp_path / "a") as run:
        run.run(steps=3, progress=False)
    data = read_run(tmp_path / "a")
    assert re.fullmatch(r"<RunData of a: \d+ metrics, messages of 1 channels>", repr(data))
    (rows,) = tables(data)
    assert rows[0] == ["of", "metric", "log entries", "newest step", "mean"]
    assert ["agent", "loss"] in [row[:2] for row in rows]


def test_measurements_are_tables(simulation: Any) -> None:
    score = simulation.evaluate()
    assert str(score) == repr(score)
    assert tables(score)[0][1] == ["n2 (readout)", f"{score.loss:.4g}", f"{100 * score.accuracy:.2f} %"]
    assert tables(score.agents)[0][1] == ["n2", *tables(score)[0][1][1:]]
    assert tables(simulation.history)[0][0] == ["agent", "accuracy", "loss"]
    ablation = ablate(simulation, "zero")
    assert [row[0] for row in tables(ablation)[0][1:]] == ablation.ranked()
    values = simulation.value(channels=[], horizon=2, repeats=2)
    assert tables(values)[0][1][0] == "all channels"
    probes = simulation.probe()
    assert repr(probes).count("<Probe: true [8, 8], cosine ") == 2
    cosine = f"{probes['n0->n1'].alignment['cosine']:.4g}"
    assert tables(probes)[0][1][:3] == ["n0->n1", "[8, 8]", cosine]
    assert tables(probes["n0->n1"])[0][1] == ["cosine", cosine]
    cuts = antiphon.cuts(ResNet(1, 10), torch.zeros(2, 1, 8, 8))
    assert len(tables(cuts)[0]) == 1 + len(cuts)
    for shown in (score, simulation.history, ablation, values):
        assert "object at 0x" not in repr(shown)
        assert len(repr(shown)) < LONGEST


def test_what_a_run_is_made_of_is_short() -> None:
    template = antiphon.load("digits-mlp")
    assert (
        repr(template) == "<Template digits-mlp: 10 parameters, variants locked, detached, local, decoupled>"
    )
    parameters, variants, *_ = tables(template)
    assert parameters[1][:3] == ["depth", "4", "int >= 2"]
    assert variants[1:3] == [["locked", "coupling='locked'"], ["detached", "coupling='detached'"]]
    scenario = antiphon.load("eyes").resolve()
    assert repr(scenario.agents["left"]) == "<AgentSpec: mlp of left_half, every step>"
    assert "classification of label" in repr(scenario.agents["mind"])
    of_left = "<ChannelSpec left->mind: decoupled, linear gradient, size 32, delay 0>"
    assert str(scenario.channels[0]) == repr(scenario.channels[0]) == of_left
    agents = {
        "a" * 60: {"observes": ["image"]},
        "b": {"objective": {"kind": "classification", "target": "label"}},
    }
    channels = [{"from": "a" * 60, "to": "b"}]
    env = {"id": "antiphon/Digits-v0"}
    many = antiphon.Scenario(scenario="long", env=env, agents=agents, channels=channels)
    assert len(repr(many.channels[0])) <= 80
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    source = antiphon.envs.from_tensors(x=x, label=(x[:, 0] > 0).long())
    assert repr(source) == "<Source of x, label: train 45, validation 6, test 13>"
    assert tables(source)[0][2] == ["label", "–", "one of 2", "objectives and predictors"]
    with antiphon.Population("digits-mlp", [0, 1]) as members:
        assert repr(members) == "<Population of digits-mlp: 2 members, step 0>"
        assert tables(members) == [[["member", "seed"], ["0", "0"], ["1", "1"]]]
        members.run(steps=1)
        assert tables(members)[0][0] == ["member", "seed", "loss", "accuracy"]
    policy = {"observes": ["observation"], "acts": True, "objective": "ppo"}
    env = {"id": "antiphon/CartPole-v0"}
    with antiphon.Simulation(antiphon.Scenario(scenario="pole", env=env, agents={"motor": policy})) as player:
        assert repr(player.policy()) == "<Policy of motor: greedy>"
        assert tables(player.policy())[0][1][:3] == ["motor", "observation", "acts"]


@pytest.mark.long
def test_studies_and_populations_are_tables(tmp_path: Path) -> None:
    small = {"depth": 2, "width": 8, "batch": 8}
    table = antiphon.study(
        "digits-mlp",
        variants=["locked", "detached"],
        values=small,
        steps=5,
        seeds=1,
        jobs=1,
        logdir=tmp_path / "a",
    )
    assert [row[0] for row in tables(table)[0]] == ["variant", "locked", "detached"]
    vary = {"lr": {"from": 1e-4, "to": 1e-1, "log": True}}
    members = antiphon.population(
        "digits-mlp", vary=vary, values=small, members=3, steps=4, logdir=tmp_path / "b", progress=False
    )
    assert tables(members)[0][0] == ["member", "score (accuracy)", "lr"]
    assert re.fullmatch(r"\d\.\d% ± .*|\d+\.\d+ % ± .*", tables(members)[0][1][1])


PNG = b"\x89PNG"


@pytest.mark.long
def test_a_plot_has_a_panel_for_each_metric(simulation: Any) -> None:
    pytest.importorskip("matplotlib")
    history, channel = simulation.history, simulation.channels["n0->n1"]
    figure = history.plot()
    assert figure._repr_png_().startswith(PNG)  # without pyplot, IPython has nothing else to show
    assert channel.plot()._repr_png_().startswith(PNG)
    assert [axes.get_title() for axes in figure.axes] == ["accuracy", "loss", "cosine", "sg_loss"]
    assert figure.get_supxlabel().startswith("2 log entries; telemetry: {period: 1} in the scenario")
    steps, cosines = history.of("n0->n1", "cosine")
    (line,) = channel.plot("cosine").axes[0].get_lines()
    assert list(line.get_xdata()) == list(steps)
    assert str(list(line.get_ydata())) == str(list(cosines))  # the first one is nan
    assert [len(axes.get_lines()) for axes in history.plot(["loss", "updates"]).axes] == [1, 3]
    with pytest.raises(
        antiphon.ScenarioError, match="no metric 'acuracy' is logged; did you mean 'accuracy'"
    ):
        history.plot("acuracy")
    with pytest.raises(antiphon.ScenarioError, match="no agent or channel 'nosuch' is logged") as refused:
        history.plot(names="nosuch")
    known = str(refused.value).partition("known: ")[2].split(", ")
    assert len(known) == len({*known}) > 3
    with pytest.raises(antiphon.ScenarioError, match="n0->n1 has no loss"):
        channel.plot("loss")
    with pytest.raises(antiphon.ScenarioError, match=r"^plot: no metric is chosen; name one"):
        history.plot([])
    with simulation.fork() as twin, pytest.raises(antiphon.RunError, match="no metrics have been logged"):
        twin.channels["n0->n1"].plot()


def test_of_many_curves_the_mean_and_the_range_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    scenario = antiphon.load("ring-of-many").resolve(values={"agents": 12})
    with antiphon.Simulation(scenario) as ring:
        (axes,) = ring.run(steps=2, progress=False).plot("parameter_norm").axes
    (line,) = axes.get_lines()
    assert line.get_label() == "mean of 12"
    assert len(axes.collections) == 1


def test_what_is_recorded_is_a_table(simulation: Any) -> None:
    recording = simulation.recordings[0]
    assert tables(recording)[0][1] == ["delta", "12", "[8, 8]", "0", "11"]
    signals = simulation.signals
    assert repr(signals) == "<Signals: image [8, 1, 8, 8], label [8]>"
    assert [row[:3] for row in tables(signals)[0][1:]] == [
        ["image", "float32", "[8, 1, 8, 8]"],
        ["label", "int64", "[8]"],
    ]


def test_settings_show_what_differs_from_the_defaults_and_no_module_tree() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 10))
    scenario = antiphon.split(model, at=[2], env="antiphon/Digits-v0")
    (channel,) = scenario.channels
    assert repr(channel.gradient) == "gradient(kind='local', target='label', network=<SiteHead>)"
    assert "\n" not in f"{channel.gradient}"
    assert ["network", "<SiteHead>"] in tables(channel.gradient)[0]
    assert ["from", "'part0'"] in tables(channel)[0]
    (agent,) = (tables(scenario.agents[name])[0] for name in ("part1",))
    assert "objective" in [row[0] for row in agent]
    assert repr(antiphon.Scenario(**scenario.model_dump()).channels[0].gradient) == repr(channel.gradient)
