"""Grafts: a new run from a checkpoint of another, with weights of further runs; the runs themselves do not change."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.graft import AgentOfRun, Target, graft
from antiphon.engine.state.checkpoint import read
from antiphon.errors import DivergenceError, RunError
from antiphon.telemetry.csv_files import read_figures
from tests.engine.numbers import assert_same_state, equal, kept, one_line, parameters
from tests.engine.runs.test_python_runs import own
from tests.engine.scenes import CLASSIFY, scenario_of

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
STEPS = 12
NETWORK = {"kind": "mlp", "hidden": [6], "norm": "batch"}


def scenario(size: int = 3, eye: Mapping[str, Any] | None = None, **training: Any) -> Scenario:
    """A recurrent mind that listens to an eye over a link with a delay."""
    agents = {
        "eye": {"observes": ["image"], "network": NETWORK, **(eye or {})},
        "mind": {"network": {"kind": "gru", "size": 5}, "clock": {"unroll": 3}, "objective": CLASSIFY},
    }
    channels = [
        {"from": "eye", "to": "mind", "size": size, "link": {"delay": 2}},
        {"from": "mind", "to": "mind", "carries": "state", "gradient": {"kind": "linear"}},
    ]
    return scenario_of(agents, channels, batch=4, steps=STEPS, telemetry={"every": 3}, **training)


def trained(path: Path, made: Scenario, steps: int = STEPS, seed: int = 0, **settings: Any) -> Path:
    with Simulation(made, seed=seed, logdir=path, checkpoint_every=4, **settings) as simulation:
        simulation.run(steps=steps)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source, and a target that has not come to its end: to be read only."""
    folder = tmp_path_factory.mktemp("runs")
    source = trained(folder / "source", scenario(), seed=1)
    return source, trained(folder / "target", scenario(), steps=9, seed=2)


