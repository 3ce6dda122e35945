"""Checkpoints: a state on disk as tensors (safetensors) and JSON, from which its simulation can be built again.

What is in it: `LiveSystem.state_dict`, with the agents and channels of `state_dict.snapshot`.

Nothing is pickled. `running/directory.py` has which of a run's checkpoints are kept.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.base.errors import RunError, ScenarioError, suggest
from antiphon.base.files import (
    FORMAT,
    SIZES,
    STATE,
    VERSION,
    checkpoints,
    given_path,
    is_checkpoint,
    read_json,
    reading,
    sync_file,
    sync_folder,
    unwritable,
    write_json,
    write_text,
)
from antiphon.base.problems import DocumentError
from antiphon.base.problems import Path as DocumentPath
from antiphon.engine.state.compatibility import described_scenario, first_difference, with_saved_links
from antiphon.engine.state.packing import pack, unpack
from antiphon.engine.state.trees import mapped
from antiphon.scenarios import Scenario

_TENSORS = "state.safetensors"


def copy_tree(value: Any) -> Any:
    return mapped(value, lambda leaf: leaf.data.clone() if isinstance(leaf, Tensor) else leaf)


def write_simulation(
    path: Path,
    scenario: Scenario,
    dtype: torch.dtype,
    state: dict[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> Path:
    """Write a checkpoint folder, whole or not at all, in place of one that is there, and return its path.

    RunError where it cannot be written, or the folder holds something else; `sizes`: bytes of the files of its run that grow.
    """
    if path.exists() and not is_checkpoint(path) and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(f"{path}: already exists and is not a checkpoint; choose another path")
    try:
        document: str | None = scenario.to_yaml()
    except ScenarioError:  # holds Python objects: whoever loads it must bring the scenario along
        document = None
    tree, tensors = pack(state)
    facts = {
        "format": FORMAT,
        "antiphon": VERSION,
        "scenario": document,
        **({} if document is not None else {"described": described_scenario(scenario)}),
        "seed": state["seed"],
        "step": state["now"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        new = temporary / _TENSORS
        save_file(_apart(tensors), new)
        new.chmod(temporary.stat().st_mode & 0o666)  # the library leaves it to its writer alone
        with new.open("rb") as file:
            sync_file(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        write_text(temporary / STATE, json.dumps({**facts, "sha256": digest, "state": tree}))
        if sizes is not None:
            write_json(temporary / SIZES, sizes)
        _replace(path, temporary)
    except SafetensorError as error:  # the disk is full
        raise unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _replace(path: Path, new: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    finally:
        if old.exists() and not path.exists():  # refused, or a second signal
            os.replace(old, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def read(
    path: Path,
    device: torch.device | str = "cpu",
    select: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and the state of a checkpoint folder, or what `select` leaves of it: other tensors are not read into memory.

    RunError where it is missing, damaged, or of another format.
    """
    facts, tensors = read_json(path / STATE), path / _TENSORS
    with reading(tensors), tensors.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
            raise RunError(f"{tensors}: is damaged; delete this checkpoint to continue from an earlier one")
    tree = facts.pop("state")
    tree = tree if select is None else select(tree)
    with safe_open(tensors, framework="pt", device=str(device)) as saved:
        return facts, unpack(tree, lambda number: saved.get_tensor(str(number)))


def latest(path: str | Path) -> Path:
    """Return the newest checkpoint of a run directory, or the path itself where it is one; RunError where there is none."""
    path = given_path(path)
    if is_checkpoint(path):
        return path
    saved_paths = checkpoints(path)
    if not saved_paths:
        raise RunError(
            f"{path}: neither a checkpoint nor a run with one; give a run directory that has checkpoints/"
        )
    return saved_paths[-1]


def _apart(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them, by number: none in the memory of another."""
    separate, held = dict[str, Tensor](), set[int]()
    for number, tensor in enumerate(tensors):
        memory = tensor.untyped_storage()
        shared = memory.nbytes() != tensor.nbytes or memory.data_ptr() in held
        held.add(memory.data_ptr())
        separate[str(number)] = tensor.clone() if shared else tensor
    return separate


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says of its simulation."""

    path: Path
    scenario: Scenario
    seed: int
    dtype: torch.dtype
    state: dict[str, Any]

    @property
    def obstacle(self) -> str | None:
        """Why no step can follow; None: a run can be continued from it."""
        if self.state["env"] is not None:
            return None
        if "virtual" in self.state:
            return (
                f"{self.path}: belongs to a run in virtual time, which cannot be continued; start a new one"
            )
        reason = self.state.get("unsaved")
        lack = f"cannot be saved ({reason})" if reason else "has no state_dict"
        return (
            f"{self.path}: its environment {lack}, so the run cannot be continued; "
            "load its agents into another run with `parameters: RUN:agent`"
        )


def read_simulation(path: Path, scenario: Scenario | None, device: torch.device | str) -> Saved:
    """Read a checkpoint folder, or a run directory's newest; RunError where it is missing or damaged, or needs its scenario."""
    folder = latest(path)
    facts, state = read(folder, device)
    document, dtype = facts["scenario"], getattr(torch, facts["dtype"])
    if scenario is None and document is None:
        raise RunError(
            f"{folder}: its scenario holds Python objects; load it with scenario=… "
            "(on the command line: --scenario MODULE:FUNCTION)"
        )
    if scenario is None:
        scenario = Scenario.from_yaml(document, str(folder / STATE))
    if scenario.automatic:
        saved = facts.get("described") or described_scenario(
            Scenario.from_yaml(document, str(folder / STATE))
        )
        scenario = with_saved_links(scenario, saved)
    return Saved(folder, scenario, facts["seed"], dtype, state)


_KINDS = ("parameters", "buffers")


def read_weights(learner: Learner, source: str, path: DocumentPath) -> None:
    """Fill a learner with the parameters, running statistics and module state of an agent of another run, `RUN:agent`.

    DocumentError where there is no such run or agent, or its shapes differ.
    """
    run, _, agent = source.rpartition(":")

    def learners_of(state: dict[str, Any]) -> dict[str, Any]:
        """By agent; of others the names alone, so that their tensors are not read."""
        learners = state["system"]["learners"].items()
        return {name: {key: saved[key] for key in _KINDS if name == agent} for name, saved in learners}

    try:
        _, learners = read(latest(run), select=learners_of)
    except RunError as error:
        raise DocumentError(path, str(error)) from None
    if agent not in learners:
        raise DocumentError(path, f"run {run} has no agent '{agent}'{suggest(agent, learners)}")
    saved, present = learners[agent], {key: getattr(learner, key) for key in _KINDS}
    shapes, own = (
        {key: {name: list(t.shape) for name, t in by_name.items()} for key, by_name in tensors.items()}
        for tensors in (saved, present)
    )
    if (difference := first_difference(shapes, own)) is not None:
        where, there, here = difference
        fix = "give both agents of one make"
        raise DocumentError(path, f"{'.'.join(where)} of '{agent}' is {there} there and {here} here; {fix}")
    for name, parameter in learner.parameters.items():
        parameter.data.copy_(saved["parameters"][name])
    learner.put_statistics(
        {name: buffer.to(learner.buffers[name]) for name, buffer in saved["buffers"].items()}
    )
