"""The recorder of kernels: it keeps those that some work launches, and launches them again on the same memory."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import torch


class NotRecordable(Exception):
    """Why some work cannot be recorded, in a line."""


class CudaGraphRecorder:
    """Keeps the kernels of one piece of work as a CUDA graph."""

    _graph: torch.cuda.CUDAGraph

    def record(self, work: Callable[[], None]) -> None:
        """Capture `work` as a graph, and launch it once: afterwards its results are in memory.

        Raises:
            NotRecordable: It waits for the device, or does something else that cannot be repeated.
        """
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream()
        try:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                work()
        except Exception as error:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own
            cause = _first(error)
            line = (str(cause) or type(cause).__name__).splitlines()[0]
            _clear(error)
            raise NotRecordable(f"CUDA refuses to capture it: {line}") from error
        self._graph.replay()

    def replay(self) -> None:
        """Launch the kernels again: same memory, same arguments, without Python."""
        self._graph.replay()


def _clear(error: BaseException | None) -> None:
    """Let go of what was computed on the stream of a capture: its graphs would make later steps wait for that stream."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _first(error: BaseException) -> BaseException:
    """Return the error during whose handling others were raised: a capture that is broken off ends with one of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error
