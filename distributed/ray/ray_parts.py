"""Parts as actors of a Ray cluster, each in a process of its own; what they exchange goes over sockets of theirs."""

from __future__ import annotations

import importlib
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from antiphon.base.errors import AntiphonError, DivergenceError, RunError, first_line
from antiphon.distributed.parts.part import Part, PartRow
from antiphon.distributed.parts.placement import Placement
from antiphon.distributed.parts.share import Share, merge_states
from antiphon.distributed.parts.transport import Stop, never
from antiphon.distributed.ray.ray_cluster import LOCAL, open_cluster
from antiphon.distributed.ray.sockets import Address, Broken
from antiphon.distributed.ray.worker import MeasuredLine, PartWorker
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.state.packing import from_bytes, to_bytes
from antiphon.telemetry.metrics import PartMetrics

_STARTED_WITHIN = 120.0
_POLL = 0.2


class RayParts:
    """All parts of a scenario in a Ray cluster (see `LocalParts`), each built in its process.

    Where a part's process dies, or a connection breaks, all parts end; with the next `scatter` they start again.
    """

    def __init__(
        self,
        make: Callable[[int], Part],
        shares: Sequence[Share],
        placement: Placement,
        *,
        cluster: str = "local",
        gpu: bool = False,
    ) -> None:
        self.placement, self._make, self._shares = placement, make, shares
        self._cluster, self._gpu = cluster, gpu
        self._metrics = [PartMetrics(part=index) for index in range(len(shares))]
        self._at = 0
        self._rows: list[PartRow] = []
        self._began = time.monotonic()
        self._secret = secrets.token_bytes(32)
        self._actors: list[Any] = []
        self._resources = ExitStack()
        try:
            self._resources.enter_context(open_cluster(cluster))
            self._ray = importlib.import_module("ray")
            self._start()
        except BaseException:
            self.close()
            raise

    def advance(self, until: int, *, stop: Stop = never, log_steps: LogSteps | None = None) -> int:
        reached = self._steps(until, log_steps, stop)
        while min(reached) < max(reached) or max(reached) <= self._at:  # stopped: all go on to the first one
            reached = self._steps(max(*reached, self._at + 1), log_steps)
        self._at = reached[0]
        return self._at

    def rows(self) -> list[PartRow]:
        return self._rows

    def gather(self) -> dict[str, Any]:
        return merge_states([from_bytes(state) for state in self._all("gather")], self._shares)

    def scatter(self, state: Mapping[str, Any]) -> None:
        if not self._actors:
            self._start()
        self._all("load", each=[to_bytes(share.state(state)) for share in self._shares])
        self._at = state["now"]

    def lines(self) -> list[MeasuredLine]:
        """Measure the lines between neighbours, in both directions, all at once, each with bytes of its largest exchange."""
        return [line for lines in self._all("measure") for line in lines]

    def statistics(self) -> list[PartMetrics]:
        seconds = time.monotonic() - self._began
        return [replace(metrics, seconds=seconds) for metrics in self._metrics]

    def close(self) -> None:
        self._end()
        self._resources.close()

    def _start(self) -> None:
        local, gpus = (
            self._cluster == LOCAL,
            self._ray.cluster_resources().get("GPU", 0.0) if self._gpu else 0.0,
        )
        actor = self._ray.remote(
            max_concurrency=2,
            num_cpus=0 if local else 1,
            num_gpus=min(
                1.0, int(1000 * gpus / len(self._metrics)) / 1000
            ),  # one, or its share of those there are
            scheduling_strategy="DEFAULT" if local else "SPREAD",
        )(PartWorker)
        host = "127.0.0.1" if local else None
        same = self._secret, host, sys.path
        self._actors = [actor.remote(index, *same) for index in range(len(self._metrics))]
        refs = [each.__ray_ready__.remote() for each in self._actors]
        _, late = self._ray.wait(refs, num_returns=len(refs), timeout=_STARTED_WITHIN)
        if late:
            free = self._ray.available_resources()
            raise RunError(
                f"ray: part {refs.index(late[0])} has not started within {_STARTED_WITHIN:g} s; "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
            )
        addresses: dict[int, Address] = dict(enumerate(self._all("listen", self._ray.put(self._make))))
        self._all("connect", addresses)

    def _end(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def _steps(self, until: int, log_steps: LogSteps | None, stop: Stop = never) -> list[int]:
        taken = self._all("advance", until, log_steps, stop=stop)
        self._metrics = [metrics for metrics, _ in taken]
        self._rows = [row for _, row in taken if row is not None]
        return [metrics.steps_taken for metrics in self._metrics]

    def _all(self, method: str, *arguments: Any, each: Sequence[Any] = (), stop: Stop = never) -> list[Any]:
        """Call a method of all parts, with a further argument for `each`, and return their answers.

        What a part raises, or that it is gone, is raised, a divergence first; all parts have ended then.
        """
        if not self._actors:
            raise RunError("ray: the parts have ended")
        further = [[one] for one in each] or [[]] * len(self._actors)
        refs = [
            actor.call.remote(method, *arguments, *more)
            for actor, more in zip(self._actors, further, strict=True)
        ]
        pending, errors, answers = dict(zip(refs, range(len(refs)), strict=True)), [], dict[int, Any]()
        while pending:
            for ref in self._ray.wait([*pending], timeout=_POLL)[0]:
                index = pending.pop(ref)
                try:
                    answers[index] = self._answer(index, ref)
                except AntiphonError as error:
                    errors.append(error)
            if pending and (errors or stop()):
                for actor in self._actors:
                    actor.halt.remote()
        if errors:
            self._end()
            raise min(
                errors, key=lambda error: (not isinstance(error, DivergenceError), isinstance(error, Broken))
            )
        return [answers[index] for index in range(len(refs))]

    def _answer(self, index: int, ref: Any) -> Any:
        raised = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except (raised.RayTaskError, raised.UnserializableException, raised.RuntimeEnvSetupError) as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, AntiphonError):
                raise cause from error
            last = str(error).strip().splitlines()[-1]  # such as a name that only this process has
            raise RunError(f"ray: part {index} fails ({last})") from error
        except raised.RayError as error:
            step = self._metrics[index].steps_taken
            raise RunError(
                f"ray: part {index} died after step {step} ({first_line(error)}); `antiphon resume` continues the run"
            ) from None
