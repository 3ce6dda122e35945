"""Public callables that use a run, or make many: how each is called, and other values of its arguments."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

import antiphon
from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.kit.documented import Links, ablate
from tests.obeyed.doors import Door, scene
from tests.obeyed.scenes import SCENES
from tests.obeyed.ways import Shown, shown_by

_POLE = {
    "scenario": "pole",
    "env": {"id": "antiphon/CartPole-v0", "limit": 5},
    "agents": {
        "eye": {"observes": ["observation"], "clock": {"unroll": 4}},
        "hand": {
            "acts": True,
            "objective": "a2c",
            "clock": {"unroll": 4},
            "network": {"kind": "mlp", "hidden": [4]},
        },
    },
    "channels": [{"from": "eye", "to": "hand", "size": 2}],
    "training": {"batch": 4},
}


def _pole() -> Simulation:
    return Simulation(Scenario.model_validate(_POLE))


def _lossy() -> Simulation:
    told = SCENES["told"]
    channel = {**told["channels"][0], "link": {"drop": 0.5}, "input": {"kind": "linear"}}
    return Simulation(Scenario.model_validate({**told, "channels": [channel]}))


def _policy(folder: Path, **given: Any) -> Shown:
    with _pole() as run:
        policy = run.policy(**given)
        seen = {"observation": np.zeros((20, 4), np.float32)}
        return {"actions": [policy.act(seen).tolist() for _ in range(3)]}


def _sampled_policy(folder: Path, **given: Any) -> Shown:
    return _policy(folder, greedy=False, **given)


def _exported(run: Simulation, folder: Path, name: str, given: dict[str, Any]) -> Shown:
    with run:
        path = run.export(given.pop("path", folder / name), **given)
    return {"name": path.name, "bytes": hashlib.sha256(path.read_bytes()).hexdigest()}


def _weights(folder: Path, **given: Any) -> Shown:
    return _exported(Simulation(scene()), folder, "weights.safetensors", given)


def _module(folder: Path, **given: Any) -> Shown:
    shown = _exported(_pole(), folder, "system.onnx", given)
    return {"bytes": shown["bytes"]}


def _film(folder: Path, **given: Any) -> Shown:
    return _exported(_pole(), folder, "film.gif", given)


def _links(folder: Path, **given: Any) -> Shown:
    with _lossy() as run:
        run.run(4, progress=False)
        return {"agents": run.evaluate("test", Links(**{"kind": "as_run", **given})).agents}


def _ablated(folder: Path, **given: Any) -> Shown:
    with _lossy() as run:
        run.run(4, progress=False)
        return {"found": repr(ablate(**{"simulation": run, "kind": "zero", **given}).channels)}


def _ablated_policy(folder: Path, **given: Any) -> Shown:
    with _pole() as run:
        found = ablate(run, "zero", **{"episodes": 1, **given})
        return {"found": str(found), "scores": repr(found)}


def _valued(folder: Path, **given: Any) -> Shown:
    with _lossy() as run:
        run.run(2, progress=False)
        return {"rows": repr(run.value(**{"horizon": 2, "repeats": 2, **given}).rows)}


def _forked(folder: Path, **given: Any) -> Shown:
    with Simulation(scene()) as run, run.fork(**given) as copy:
        copy.run(2, progress=False)
        return {
            **shown_by(copy),
            "backend": copy.running.backend.name,
            "stacked": copy.running.settings.stacked,
        }


def _weights_taken(folder: Path, **given: Any) -> Shown:
    with Simulation(scene(), seed=7) as source, Simulation(scene()) as run:
        source.save(folder / "source")
        taken = run.load_weights(**{"source": folder / "source", **given})
        return {**shown_by(run), "taken": str(taken)}


_JOB = "digits-mlp"
_SMALL = {"depth": 2, "width": 4, "batch": 4}


def _checked(folder: Path, **given: Any) -> Shown:
    found = antiphon.check(**{"scenario": _JOB, **given})
    return {"found": str(found), "ok": found.ok}


def _studied(folder: Path, **given: Any) -> Shown:
    how = {"scenario": _JOB, "variants": ["locked"], "values": _SMALL, "steps": 3, "seeds": 1, "jobs": 1}
    table = antiphon.study(**{**how, "logdir": folder / "study", **given})
    return {"table": table.to_pandas().drop(columns="seconds").to_csv(), "place": str(table.directory)}


def _studied_again(folder: Path, **given: Any) -> Shown:
    """A study of which there is one already, with a file that is lost where it is removed."""
    _studied(folder)
    (folder / "study/mark.txt").touch()
    return {**_studied(folder, **given), "mark": (folder / "study/mark.txt").exists()}


def _evolved(folder: Path, **given: Any) -> Shown:
    how: dict[str, Any] = {"scenario": _JOB, "values": _SMALL, "steps": 4, "members": 2, "progress": False}
    how |= {"vary": {"lr": [0.001, 0.1]}, "select": {"every": 2, "copy": 0.5}, "logdir": folder / "many"}
    found = antiphon.population(**{**how, **given})
    results = [
        json.loads(path.read_text())["agents"]
        for path in sorted(found.directory.glob("member-*/result.json"))
    ]
    return {"results": repr(results), "lineage": repr(found.lineage), "place": str(found.directory)}


def _validated(folder: Path) -> Path:
    """A template of networks that get worse, and are measured at every step."""
    text = antiphon.load(_JOB).text.replace(
        "parameters:\n",
        "parameters:\n  patience: {default: 9}\n  best: {choices: [null, accuracy], default: null}\n",
    )
    line = "  evaluate: {period: 1, patience: {loss: $patience}, keep_best: $best}\n"
    place = folder / "validated.yaml"
    place.write_text(text.replace("training:\n", f"training:\n{line}"))
    return place


def _studied_validated(folder: Path, **given: Any) -> Shown:
    values = {**_SMALL, "lr": 0.9, **given}
    shown = _studied(folder, scenario=_validated(folder), steps=9, values=values)
    return {**shown, "best": len([*folder.rglob("checkpoints/best")])}


def _evolved_validated(folder: Path, **given: Any) -> Shown:
    how = {"scenario": _validated(folder), "steps": 9, "vary": {"lr": [0.9, 0.8]}, "select": None}
    shown = _evolved(folder, values={**_SMALL, **given}, **how)
    return {**shown, "best": len([*folder.rglob("checkpoints/best")])}


_VALIDATION: dict[str, list[Any]] = {"patience": [1], "best": ["accuracy"]}
_NAMES: list[Any] = [[], "eye", ["nobody"]]
USES: list[Door] = [
    Door(
        Simulation.policy,
        _policy,
        {"greedy": [False]},
        {"seed": "is of random numbers, and there are none: see the next"},
    ),
    Door(Simulation.policy, _sampled_policy, {"seed": [3, -1, 1.5, "x"]}, partial=True),
    Door(
        Simulation.export,
        _weights,
        {
            "path": ["other.safetensors", "other.txt"],
            "agents": [["eye"], *_NAMES],
            "episodes": [2, 0],
            "actions": ["greedy", "other"],
        },
    ),
    Door(
        Simulation.export,
        _module,
        {"agents": _NAMES, "episodes": [2], "actions": ["greedy", "sampled", "other"]},
        partial=True,
    ),
    Door(
        Simulation.export,
        _film,
        {"agents": [["hand"], *_NAMES], "episodes": [2, 0, 1.5], "actions": ["greedy"]},
        partial=True,
    ),
    Door(Links, _links, {"kind": ["perfect", "other"], "drop": [0.9, 2, "x"], "inputs": [False]}),
    Door(
        ablate,
        _ablated,
        {
            "kind": ["mean", "resample", "other"],
            "split": ["validation", "other"],
            "channels": [[], ["nothing"]],
            "links": ["as_run", "other", None],
            "examples": [50, 0, 1.5],
            "episodes": [2],
            "sampled": [True],
        },
        {"simulation": "the run itself"},
    ),
    Door(ablate, _ablated_policy, {"episodes": [2, 0, 1.5], "examples": [3]}, partial=True),
    Door(
        Simulation.value,
        _valued,
        {
            "channels": [[], ["nothing"]],
            "horizon": [3, 0, 1.5],
            "repeats": [3, 1],
            "ahead": [1, -1, 0.5],
        },
    ),
    Door(Simulation.fork, _forked, {"backend": ["native", "other"], "stacked": [False, "no"]}),
    Door(
        Simulation.load_weights,
        _weights_taken,
        {"source": ["nowhere"], "agents": [["eye"], {"hand": "hand"}, *_NAMES]},
    ),
    Door(
        antiphon.study,
        _studied,
        {
            "scenario": ["eyes", "nothing"],
            "variants": [["detached"], ["nothing"]],
            "values": [{**_SMALL, "width": 6}, {"nothing": 1}],
            "grid": [{"lr": [0.1]}, {"nothing": [1]}, {"lr": []}],
            "tune": [{"lr": [0.1, 0.2]}, {"nothing": [1]}],
            "metric": ["loss", "nothing"],
            "seeds": [2, 0],
            "steps": [4, 0],
            "episodes": [2],
            "jobs": [0, 1.5],
            "logdir": ["here"],
            "device": ["meta", "cuda:99"],
        },
        {"exist": "see the next"},
    ),
    Door(
        antiphon.study,
        _studied_again,
        {"exist": ["number", "overwrite", "error", "never"]},
        partial=True,
    ),
    Door(
        antiphon.check,
        _checked,
        {
            "scenario": ["eyes", "nothing"],
            "variant": ["locked", "nothing"],
            "values": [{"depth": 3}, {"nothing": 1}],
        },
    ),
    Door(antiphon.study, _studied_validated, _VALIDATION, partial=True),
    Door(antiphon.population, _evolved_validated, _VALIDATION, partial=True),
    Door(
        antiphon.population,
        _evolved,
        {
            "scenario": ["eyes", "nothing"],
            "vary": [{"lr": [0.2, 0.3]}, {"nothing": [1, 2]}, {"width": [4, 8]}],
            "members": [3, 0],
            "select": [None, {"every": 3, "copy": 0.5}, {"every": 0}],
            "variant": ["local", "nothing"],
            "values": [{**_SMALL, "width": 6}],
            "steps": [6, 0],
            "seed": [1, 1.5],
            "logdir": ["here"],
            "until": [2, 0],
            "device": ["meta", "cuda:99"],
            "jobs": [0],
        },
        {
            "exist": "of a folder that is there: tests/jobs",
            "ray": "needs a cluster",
            "progress": "a line a minute, and a bar on a terminal",
        },
    ),
]
"""Those that are called with a run, and those that make several."""
