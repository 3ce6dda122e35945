"""Checkpoints: a state on disk as tensors (safetensors) and a manifest (JSON), from which its simulation can be built again.

What is in it: `BaseSimulation.state_dict`, with the agents and channels of `state_dict.snapshot`.

Nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from antiphon.errors import ResourceError, RunError, ScenarioError
from antiphon.files import (
    check_folder,
    digest_of,
    parse_json,
    read_bytes,
    sync_file,
    sync_folder,
    unwritable,
    write_text,
)
from antiphon.formats import FORMATS, OWN, check_format, migrated
from antiphon.nets.memory import give_back, was_refused
from antiphon.scenarios import Scenario

__all__ = [
    "FORMAT",
    "Saved",
    "checkpoints",
    "copy_tree",
    "from_bytes",
    "latest",
    "read",
    "read_simulation",
    "to_bytes",
    "write",
    "write_simulation",
]

FORMAT = FORMATS["checkpoint"].version
"""Version of state.json and of the state in it."""
_TENSOR = "\x00tensor"
_OWN_DIGEST = "manifest_sha256"
"""Key of the manifest's digest of its other entries, the last one; older checkpoints lack it."""
_WRITTEN = re.compile(rb', "manifest_sha256": "([0-9a-f]{64})"\}\Z')
_BEGINNING = re.compile(rb'\{"format": ([0-9]{1,9}), (?:"antiphon": "([0-9a-z.]{1,20})",)?')
_LARGEST = 2**30
"""Bytes of state.json, at most."""
_ENTRIES: dict[str, type | UnionType] = {
    "format": int,
    "antiphon": str | None,
    "sha256": str,
    "scenario": str | None,
    "described": dict | None,
    "seed": int,
    "step": int,
    "dtype": str,
    "state": dict,
}
"""Of a manifest, with their kinds."""


def copy_tree(value: Any) -> Any:
    """Return a deep copy of a state, with tensors cloned."""
    if isinstance(value, Tensor):
        return value.data.clone()
    if isinstance(value, dict):
        return {key: copy_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copy_tree(item) for item in value]
    return value