def test_a_grafted_run_goes_on_as_the_target_would_with_these_weights(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = runs
    before = contents(source), contents(target)
    found = graft(target, [(AgentOfRun(source, "eye"), "eye")], tmp_path / "new", command=["graft"])
    assert (contents(source), contents(target)) == before
    with Simulation.load(target) as expected, Simulation.load(tmp_path / "new") as grafted:
        assert grafted.now == found.step == 9
        assert equal(parameters(grafted, "mind"), parameters(expected, "mind"))
        expected.load_weights(source, ["eye"])
        assert_same_state(grafted, expected)
        expected.run(steps=3)
        with Simulation.resume(tmp_path / "new") as resumed:
            resumed.run()
            assert resumed.now == STEPS
            assert_same_state(*(kept(one.state_dict()["system"]) for one in (resumed, expected)))
    directory = RunDirectory.open(tmp_path / "new")
    assert (directory.facts["exit"], directory.result is not None) == ("done", True)
    assert {step for step, _ in read_figures(tmp_path / "new" / "metrics.csv")} == {12}


def test_its_directory_says_where_it_comes_from(runs: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = runs
    pairs = [(AgentOfRun(source, "eye"), "eye"), (AgentOfRun(source, "mind"), "mind")]
    facts = graft(target, pairs, tmp_path / "new", command=["antiphon", "graft"]).directory.facts
    newest = RunDirectory.open(source).checkpoints[-1]
    assert facts["origin"] == {"run": str(target), "checkpoint": "step-000000009", "step": 9}
    digest = read(newest)[0]["sha256"]
    assert facts["weights"] == [
        {
            "step": 9,
            "agent": name,
            "from": f"{source}:{name}",
            "from_step": STEPS,
            "sha256": digest,
            "kept": [],
            "optimiser": False,
        }
        for name in ("eye", "mind")
    ]
    assert (facts["exit"], facts["step"], facts["steps"], facts["seed"]) == ("stopped", 9, STEPS, 2)
    assert facts["command"] == ["antiphon", "graft"]
    assert RunDirectory.open(tmp_path / "new").document == RunDirectory.open(target).document
    again = graft(tmp_path / "new", pairs[:1], tmp_path / "again").directory.facts
    assert [each["agent"] for each in again["weights"]] == ["eye", "mind", "eye"]
    assert again["origin"]["run"] == str(tmp_path / "new")


def test_weights_loaded_in_a_run_are_noted_as_long_as_its_state_has_them(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    simulation = Simulation(scenario(), logdir=tmp_path / "run", checkpoint_every=4)
    simulation.run(steps=5)
    simulation.load_weights(runs[0], ["eye"])
    noted = RunDirectory.open(tmp_path / "run").facts["weights"]
    assert [(each["step"], each["from"]) for each in noted] == [(5, f"{runs[0]}:eye")]
    simulation.run(steps=1)
    simulation.load_weights(runs[0], ["mind"])
    simulation.close()
    newest = RunDirectory.open(tmp_path / "run").checkpoints[-1]
    shutil.rmtree(newest)  # as if it had been killed before its checkpoint
    with Simulation.resume(tmp_path / "run") as resumed:
        resumed.run(steps=1)
    assert [each["agent"] for each in RunDirectory.open(tmp_path / "run").facts["weights"]] == ["eye"]


def test_optimiser_states_are_taken_where_asked(runs: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = runs
    pairs = [(AgentOfRun(source, "eye"), "eye")]
    graft(target, pairs, tmp_path / "new", optimisers=True)
    graft(target, pairs, tmp_path / "fresh")
    states = [
        read(RunDirectory.open(path).checkpoints[-1])[1]["system"]["learners"]["eye"]
        for path in (source, tmp_path / "new", tmp_path / "fresh")
    ]
    theirs, taken, fresh = (each["optimiser"] for each in states)
    assert taken.keys() == theirs.keys()
    assert all(equal(taken[key], theirs[key]) for key in theirs)
    assert any(bool(tensor.any()) for tensor in theirs["mean"])
    assert not any(bool(tensor.any()) for each in fresh.values() for tensor in each)
    assert (states[0]["updates"], states[1]["updates"]) == (STEPS, STEPS)


@pytest.mark.parametrize("kind", ["RMSprop", "NAdam"])
def test_optimiser_states_of_torch_keep_the_settings_of_the_target(tmp_path: Path, kind: str) -> None:
    def made(name: str, decay: float, steps: int) -> Path:
        optimiser = {"kind": kind, "lr": 0.01, "options": {"weight_decay": decay}}
        return trained(tmp_path / name, scenario(optimiser=optimiser), steps)

    source, target = made("source", 0.1, 8), made("target", 0.2, 5)
    graft(target, [(AgentOfRun(source, "eye"), "eye")], tmp_path / "new", optimisers=True)
    (theirs,), (taken,) = (
        read(RunDirectory.open(path).checkpoints[-1])[1]["system"]["learners"]["eye"]["optimiser"]["torch"]
        for path in (source, tmp_path / "new")
    )
    assert taken["param_groups"][0]["weight_decay"] == 0.2
    for key, state in theirs["state"].items():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(taken["state"][key][n])) for n, v in state.items()
        )
    with Simulation.resume(tmp_path / "new") as resumed:
        resumed.run(steps=2)


def test_agents_of_other_shapes_are_refused_or_keep_the_layers_that_differ(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """The message is wider here: the eye's head and the mind's first layer are adaptors."""
    source = runs[0]
    target = trained(tmp_path / "target", scenario(size=4), steps=5, seed=2)
    pairs = [(AgentOfRun(source, name), name) for name in ("eye", "mind")]
    with one_line(
        r"source:eye does not fit 'eye': to_mind.weight \(\[3, 6\] in the run, \[4, 6\] here\), .*--adapt"
    ):
        graft(target, pairs, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    found = graft(target, pairs, tmp_path / "new", fit="layers")
    (taken,) = found.taken
    assert {name.rpartition(".")[0] for name in taken.left["eye"]} == {"to_mind", "to_mind.norm"}
    kept = {each["agent"]: each["kept"] for each in found.directory.facts["weights"]}
    assert kept["mind"] == ["cell.input.weight", "cell.input.bias"]
    with (
        Simulation.load(tmp_path / "new") as grafted,
        Simulation.load(target) as before,
        Simulation.load(source) as giver,
    ):
        for agent, names in kept.items():
            for name, value in grafted.agents[agent].parameters.items():
                other = before if name in names else giver
                assert torch.equal(value, other.agents[agent].parameters[name]), name
        grafted.run(steps=3)
        head = grafted.agents["eye"].parameters["to_mind.weight"]
        assert not torch.equal(head, before.agents["eye"].parameters["to_mind.weight"])


def test_a_layer_is_taken_as_a_whole(runs: tuple[Path, Path]) -> None:
    """Its bias fits, its weight does not: by tensors the bias is taken, by layers nothing of it."""
    with Simulation(scenario(eye={"observes": ["left_half"]})) as simulation:
        by_tensors = simulation.load_weights(runs[0], ["eye"])
        by_layers = simulation.load_weights(runs[0], ["eye"], "layers")
    assert list(by_tensors.left["eye"]) == ["0.weight"]
    assert by_layers.left["eye"].keys() == {"0.weight", "0.bias"}
    assert by_layers.left["eye"]["0.bias"] == "others of its layer differ"


def test_a_graft_starts_from_any_checkpoint(runs: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = runs
    early = RunDirectory.open(target).checkpoints[0]
    assert graft(early, [(AgentOfRun(source, "eye"), "eye")], tmp_path / "early").step == 8
    with Simulation.load(target) as simulation:
        alone = simulation.save(tmp_path / "alone")
    found = graft(alone, [(AgentOfRun(early, "eye"), "eye")], tmp_path / "new")
    assert found.directory.facts["origin"] == {"run": str(alone), "checkpoint": "alone", "step": 9}
    assert found.directory.facts["weights"][0]["from_step"] == 8
    with Simulation.resume(tmp_path / "new") as resumed:
        resumed.run(steps=1)
        assert resumed.now == 10


def test_changes_of_the_target_stay_in_force(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with Simulation(scenario(), logdir=tmp_path / "target") as simulation:
        simulation.run(steps=4)
        simulation.set("mind.learning_rate", 0.5)
        simulation.run(steps=2)
    found = graft(tmp_path / "target", [(AgentOfRun(runs[0], "eye"), "eye")], tmp_path / "new")
    assert found.directory.facts["changes"] == [(4, "mind.learning_rate", 0.5)]
    with Simulation.resume(tmp_path / "new") as resumed:
        assert resumed.scenario.agents["mind"].optimiser.lr == 0.5  # type: ignore[union-attr]


def test_python_objects_are_passed_again(tmp_path: Path) -> None:
    source, target = (trained(tmp_path / name, own(), 6, seed) for seed, name in enumerate(("a", "b")))
    pairs = [(AgentOfRun(source, "b"), "b")]
    with one_line("holds Python objects", RunError):
        graft(target, pairs, tmp_path / "new")
    with one_line("training.batch", RunError):
        graft(target, pairs, tmp_path / "new", scenario=own().with_training(batch=5))
    graft(target, pairs, tmp_path / "new", scenario=own())
    with Simulation.resume(tmp_path / "new", own()) as resumed, Simulation.load(source, own()) as giver:
        assert equal(parameters(resumed, "b"), parameters(giver, "b"))
        resumed.run(steps=2)


def test_what_cannot_be_grafted_is_refused_and_nothing_is_written(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = runs
    eye, new = AgentOfRun(source, "eye"), tmp_path / "new"
    with one_line("target has no agent 'eey'; did you mean 'eye'"):
        graft(target, [(eye, "eey")], new)
    with one_line("source has no agent 'eey'; did you mean 'eye'"):
        graft(target, [(AgentOfRun(source, "eey"), "eye")], new)
    with one_line("target:eye: takes the weights of two agents"):
        graft(target, [(eye, "eye"), (eye, "eye")], new)
    with one_line("neither a checkpoint nor a run", RunError):
        graft(tmp_path / "none", [(eye, "eye")], new)
    with one_line("fit='all'"):
        graft(target, [(eye, "eye")], new, fit="layers", optimisers=True)
    with one_line("does not fit 'mind'"):
        graft(target, [(eye, "mind")], new, fit="layers")
    sgd = trained(tmp_path / "sgd", scenario(optimiser={"kind": "sgd", "lr": 0.1}), steps=2)
    with one_line(r"sgd:eye is empty, that of 'eye' here is mean \[6, 64\]"):
        graft(target, [(AgentOfRun(sgd, "eye"), "eye")], new, optimisers=True)
    assert not list(tmp_path.glob("*new*"))
    new.mkdir()
    (new / "file").touch()
    with one_line("is there already and not empty", RunError):
        graft(target, [(eye, "eye")], new)
    assert contents(new) == {"file": b""}
    assert not list(tmp_path.glob(".*"))


def test_runs_that_cannot_go_on_are_no_targets(runs: tuple[Path, Path], tmp_path: Path) -> None:
    eye = AgentOfRun(runs[0], "eye")
    with (
        pytest.raises(DivergenceError),
        Simulation(scenario(optimiser={"kind": "sgd", "lr": 1e30}), logdir=tmp_path / "off") as simulation,
    ):
        simulation.run(steps=STEPS)
    with one_line("off: diverged and would do so again", DivergenceError):
        graft(tmp_path / "off", [(eye, "eye")], tmp_path / "new")
    with one_line("graft into an earlier checkpoint", RunError):
        graft(simulation.save(tmp_path / "alone"), [(eye, "eye")], tmp_path / "new")
    with one_line("virtual time", RunError):
        Target(GOLDEN / "1" / "virtual")
    target = trained(tmp_path / "parts", scenario(), steps=3)
    RunDirectory.open(target).note(parts={"mode": "free"})
    with one_line("did not wait", RunError):
        graft(target, [(eye, "eye")], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_agents_that_share_parameters_are_named_by_the_first(tmp_path: Path) -> None:
    shared = {"observes": ["image"], "network": NETWORK, "share": "pair"}
    channels = [{"from": name, "to": "mind", "size": 3, "port": "out"} for name in ("a", "b")]
    agents = {"a": shared, "b": shared, "mind": {"objective": CLASSIFY}}
    run = trained(tmp_path / "run", scenario_of(agents, channels, batch=4, steps=4), steps=4)
    with one_line("'b' shares the parameters of 'a'; name 'a'"):
        graft(run, [(AgentOfRun(run, "a"), "b")], tmp_path / "new")
    graft(run, [(AgentOfRun(run, "a"), "a")], tmp_path / "new")


@pytest.mark.parametrize("text", ["runs/first", "runs/first:", ":eye", ""])
def test_other_forms_name_no_agent(text: str) -> None:
    with one_line("write RUN:agent"):
        AgentOfRun.parse(text)
    assert AgentOfRun.parse("a:b/c:eye") == AgentOfRun(Path("a:b/c"), "eye")
