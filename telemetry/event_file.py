"""A TensorBoard event file of a run, written by torch's SummaryWriter: curves, and arrays for the Channels tab.

Services that follow SummaryWriter, such as `wandb.init(sync_tensorboard=True)` and `mlflow.pytorch.autolog()`, log what it writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import (  # type: ignore[import-untyped]
    DATA_CLASS_TENSOR,
    Summary,
    SummaryMetadata,
)
from tensorboard.util import tensor_util  # type: ignore[import-untyped]
from torch.utils.tensorboard.writer import SummaryWriter

from antiphon.base.files import sync_file, sync_folder, writing

SUFFIX = ".antiphon"
"""Suffix of the event files of a run's sessions, which a resumed run truncates at its checkpoint."""
BESIDE = ".measured"
"""Suffix of event files with measurements made after the run."""
_LARGEST = float(np.finfo(np.float32).max)


class EventFile:
    """A new event file in a run's folder; what is written is in the file when a call returns.

    Args:
        start: The step after which a session begins: readers drop later values of earlier files. None: it adds to them.

    Raises:
        RunError: The file cannot be written, here or later.
    """

    def __init__(self, folder: Path, suffix: str = SUFFIX, start: int | None = None) -> None:
        self._folder, self._suffix = folder, suffix
        # In the first session too, as some readers ignore the first mark.
        purge = None if start is None else start + 1
        now = time.time()
        # readers take files in the order of their seconds
        if any(folder.glob(f"events.out.tfevents.{int(now)}.*")):
            time.sleep(1 - now % 1)
        with writing(folder):
            self._writer = SummaryWriter(str(folder), purge_step=purge, filename_suffix=suffix)

    def scalars(self, step: int, values: Iterable[tuple[str, float]]) -> None:
        """Write scalars by tag, all in one event; values that are not finite in float32 are skipped."""
        finite = (row for row in values if math.isfinite(row[1]) and abs(row[1]) <= _LARGEST)
        self._write(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in finite])

    def arrays(self, step: int, values: Iterable[tuple[str, Any]], plugin: str) -> None:
        """Write arrays of float32, or strings, for a plugin by tag, all in one event."""
        data = SummaryMetadata.PluginData(plugin_name=plugin)
        about = SummaryMetadata(plugin_data=data, data_class=DATA_CLASS_TENSOR)
        protos = ((tag, tensor_util.make_tensor_proto(array)) for tag, array in values)
        self._write(step, [Summary.Value(tag=tag, tensor=proto, metadata=about) for tag, proto in protos])

    def sync(self) -> None:
        with writing(self._folder):
            for path in self._folder.glob(f"*{self._suffix}"):
                with path.open("ab") as file:
                    sync_file(file)
            sync_folder(self._folder)

    def close(self) -> None:
        with writing(self._folder):
            self._writer.close()

    def _write(self, step: int, values: Iterable[Any]) -> None:
        content = Summary(value=values)
        if content.value:
            with writing(self._folder):
                files: Any = self._writer.file_writer
                files.add_summary(content, step)
                files.flush()