def write(path: Path, manifest: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        path: The folder; a checkpoint that is there is replaced.
        manifest: Plain data kept beside the state.
        state: A tree of dicts with string keys, lists, plain values and tensors.

    Raises:
        RunError: The folder cannot be written, or holds something else.
    """
    if (
        path.exists()
        and not (path / "state.json").is_file()
        and not (path.is_dir() and not any(path.iterdir()))
    ):
        raise RunError(f"{path}: is there and no checkpoint; choose another path")
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, tensors)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / "state.safetensors")
        with (temporary / "state.safetensors").open("rb") as file:
            sync_file(file)
        digest = digest_of(temporary / "state.safetensors")
        facts = {
            "format": FORMAT,
            "antiphon": OWN,
            "sha256": digest,
            **manifest,
            "state": tree,
        }
        text = json.dumps(facts)
        text = f'{text[:-1]}, "{_OWN_DIGEST}": "{_sha256(text.encode())}"}}'
        write_text(temporary / "state.json", text)
        if path.exists():
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            finally:
                if not path.exists():  # refused, or a second signal
                    os.replace(old, path)
            sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
            sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    except SafetensorError as error:
        known = re.search(r"os error (\d+)", str(error))
        number = int(known[1]) if known else errno.EIO
        raise unwritable(path, OSError(number, os.strerror(number))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(
    path: Path,
    device: torch.device | str = "cpu",
    part: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest and the state of a checkpoint folder.

    Whether it is damaged is decided by its digests alone; any other error is of another kind.

    Args:
        path: The folder.
        device: Of the tensors.
        part: Selects what of the state is returned; tensors of other parts are not read into memory. None: all.

    Raises:
        RunError: It is missing, damaged, or of a newer format.
        ResourceError: Its tensors do not fit into memory.
    """
    check_folder(path)
    if not all((path / name).exists() for name in ("state.json", "state.safetensors")):
        raise RunError(f"{path}: no checkpoint there (state.json and state.safetensors)")
    manifest = _manifest(path)
    if digest_of(path / "state.safetensors") != manifest["sha256"]:
        raise _damaged(path, "state.safetensors is not what was written (checksum)")
    try:
        tree = migrated("checkpoint", manifest.pop("state"), manifest["format"])
        tree = tree if part is None else part(tree)
        tensors = _load(path / "state.safetensors", device, None if part is None else _keys(tree))
    except (KeyError, TypeError, AttributeError):
        raise _damaged(path, "state.json has not the parts of a state") from None
    except SafetensorError as error:
        raise _damaged(path, f"state.safetensors cannot be read ({error})") from None
    except OSError as error:
        raise RunError(f"{path}: the checkpoint cannot be read ({error.strerror or error})") from None
    except (MemoryError, RuntimeError) as error:
        if not was_refused(error):
            raise
        size = (path / "state.safetensors").stat().st_size / 2**20
        raise ResourceError(
            f"{path}: out of memory: its tensors need {size:,.0f} MiB on {device}; choose another device, or free memory"
        ) from error
    try:
        return manifest, _unpack(tree, tensors)
    except (KeyError, TypeError):
        raise _damaged(path, "state.json names tensors that state.safetensors has not") from None


def _load(file: Path, device: torch.device | str, keys: Collection[str] | None) -> dict[str, Tensor]:
    """Read the tensors of a file by their keys; None: all."""
    if keys is None:
        return load_file(file, device=str(device))
    with safe_open(file, framework="pt", device=str(device)) as tensors:
        return {key: tensors.get_tensor(key) for key in keys}


def _keys(tree: Any) -> list[str]:
    """Return the keys of the tensors in a packed state."""
    if isinstance(tree, dict):
        if tree.keys() == {_TENSOR}:
            return [tree[_TENSOR]]
        tree = list(tree.values())
    return [key for item in tree for key in _keys(item)] if isinstance(tree, list) else []


def _manifest(path: Path) -> dict[str, Any]:
    """Return the contents of state.json once its digest is right; without the digest itself.

    Raises:
        RunError: It is damaged, or of a newer format.
    """
    content = read_bytes(path / "state.json", _LARGEST)
    written = _WRITTEN.search(content)
    if written is not None and _sha256(content[: written.start()] + b"}") != written[1].decode():
        if (begun := _BEGINNING.match(content)) is not None:
            check_format("checkpoint", int(begun[1]), path, (begun[2] or b"").decode() or None)
        raise _damaged(path, "state.json is not what was written (checksum)")
    found = parse_json(content, path / "state.json", any_number=True)
    if not isinstance(found, dict) or not {"format", "sha256"} <= found.keys():
        raise _damaged(path, "state.json has no checksum")
    check_format("checkpoint", found["format"], path, found.get("antiphon"))
    if found.pop(_OWN_DIGEST, None) is not None and written is None:
        raise _damaged(path, "state.json is not what was written (checksum)")
    if not found.keys() <= _ENTRIES.keys() or not all(
        isinstance(found.get(name), kinds) for name, kinds in _ENTRIES.items()
    ):
        raise _damaged(path, "state.json has other entries than a checkpoint")
    return found


def _damaged(path: Path, what: str) -> RunError:
    return RunError(f"{path}: {what}: the checkpoint is damaged; {_way_out(path)}")


def _way_out(path: Path) -> str:
    """Return what can be done without this checkpoint."""
    others = [other.name for other in checkpoints(path.parent.parent) if other.name != path.name]
    if path.parent.name == "checkpoints" and others:
        return f"delete it to go on from {others[-1]}"
    return "restore it from a copy, or start the run anew in another directory"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints of a run directory, oldest first.

    Raises:
        RunError: The folder that holds them is a link.
    """
    folder = path / "checkpoints"
    check_folder(folder)
    found = [place for place in folder.glob("step-*") if place.name.removeprefix("step-").isdecimal()]
    return sorted(place for place in found if (place / "state.json").exists())


def latest(path: str | Path) -> Path:
    """Return the newest checkpoint of a run directory, or the path itself where it is a checkpoint.

    Raises:
        RunError: There is none.
    """
    path = Path(path)
    if (path / "state.json").exists():
        return path
    found = checkpoints(path)
    if not found:
        raise RunError(f"{path}: neither a checkpoint nor a run with one")
    return found[-1]


def to_bytes(state: dict[str, Any]) -> bytes:
    """Return a state as `write` takes it, in one piece: the length of its tree, the tree as JSON, its tensors."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(state, tensors)).encode()
    return b"".join((len(tree).to_bytes(8, "little"), tree, save(tensors)))


def from_bytes(data: bytes) -> dict[str, Any]:
    """Return a state made by `to_bytes`, its tensors on the CPU.

    Raises:
        ValueError: It is damaged.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        state: dict[str, Any] = _unpack(json.loads(data[8:end]), load(data[end:]))
    except (KeyError, SafetensorError) as error:
        raise ValueError(f"a damaged state: {error}") from None
    return state


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.data.clone().contiguous()
        return {_TENSOR: key}
    if isinstance(value, dict):
        return {_key(key): _pack(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    return value


def _key(key: object) -> str:
    assert isinstance(key, str), key
    return key


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _unpack(item, tensors) for key, item in value.items()}
    return [_unpack(item, tensors) for item in value] if isinstance(value, list) else value


# --- simulations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says of its simulation."""

    place: Path
    scenario: Scenario
    seed: int
    dtype: torch.dtype
    state: dict[str, Any]
    described: dict[str, Any] | None = None
    """The scenario that holds Python objects, described; None: it is a document, or was saved before they were."""
    given: bool = False
    """Whether the scenario was given, so that it may be another one than the checkpoint's."""

    def unfit(self, error: Exception) -> RunError:
        """Return the error of a checkpoint whose state is not that of its scenario, by the first thing that is wrong."""
        what = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        reason = " ".join(what.split())[:120]
        return RunError(
            f"{self.place}: its state does not fit its scenario ({reason}); "
            "restore it from a copy, or report a defect of antiphon"
        )

    @property
    def obstacle(self) -> str | None:
        """Why no step can follow; None: a run can go on from it."""
        if self.state["env"] is not None:
            return None
        if "virtual" in self.state:
            return f"{self.place}: is of a run in virtual time; go on with `antiphon resume`"
        return (
            f"{self.place}: its environment keeps its state to itself, so the run cannot go on; "
            "take its agents into another one with `weights: RUN:agent`"
        )


def write_simulation(
    path: Path, scenario: Scenario, dtype: torch.dtype, state: dict[str, Any], described: dict[str, Any]
) -> Path:
    """Write a checkpoint folder, whole or not at all, and return its path.

    Args:
        path: The folder.
        scenario: Resolved.
        dtype: Of all floats.
        state: Of the simulation.
        described: The same scenario (`described_scenario`), in the place of one that holds Python objects.

    Raises:
        RunError: It cannot be written.
    """
    try:
        document: str | None = scenario.to_yaml()
    except ScenarioError:  # holds Python objects: whoever loads it must bring the scenario along
        document = None
    manifest = {
        "scenario": document,
        **({} if document is not None else {"described": described}),
        "seed": state["seed"],
        "step": state["now"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    write(path, manifest, state)
    give_back()  # a copy of all tensors
    return path


def read_simulation(path: Path, scenario: Scenario | None, device: torch.device | str) -> Saved:
    """Read a checkpoint folder, or a run directory's newest.

    Raises:
        RunError: It is missing or damaged, or it needs its scenario.
    """
    place = latest(path)
    manifest, state = read(place, device)
    document, seed, dtype = manifest["scenario"], manifest["seed"], getattr(torch, manifest["dtype"], None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise _damaged(place, f"state.json: dtype: there is no {manifest['dtype'][:40]!r}")
    given = scenario is not None
    if scenario is None:
        if document is None:
            raise RunError(
                f"{place}: its scenario holds Python objects; load it with scenario=… "
                "(on the command line: --scenario MODULE:FUNCTION)"
            )
        scenario = Scenario.from_yaml(document, str(place / "state.json"))
    return Saved(place, scenario, seed, dtype, state, manifest.get("described"), given)
