"""Parts as actors of a Ray cluster, each in a process of its own; what they exchange goes over sockets of theirs."""

from __future__ import annotations

import importlib
import logging
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from antiphon.base.errors import AntiphonError, DivergenceError, RunError, first_line
from antiphon.distributed.parts.part import Part, PartRow
from antiphon.distributed.parts.placement import Placement
from antiphon.distributed.parts.share import Share, merge_states
from antiphon.distributed.parts.transport import Stop, never
from antiphon.distributed.ray.ray_cluster import open_cluster
from antiphon.distributed.ray.sockets import Address, Broken
from antiphon.distributed.ray.worker import MeasuredLine, PartWorker, StepsTaken
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.packing import from_bytes, to_bytes
from antiphon.nets.devices import matmul_precision
from antiphon.telemetry.metrics import PartMetrics

_log = logging.getLogger(__name__)

_STARTED_WITHIN = 120.0
"""Seconds in which the process of a part must be there."""
_POLL = 0.2
"""Seconds between two looks at whether the run is to end."""
_RESTARTS = 20
"""Times that all parts start again, at most."""
_SELDOM = 100
"""Times that a state takes to cross, at least between two: over a slow line it takes long."""
_Result = TypeVar("_Result")


class PartGone(Exception):
    """The process of a part, or a connection between two, is gone."""


