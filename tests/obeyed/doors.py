"""Public callables whose every argument has an effect: how each is called, and other values of its arguments."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

import antiphon
from antiphon import Population, Simulation, comms, envs
from antiphon.scenarios import Scenario
from tests.distributed.virtual.profiles import profile
from tests.kit.documented import PartsSettings
from tests.kit.running import stack_sizes
from tests.obeyed.scenes import SCENES
from tests.obeyed.ways import Shown, shown_by
from tests.reference.backend import reference


@dataclass(frozen=True)
class Door:
    """A public callable, and what is tried at it.

    Attributes:
        function: Whose arguments are changed, one at a time.
        call: Calls it in an empty folder with some arguments, and returns all that it does.
        others: By argument, other values: each has an effect or is refused.
        unseen: By argument, why no other value can show here.
        partial: Whether another entry has the other arguments.
    """

    function: Callable[..., Any]
    call: Callable[..., Shown]
    others: Mapping[str, list[Any]] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False


PARTS = {"eye": 0, "hand": 1, "other": 0, "twin": 0}


def scene(**training: Any) -> Scenario:
    """Return the scenario of most doors: two agents alike, and one that tells one of them."""
    document = deepcopy(SCENES["told"])
    document["training"] |= training
    return Scenario.model_validate(document)


@contextlib.contextmanager
def _watched(shown: dict[str, Any]) -> Iterator[None]:
    """Note what is written to standard error and the numbers of threads that are set; the threads are set back."""
    threads, text, plain = torch.get_num_threads(), io.StringIO(), torch.set_num_threads
    counts: set[int] = set()

    def set_threads(count: int) -> None:
        counts.add(count)
        plain(count)

    try:
        with (
            contextlib.redirect_stderr(text),
            warnings.catch_warnings(),
            mock.patch.object(torch, "set_num_threads", set_threads),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        shown["threads"] = counts
        torch.set_num_threads(threads)
    shown["text"] = bool(text.getvalue())


def _files(folder: Path) -> dict[str, Any]:
    """Return the names of files, of event files their number."""
    names = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return {"files": sorted(name.partition("tfevents")[0] for name in names)}


def _simulation(folder: Path, **given: Any) -> Shown:
    if "exist" in given or "checkpoint_every" in given or "parts" in given:
        given = {"logdir": folder / "run", **given}
    if "exist" in given:
        Simulation(scene(), logdir=folder / "run").close()
        with Simulation(scene(), logdir=folder / "run") as before:
            before.run(2, progress=False)
    shown: Shown = {}
    with _watched(shown), Simulation(scene(), **given) as run:
        run.run(4, progress=False)
        shown |= {
            **shown_by(run),
            "stacks": stack_sizes(run),
            "backend": run.running.backend.name,
            "divided": run.graph.graph.get("parts"),
        }
    return {**shown, **_files(folder)}


def _run(folder: Path, **given: Any) -> Shown:
    shown: Shown = {}
    with _watched(shown), Simulation(scene(), logdir=folder / "run") as run:
        called: list[int] = []
        if "callbacks" in given:
            given = {"callbacks": [lambda simulation: called.append(simulation.now)]}
        run.run(**given)
        shown |= {**shown_by(run), "called": called}
    return shown


def _resume(folder: Path, **given: Any) -> Shown:
    with Simulation(scene(), logdir=folder / "run", checkpoint_every=2) as before:
        before.run(2, progress=False)
    with Simulation.resume(folder / "run", **given) as run:
        run.run(progress=False)
        divided = run.graph.graph.get("parts")
        return {**shown_by(run), **_files(folder), "divided": divided}


def _load(folder: Path, **given: Any) -> Shown:
    shown: Shown = {}
    with Simulation(scene(), seed=1) as before:
        before.run(2, progress=False)
        before.save(folder / "state")
    with _watched(shown), Simulation.load(folder / "state", **given) as run:
        run.run(2, progress=False)
        shown |= {**shown_by(run), "backend": run.running.backend.name}
    return shown  # with the numbers of threads that were set


def _evaluated(folder: Path, **given: Any) -> Shown:
    agents = {
        "eye": {"observes": ["observation"], "clock": {"unroll": 4}},
        "hand": {
            "acts": True,
            "objective": "a2c",
            "clock": {"unroll": 4},
            "network": {"kind": "mlp", "hidden": [4]},
        },
    }
    channel = {"from": "eye", "to": "hand", "size": 2, "link": {"noise": 3.0}}
    env = {"id": "antiphon/CartPole-v0", "limit": 9}
    document = {
        "scenario": "pole",
        "env": env,
        "agents": agents,
        "channels": [channel],
        "training": {"batch": 4},
    }
    with Simulation(Scenario.model_validate(document)) as run:
        return {"result": repr(run.evaluate(**given))}


def _virtual(folder: Path, **given: Any) -> Shown:
    shown: Shown = {}
    division: dict[str, Any] = {"cluster": profile(2, latency=0.1), "placement": PARTS}
    division |= {name: given.pop(name) for name in PartsSettings.__dataclass_fields__ if name in given}
    with _watched(shown), Simulation(scene(), parts=PartsSettings(**division), **given) as run:
        run.run(4, progress=False)
        facts = run.running.executor.facts
        shown |= {**shown_by(run), "metrics": run.metrics(), "events": run.events, "facts": facts}
    return {**shown, **_files(folder)}


def _population(folder: Path, **given: Any) -> Shown:
    shown: Shown = {}
    given = {"scenario": scene(), "seeds": [1, 2], **given}
    with _watched(shown):
        population = Population(**given)
        try:
            population.run(4)
            members = population.simulations
            shown |= {
                f"{i} {key}": value for i, one in enumerate(members) for key, value in shown_by(one).items()
            }
            shown["together"] = population.sequential_reason
        finally:
            population.close()
    return {**shown, **_files(folder)}


def _channel(folder: Path, **given: Any) -> Shown:
    torch.manual_seed(0)
    sender, receiver = nn.Linear(3, 4), nn.Linear(4, 2)
    parameters = [*sender.parameters(), *receiver.parameters()]
    given = {"size": 4, "context": {"label": 2}, **given}
    channel, optimiser = comms.Channel(**given), torch.optim.SGD(parameters, 0.1)
    for _ in range(4):
        x, label = torch.randn(5, 3), torch.randint(2, (5,))
        channel.send(sender(x).to(channel.dtype), **({"label": label} if given["context"] else {}))
        loss = nn.functional.cross_entropy(receiver(channel.receive().float()), label)
        comms.learn(loss, parameters, sent=[channel], received=[channel])
        optimiser.step()
        optimiser.zero_grad()
        channel.learn()
    values = {str(i): p.numpy(force=True).tobytes() for i, p in enumerate(parameters)}
    predictor = [p.numpy(force=True).tobytes() for p in channel.parameters()]
    return {**values, "predictor": predictor, "repr": repr(channel)}


def _hidden_channel(folder: Path, **given: Any) -> Shown:
    return _channel(folder, gradient={"kind": "mlp", "hidden": [3]}, **given)


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 5), nn.Linear(5, 4), nn.Linear(4, 10)
        self.other = nn.Linear(4, 10)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.second(torch.tanh(self.first(image.flatten(1)))))
        return self.head(hidden), self.other(hidden)


def _split(folder: Path, **given: Any) -> Shown:
    torch.manual_seed(0)
    if "parts" in given:
        given = {"model": None, "at": (), "output": None, **given}
    if "objectives" in given:
        given = {"output": None, **given}
    given = {
        "model": _Model(),
        "at": ["second"],
        "env": "antiphon/Digits-v0",
        "output": 0,
        "batch": 8,
        **given,
    }
    scenario = antiphon.split(**given)
    with Simulation(scenario, seed=1) as run:
        run.run(3, progress=False)
        return {**shown_by(run), "name": run.scenario.scenario, "telemetry": run.scenario.telemetry}


def _tensors(folder: Path, **given: Any) -> Shown:
    torch.manual_seed(0)
    data = {"x": torch.randn(40, 3), "label": torch.arange(40) % 3}
    return _played(envs.from_tensors(**{**data, **given}))


def _sequences(folder: Path, **given: Any) -> Shown:
    torch.manual_seed(0)
    lengths = [3, 5, 4, 2] * 5
    data = {"x": [torch.randn(n, 2) for n in lengths], "label": [torch.arange(n) % 3 for n in lengths]}
    data["of_all"] = [torch.arange(3.0) + i for i in range(20)]
    return _played(envs.from_sequences(**{"per_sequence": ["of_all"], **data, **given}))


def _loader(folder: Path, **given: Any) -> Shown:
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(40, 3), torch.arange(40) % 3)
    loader = torch.utils.data.DataLoader(data, 4)
    return _played(
        envs.from_loader(**{"loader": loader, "names": ("x", "label"), "classes": {"label": 3}, **given})
    )


def _played(source: Any) -> Shown:
    """Return what a source declares, and the signals of some steps of each of its splits."""
    shown: Shown = {"declared": repr(source.description)}
    for split in ("train", "validation", "test"):
        try:
            env = source.make(batch=4, split=split, device="cpu", dtype=torch.float32)
        except antiphon.AntiphonError as error:
            shown[split] = str(error)
            continue
        signals = env.reset(seed=1)
        shown[split] = repr([signals, *(env.step(None) for _ in range(4))])
    return shown


_TABLE = {
    "test": [0.5, {"x": torch.zeros(4, 3), "label": torch.arange(4) % 3}],
    "validation": [0.5, {"x": torch.ones(4, 3), "label": torch.arange(4) % 3}],
    "training_only": [["x"]],
    "classes": [{"label": 7}],
}
_STREAM = {"hold": [2], "episode": ["example"]}

DOORS: list[Door] = [
    Door(
        Simulation,
        _simulation,
        {
            "seed": [1],
            "device": ["meta", "cuda:99"],
            "dtype": [torch.float64, torch.float16],
            "exist": ["overwrite", "resume", "error"],
            "checkpoint_every": [1],
            "threads": [2],
            "backend": [reference, "native", "other"],
            "stacked": [False, "no"],
            "parts": [PARTS],
        },
        {
            "scenario": "see the settings of scenarios",
            "logdir": "is given with `exist` and `checkpoint_every`",
            "capture": "changes no bit on a GPU, and is refused elsewhere: see the next",
        },
    ),
    Door(Simulation, _simulation, {"capture": [True]}, partial=True),
    Door(
        Simulation.run,
        _run,
        {"steps": [2], "epochs": [0.005], "episodes": [1], "seconds": [1e-9], "callbacks": [()]},
        {"progress": "a line a minute, and a bar on a terminal"},
    ),
    Door(
        Simulation.resume,
        _resume,
        {"scenario": [scene(batch=3)], "checkpoint_every": [1], "parts": [PARTS]},
        {"logdir": "the run itself"},
    ),
    Door(
        Simulation.load,
        _load,
        {
            "scenario": [scene(batch=3)],
            "device": ["meta", "cuda:99"],
            "threads": [2],
            "backend": [reference],
        },
        {"path": "the state itself"},
    ),
    Door(
        Simulation.evaluate,
        _evaluated,
        {"split": ["train", "nowhere"], "links": ["own", "none"], "episodes": [2], "sampled": [True]},
    ),
    Door(
        PartsSettings,
        _virtual,
        {
            "count": [1, 0],
            "placement": [{"eye": 0, "hand": 1, "other": 1, "twin": 1}],
            "mode": ["lockstep", "other"],
            "delay": [2],
            "bits": [8],
            "ray": ["local"],
            "cluster": [profile(2, latency=5.0), profile(2, latency=0.1, compute={"step": 3})],
            "step_seconds": [[2.0, 7.0]],
            "free": [{"staleness": 1}],
        },
    ),
    Door(
        Simulation,
        _virtual,
        {
            "seed": [1],
            "device": ["meta"],
            "dtype": [torch.float64],
            "logdir": ["run"],
            "checkpoint_every": [1],
            "threads": [2],
            "backend": [reference, "native"],
            "capture": [True],
        },
        partial=True,
    ),
    Door(
        Population,
        _population,
        {"scenario": [scene(batch=3)], "seeds": [[1, 3]], "backend": [reference]},
        {
            "settings": "see the arguments of Simulation, which follow",
            "logdir": "see the next",
            "exist": "see the next",
        },
    ),
    Door(
        Population,
        _population,
        {
            "device": ["meta"],
            "dtype": [torch.float64],
            "logdir": ["run"],
            "exist": ["resume"],
            "checkpoint_every": [1],
            "threads": [2],
            "stacked": [True],
            "parts": [2],
            "capture": [True],
            "seed": [3],
            "nonsense": [1],
        },
        partial=True,
    ),
    Door(
        comms.Channel,
        _channel,
        {
            "size": [3],
            "gradient": ["mlp", {"kind": "linear", "scale": 0.5}, None],
            "context": [{}],
            "coupling": ["locked", "detached", "delayed"],
            "lr": [0.1],
            "name": ["nerve"],
            "device": ["meta"],
            "dtype": [torch.float64],
        },
        {"seed": "of hidden layers, which a linear gradient has none of: see the next"},
    ),
    Door(comms.Channel, _hidden_channel, {"seed": [1]}, partial=True),
    Door(
        antiphon.split,
        _split,
        {
            "model": [nn.Linear(3, 3)],
            "at": [["first"], 3],
            "class_axis": [0],
            "env": [{"id": "antiphon/Digits-v0", "hold": 2}],
            "inputs": [{"image": "label"}],
            "output": [1],
            "objective": [{"kind": "classification", "target": "label", "scale": 0.5}],
            "objectives": [{0: "label", 1: "label"}],
            "coupling": ["locked", "detached"],
            "gradient": ["mlp", {"kind": "mlp", "hidden": [3]}],
            "delay": [1],
            "bits": [8],
            "parts": [[nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), nn.Linear(5, 10)]],
            "scenario": ["another"],
            "telemetry": [{"period": 7}],
            "training": [3],
            "batch": [4],
            "optimiser": [{"kind": "sgd", "lr": 0.5}],
            "sweep": ["yes"],
        },
        {"tie": "is for a parameter in two parts: tests/splitting/test_runs.py"},
    ),
    Door(envs.from_tensors, _tensors, {**_TABLE, **_STREAM, "sampling": ["replacement"], "tensors": [1]}),
    Door(
        envs.from_sequences,
        _sequences,
        {
            "test": [0.5],
            "validation": [0.5],
            "training_only": [["x"]],
            "classes": [{"label": 7}],
            "per_sequence": [[]],
            "pad_to_multiple": [4],
            "sequences": [1],
        },
    ),
    Door(
        envs.from_loader,
        _loader,
        {
            "loader": [[(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))]],
            "names": [("a", "b")],
            "test": [[(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))]],
            "validation": [[(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))]],
            "training_only": [["x"]],
            "classes": [{"label": 7}],
            **_STREAM,
        },
    ),
]
"""Those whose arguments are not settings of a scenario."""
