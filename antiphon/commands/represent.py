"""Representations for the verb `evaluate`: numbers, pictures and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.agents.network import OBJECTIVE
from antiphon.commands.output import console, decimal, display_path, percent, remark, show_table
from antiphon.engine.probes.implied import ImpliedLoss, implied_loss
from antiphon.engine.probes.linear_probe import ProbeScore, linear_probe
from antiphon.engine.probes.representation import dissimilarity, similarity, weight_norms
from antiphon.engine.probes.representation import represent as look
from antiphon.engine.runs.directory import finite
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.telemetry.matrices import draw_clouds, draw_matrices, draw_profiles
from antiphon.telemetry.names import writing

Array = NDArray[np.float64]

__all__ = ["represent", "show_representations"]

_PROBED = 1000
"""Examples of each split that linear probes are fitted to and scored on."""
_ROWS = 40
"""Agents or channels in a table."""


def represent(
    simulation: Simulation, folder: Path, split: str, examples: int, channels: Sequence[str] | None
) -> dict[str, Any]:
    """Measure representations, write numbers and pictures, and return the numbers that are not matrices.

    Args:
        simulation: To be measured.
        folder: Existing folder for `representations.npz` and the pictures.
        split: Of the examples.
        examples: Of the matrices and the implied losses, at most.
        channels: With implied losses; None: of all that have a synthetic gradient.
    """
    found = look(simulation, examples, split)
    matrices = {name: dissimilarity(made) for name, made in found.agents.items()}
    similarities = similarity(matrices)
    probes = {} if found.target is None else linear_probe(simulation, _PROBED, split)
    norms = weight_norms(simulation)
    implied = implied_loss(simulation, channels, examples=examples, split=split)
    arrays: dict[str, Any] = {
        "agents": np.array(list(matrices)),
        "labels": found.labels,
        "rdm": np.stack(list(matrices.values())).astype(np.float32),
        "similarity": similarities,
        **{
            f"implied {name}": np.stack([loss.implied, loss.true]).astype(np.float32)
            for name, loss in implied.items()
        },
    }
    with writing(folder):
        np.savez_compressed(folder / "representations.npz", **arrays)
    pictures = _draw(folder, matrices, found.labels, similarities, probes, norms, implied)
    return {
        "split": split,
        "examples": len(found.agents[next(iter(found.agents))]),
        "sorted_by": found.target,
        "agents": {
            name: {
                "features": made.shape[1],
                "probe_train": probes[name].train if name in probes else None,
                "probe_test": probes[name].test if name in probes else None,
                "weights": norms[name],
            }
            for name, made in found.agents.items()
        },
        "similarity": similarities.tolist(),
        "implied_loss": {
            name: {
                "correlation": loss.correlation,
                "changes": loss.changes,
                "offset": loss.offset,
                "symmetry": loss.symmetry,
            }
            for name, loss in implied.items()
        },
        "files": [str(folder / name) for name in ("representations.npz", *pictures)],
    }


def _draw(
    folder: Path,
    matrices: Mapping[str, Array],
    labels: NDArray[np.int64],
    similarities: Array,
    probes: Mapping[str, ProbeScore],
    norms: Mapping[str, Mapping[str, float]],
    implied: Mapping[str, ImpliedLoss],
) -> list[str]:
    """Draw the pictures and return the names of the files; without matplotlib, print a remark instead."""
    groups = [float(row) for row in np.flatnonzero(np.diff(labels)) + 1]
    files = []
    try:
        draw_matrices(matrices, folder / "rdm.png", high=1.5, boundaries=groups)
        files.append("rdm.png")
        names = list(matrices)
        draw_matrices(
            {"similarity": similarities},
            folder / "similarity.png",
            names=names if len(names) <= _ROWS else (),
        )
        files.append("similarity.png")
        if probes:
            lines = {kind: {n: getattr(p, kind) for n, p in probes.items()} for kind in ("train", "test")}
            draw_profiles(lines, folder / "probes.png", label="accuracy of a linear probe", high=1.0)
            files.append("probes.png")
        layers: dict[str, dict[str, float]] = {}
        for name, own in norms.items():
            for layer, norm in own.items():
                kind = f"layer {layer}" if layer.isdigit() else layer if layer == OBJECTIVE else "messages"
                layers.setdefault(kind, {})[name] = norm
        draw_profiles(layers, folder / "weights.png", label="Frobenius norm", low=0.0)
        files.append("weights.png")
        if implied:
            clouds = {name: (loss.implied + loss.offset, loss.true) for name, loss in implied.items()}
            draw_clouds(clouds, folder / "implied.png", across="implied loss + offset", up="true loss")
            files.append("implied.png")
    except RunError as error:
        if "matplotlib" not in str(error):
            raise
        remark(str(error))
    return files


def show_representations(found: Mapping[str, Any]) -> None:
    """Print the tables."""
    agents, names = found["agents"], list(found["agents"])
    rows = []
    for i, name in enumerate(names[:_ROWS]):
        agent = agents[name]
        following = found["similarity"][i][i + 1] if i + 1 < len(names) else None
        weights = ", ".join(f"{layer} {norm:.1f}" for layer, norm in agent["weights"].items())
        probes = (percent(agent["probe_train"]), percent(agent["probe_test"]))
        rows.append([name, weights, str(agent["features"]), *probes, decimal(following, 2)])
    title = f"\nRepresentations of {found['examples']:,} examples of the {found['split']} split"
    heads = ["agent", "weight norms", "features", "probe train", "probe test", "like the next"]
    show_table(heads, rows, right=4, title=title)
    if len(names) > _ROWS:
        console().print(f"… and {len(names) - _ROWS} more; --json has all\n")
    implied = found["implied_loss"]
    if implied:
        keys = ("correlation", "changes", "offset", "symmetry")
        rows = [[n, *(decimal(finite(implied[n][key])) for key in keys)] for n in list(implied)[:_ROWS]]
        heads = ["implied loss", "correlation", "of changes", "offset", "symmetry"]
        show_table(heads, rows, right=4)
    console().print(
        f"written      {', '.join(display_path(path) for path in found['files'])}", soft_wrap=True
    )
