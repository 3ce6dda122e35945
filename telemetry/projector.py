"""Messages for TensorBoard's Projector tab: the newest of some channels, with their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)

from antiphon.telemetry.figures import SampleRow
from antiphon.telemetry.names import writing

__all__ = ["write_projector"]

_FOLDER = "projector"
_MOST = 8
"""Most channels: the tab lists all and loads one at a time."""


def write_projector(folder: Path, rows: Sequence[SampleRow]) -> None:
    """Write the messages of the first eight channels as tables of the Projector tab.

    Args:
        folder: The run's.
        rows: Messages of channels, [samples, size + 1]; the label is last. Those of one component are left out.

    Raises:
        RunError: The file cannot be written.
    """
    config = ProjectorConfig()
    shown = [(name, messages) for name, messages in rows if messages.shape[1] > 2 and len(messages) > 1]
    with writing(folder):
        for number, (name, messages) in enumerate(shown[:_MOST]):
            (folder / _FOLDER).mkdir(exist_ok=True)
            stem = f"{_FOLDER}/{number}"
            sound = messages[np.isfinite(messages[:, :-1]).all(1)]
            _write(folder / f"{stem}.tsv", ["\t".join(f"{x:.6g}" for x in row[:-1]) for row in sound])
            embedding = config.embeddings.add(tensor_name=name, tensor_path=f"{stem}.tsv")
            if np.isfinite(sound[:, -1]).any():
                _write(
                    folder / f"{stem}.labels.tsv", ["–" if math.isnan(x) else f"{x:g}" for x in sound[:, -1]]
                )
                embedding.metadata_path = f"{stem}.labels.tsv"
        if config.embeddings:
            text = text_format.MessageToString(config, as_utf8=True)
            (folder / "projector_config.pbtxt").write_text(text, encoding="utf-8")


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