class RayParts:
    """All parts of a scenario in a Ray cluster (`Parts`).

    Where a part's process dies, or a connection breaks, all parts start again from the newest state of the whole, that of the
    newest `gather` or `scatter`, and take the steps since once more: rule 43 makes them the same steps.

    Args:
        make: Builds part `index`, at step 0; it is called in the part's process.
        shares: What of a state of the whole is each part's.
        cluster: `local`, or HOST:PORT of a cluster (`open_cluster`).
        gpu: Whether each part has a GPU, or its share of those there are.
        keep_every: Seconds after which a state of the whole is taken to go back to, or more where that takes long.

    Raises:
        RunError: See `open_cluster`, or a part does not start.
        AntiphonError: What building a part raises.
    """

    def __init__(
        self,
        make: Callable[[int], Part],
        shares: Sequence[Share],
        placement: Placement,
        *,
        cluster: str = "local",
        gpu: bool = False,
        keep_every: float = 30.0,
    ) -> None:
        self.placement, self._make, self._shares = placement, make, shares
        self._gpu, self._keep_every, self._restarts = gpu, keep_every, 0
        count = max(placement.values()) + 1
        self._metrics = [PartMetrics(part=index) for index in range(count)]
        self._kept: list[bytes | None] = [None] * count
        """What each part begins from: its share of the newest state of the whole; None: of step 0."""
        self._at = 0
        self._log_steps: LogSteps | None = None
        self._rows: list[PartRow] = []
        self._began = time.monotonic()
        self._keep_at = self._began + keep_every
        self._secret = secrets.token_bytes(32)
        self._actors: list[Any] = []
        self._resources = ExitStack()
        try:
            self._cluster = self._resources.enter_context(open_cluster(cluster))
            self._ray = importlib.import_module("ray")
            self._surely(lambda: None)
        except BaseException:
            self.close()
            raise

    # --- the protocol ------------------------------------------------------------------------------------

    def advance(self, until: int, *, stop: Stop = never, log_steps: LogSteps | None = None) -> int:
        self._log_steps = log_steps

        def advanced() -> int:
            reached = self._steps(until, log_steps, stop)
            while (
                min(reached) < max(reached) or max(reached) <= self._at
            ):  # stopped: all go on to where the first one is
                reached = self._steps(max(*reached, self._at + 1), log_steps)
            return reached[0]

        self._at = self._surely(advanced)
        if time.monotonic() >= self._keep_at:
            self.gather()
        return self._at

    def rows(self) -> list[PartRow]:
        return self._rows

    def gather(self) -> dict[str, Any]:
        def gathered() -> list[bytes]:
            self._steps(self._at, self._log_steps)  # where all have started again
            states: list[bytes] = self._all("gather")
            return states

        start = time.monotonic()
        merged = merge_states([from_bytes(state) for state in self._surely(gathered)])
        self._keep(merged, start)
        return merged

    def scatter(self, state: Mapping[str, Any]) -> None:
        start = time.monotonic()
        self._keep(state, start)
        self._surely(self._begin)
        self._at = state["now"]
        self._keep_later(start)

    def lines(self) -> list[MeasuredLine]:
        """Measure the lines between neighbours, in both directions.

        They are measured over the connections that parts exchange over, all at once, with as many bytes as the largest exchange
        that each part has sent to each neighbour since all began.
        """
        measured: list[list[MeasuredLine]] = self._surely(lambda: self._all("measure"))
        return [line for lines in measured for line in lines]

    def statistics(self) -> list[PartMetrics]:
        seconds = time.monotonic() - self._began
        return [replace(metrics, seconds=seconds) for metrics in self._metrics]

    def close(self) -> None:
        self._end()
        self._resources.close()

    # --- states ------------------------------------------------------------------------------------------

    def _keep(self, state: Mapping[str, Any], start: float) -> None:
        self._kept = [to_bytes(share.state(state)) for share in self._shares]
        self._keep_later(start)

    def _keep_later(self, start: float) -> None:
        """Have a state taken after `keep_every`, or later where one takes long: as long as that which crosses since `start`."""
        now = time.monotonic()
        self._keep_at = now + max(self._keep_every, _SELDOM * (now - start))

    # --- processes ---------------------------------------------------------------------------------------

    def _surely(self, call: Callable[[], _Result]) -> _Result:
        """Return what a call of all parts does; where one is gone meanwhile, all start again, and are called again."""
        while True:
            try:
                if not self._actors:
                    self._start()
                return call()
            except PartGone as gone:
                self._end()
                self._restarts += 1
                if self._restarts > _RESTARTS:
                    raise RunError(
                        f"ray: {gone}; machines of the cluster must reach one another at all ports"
                    ) from None
                _log.warning("%s; all parts start again", gone)

    def _start(self) -> None:
        options = self._cluster.options(len(self._metrics), gpu=self._gpu)
        actor = self._ray.remote(max_concurrency=2, **options)(PartWorker)
        host = "127.0.0.1" if self._cluster.is_own else None
        same = self._secret, host, matmul_precision(), sys.path
        self._actors = [actor.remote(metrics, *same) for metrics in self._metrics]
        refs = [each.__ray_ready__.remote() for each in self._actors]
        _, late = self._ray.wait(refs, num_returns=len(refs), timeout=_STARTED_WITHIN)
        if late:
            free = self._ray.available_resources()
            raise RunError(
                f"ray: part {refs.index(late[0])} has not started within {_STARTED_WITHIN:g} s; "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
            )
        self._begin()

    def _begin(self) -> None:
        """Have all parts begin from the kept states."""
        addresses: dict[int, Address] = dict(enumerate(self._all("listen")))
        make = self._ray.put(self._make)
        self._all("begin", make, addresses, each=self._kept)

    def _end(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def _steps(self, until: int, log_steps: LogSteps | None, stop: Stop = never) -> list[int]:
        """Have all parts take steps, and return the steps that they have reached."""
        taken: list[StepsTaken] = self._all("advance", until, log_steps, stop=stop)
        self._metrics = [each.metrics for each in taken]
        self._rows = [each.row for each in taken if each.row is not None]
        return [metrics.steps_taken for metrics in self._metrics]

    def _all(self, method: str, *arguments: Any, each: Sequence[Any] = (), stop: Stop = never) -> list[Any]:
        """Call a method of all parts, and return their answers.

        Args:
            each: A further argument for each part.

        Raises:
            PartGone: A process or a connection is gone.
            AntiphonError: What a part raises, a divergence first; all others have ended the call.
        """
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
                except (AntiphonError, MemoryError) as error:
                    errors.append(error)
            if pending and (errors or stop()):
                for actor in self._actors:
                    actor.halt.remote()
        if errors:
            raise min(errors, key=lambda error: not isinstance(error, DivergenceError))
        return [answers[index] for index in range(len(refs))]

    def _answer(self, index: int, ref: Any) -> Any:
        raised = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except raised.RayTaskError as error:
            if isinstance(error.cause, Broken):
                raise PartGone(str(error.cause)) from None
            if isinstance(error.cause, AntiphonError | MemoryError):
                raise error.cause from error
            raise RunError(f"ray: part {index} fails ({first_line(error.cause or error)})") from error
        except (raised.UnserializableException, raised.RuntimeEnvSetupError) as error:
            # It would be so again: what it was given cannot be loaded there, such as a name that only this process has.
            last = str(error).strip().splitlines()[-1].partition(": ")[2]
            raise RunError(f"ray: part {index} fails ({last})") from None
        except raised.RayError as error:
            step = self._metrics[index].steps_taken
            raise PartGone(f"part {index} died after step {step} ({first_line(error)})") from None
