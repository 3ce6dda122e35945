"""Transports: what holds the parts of a scenario, and carries exchanges between them; here, in this process.

A further transport is one file with a class of the methods of `LocalParts`, which `open_parts` (distributed/coordinator.py) makes where its
setting is given. It builds parts with `make(index)`, has each take steps (`Part.step`), and carries `Part.collect(neighbour)` to the
neighbour's `Part.deliver`, in order: between processes as `Exchange.tree` in the one format of `engine/state/packing.py`. In
lockstep a part takes no step while it `waits_for` a neighbour. All else is a part's own: bits on the wire, what is read
and returned, its share of a state. Between processes and machines: `distributed/ray`; in virtual time: `distributed/virtual`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from antiphon.base.errors import EngineError
from antiphon.distributed.parts.part import Part, PartRow
from antiphon.distributed.parts.placement import Placement
from antiphon.distributed.parts.share import merge_states
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.telemetry.metrics import PartMetrics

Stop = Callable[[], bool]
"""Whether the training loop is to end: a signal has come, or its time is over."""


def never() -> bool:
    return False


class LocalParts:
    """All parts in this process: in turn each takes the steps that it may be ahead, then all exchange."""

    def __init__(self, make: Callable[[int], Part], placement: Placement) -> None:
        self.placement = placement
        self.parts = [make(index) for index in range(max(placement.values()) + 1)]
        self._began = time.perf_counter()
        self._metrics = [PartMetrics(part=part.index, machine=platform.node()) for part in self.parts]

    def advance(self, until: int, *, stop: Stop = never, log_steps: LogSteps | None = None) -> int:
        """Have all parts take the steps up to `until`, at least one, and return the step that all of them have reached.

        Args:
            stop: Looked at now and then; once it holds, all parts end at a step they can all reach soon.
            log_steps: The steps at which metrics are recorded (`row`); None: none.

        Raises:
            DivergenceError: A loss or gradient of a part was not finite.
            RunError: A part is gone and does not come back.
        """
        while (first := min(part.now for part in self.parts)) < until:
            before = sum(part.now for part in self.parts)
            for part in self.parts:
                start = time.perf_counter()
                while part.now < min(until, first + part.lookahead) and not part.waits_for():
                    part.step(log_steps)
                    if stop():  # the others go on to where the first one is
                        until = max(peer.now for peer in self.parts)
                self._metrics[part.index].computing += time.perf_counter() - start
            if sum(part.now for part in self.parts) == before:
                raise EngineError(f"parts: none can take its step before {until}, each waits for another")
            self._exchange()
        return until

    def _exchange(self) -> None:
        for part in self.parts:
            for neighbour in part.neighbours:
                exchange = part.collect(neighbour)
                self.parts[neighbour].deliver(exchange)
                self._metrics[part.index].calls += 1
                self._metrics[part.index].bytes_sent += exchange.nbytes
                self._metrics[neighbour].bytes_received += exchange.nbytes

    def rows(self) -> list[PartRow]:
        """Return what each part records of the newest step, which is one at which metrics are recorded."""
        return [part.row for part in self.parts if part.row is not None]

    def gather(self) -> dict[str, Any]:
        """Return the state of the whole simulation (`LiveSystem.state_dict`), everything delivered; raises as `advance`."""
        return merge_states([part.state_dict() for part in self.parts], [part.share for part in self.parts])

    def scatter(self, state: Mapping[str, Any]) -> None:
        """Have all parts take over the state of the whole simulation; what was under way between them is dropped."""
        for part in self.parts:
            part.load_state_dict(copy_tree(part.share.state(state)))

    def statistics(self) -> list[PartMetrics]:
        """Return the metrics of each part, in order, as they are known without waiting for a part."""
        seconds = time.perf_counter() - self._began
        return [
            replace(metrics, seconds=seconds, steps_taken=part.now)
            for part, metrics in zip(self.parts, self._metrics, strict=True)
        ]

    def close(self) -> None:
        """End all parts and what was started for them; a second call does nothing."""
        for part in self.parts:
            part.close()
        self.parts.clear()
