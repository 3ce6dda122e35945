"""Parts as actors of a Ray cluster, each in a process of its own; what they exchange goes over sockets of theirs."""

from __future__ import annotations

import importlib
import logging
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import IO, Any, NoReturn

from antiphon.base.errors import AntiphonError, DivergenceError, RunError, first_line
from antiphon.distributed.parts.part import Part, PartRow, merge_states
from antiphon.distributed.parts.placement import Placement
from antiphon.distributed.parts.share import Share
from antiphon.distributed.parts.transport import Stop, never
from antiphon.distributed.ray.ray_cluster import RayCluster, open_cluster
from antiphon.distributed.ray.sockets import Address, Broken
from antiphon.distributed.ray.states import exchanged
from antiphon.distributed.ray.worker import (
    Answer,
    Begun,
    Listening,
    MeasuredLine,
    MeasuredLines,
    PartWorker,
    StepsTaken,
)
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.wire import stream
from antiphon.nets.isolation.own_context import matmul_precision
from antiphon.telemetry.parts.part_metrics import PartMetrics

_log = logging.getLogger(__name__)


_GROUPS = {"steps": 1, "notes": 1}
"""Threads of an actor: one steps its part, one takes calls of the driver meanwhile."""
_STARTED_WITHIN = 120.0
"""Seconds in which the process of a part must be there, at first and after it died."""
_POLL = 0.2
"""Seconds between two looks at whether the run is to end."""
_RESTARTS = 20
"""Restarts of a part, at most."""
_SELDOM = 100
"""Times that a state takes to cross, at least between two: over a slow line it takes long."""
_BREAKS = 3
"""Times one after the other that connections break although no part has died, or that none is made, at most."""


@dataclass
class _WorkersCall:
    """A call of all workers.

    Attributes:
        arguments: Of `PartWorker.call`.
        until: The step that they are to reach.
        pending: By reference: the part whose answer is waited for.
        late_at: By part that does not wait and was started again: until when its process must be there.
        answers: By part that has ended the call.
        errors: What workers raised.
        broken: Which connection has broken; empty: none.
        died: Whether a part has died for which the others wait.
        halted: Whether all are to end the call early.
    """

    arguments: tuple[Any, ...]
    until: int
    pending: dict[Any, int] = field(default_factory=dict)
    late_at: dict[int, float] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    errors: list[AntiphonError] = field(default_factory=list)
    broken: str = ""
    died: bool = False
    halted: bool = False

    @property
    def fails(self) -> bool:
        """Whether all parts are to begin again."""
        return self.died or bool(self.broken)

    def end(self, index: int, answer: Answer) -> None:
        if isinstance(answer[1], Broken):
            self.broken = answer[1].line
        else:
            self.answers[index] = answer


class RayParts:
    """All parts of a scenario in a Ray cluster (`Parts`).

    Ray starts a part again whose process dies. In lockstep all parts then go back to the newest state of the whole, which is that
    of the newest `gather` or `scatter`, and take the steps since once more; also where a connection breaks. In free mode
    a part goes on alone, from the state that it handed over last, and the others do not wait for it.

    Args:
        make: Builds part `index`, at step 0; it is called in the part's process.
        shares: What of a state of the whole is each part's.
        free: Whether parts do not wait.
        cluster: `local`, or HOST:PORT of a cluster (`RayCluster`).
        gpu: Whether each part has a GPU, or its share of those there are.
        keep_every: Seconds after which a state is taken to go back to, or more where that takes long: of the whole, or in free
            mode of each part.

    Raises:
        RunError: See `RayCluster`, or a part does not start.
        AntiphonError: What building a part raises.
    """

    def __init__(
        self,
        make: Callable[[int], Part],
        shares: Sequence[Share],
        placement: Placement,
        *,
        free: bool = False,
        cluster: str = "local",
        gpu: bool = False,
        keep_every: float = 30.0,
    ) -> None:
        self.placement, self._shares = placement, shares
        self._free, self._keep_every = free, keep_every
        self._count = max(placement.values()) + 1
        self._at = self._calls = self._breaks = self._unreached = 0
        self._epoch = -1
        self._log_steps: LogSteps | None = None
        self._rows: list[PartRow] = []
        self._began = time.monotonic()
        self._keep_at = self._began + keep_every
        self._metrics = [PartMetrics(part=index) for index in range(self._count)]
        self._actors: list[Any] = []
        self._addresses: dict[int, Address] = {}
        """At which each part takes exchanges."""
        self._secret = secrets.token_bytes(32)
        self._resources = resources = ExitStack()
        try:
            self._states = [resources.enter_context(tempfile.TemporaryFile()) for _ in range(self._count)]  # noqa: SIM115
            """What each part begins from: its share of the newest state of the whole, or its own; empty: that of step 0."""
            opened = self._resources.enter_context(open_cluster(cluster))
            self._ray = importlib.import_module("ray")
            self._make = self._ray.put(make)
            self._actors = self._created(opened, gpu)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _created(self, cluster: RayCluster, gpu: bool) -> list[Any]:
        options = cluster.options(self._count, gpu=gpu)
        actor = self._ray.remote(max_restarts=_RESTARTS, concurrency_groups=_GROUPS, **options)(PartWorker)
        host, precision = "127.0.0.1" if cluster.is_own else None, matmul_precision()
        same = self._keep_every, self._secret, host, precision, sys.path
        return [actor.remote(index, *same) for index in range(self._count)]

    # --- the protocol ------------------------------------------------------------------------------------

    def advance(self, until: int, *, stop: Stop = never, log_steps: LogSteps | None = None) -> int:
        self._log_steps = log_steps
        reached = self._take_steps(until, stop)
        self._at = max(*reached, self._at + 1)
        if reached != {self._at}:  # they were stopped: all go on to where the first one is
            self._take_steps(self._at)
        if not self._free and time.monotonic() >= self._keep_at:
            self.gather()
        return self._at

    def _take_steps(self, until: int, stop: Stop = never) -> set[int]:
        """Have all parts take steps, keep what comes of them, and return the steps that they have reached."""
        answers = self._all("advance", until, self._log_steps, stop)
        results = [result for _, result in answers if isinstance(result, StepsTaken)]
        for index, result in enumerate(results):
            if result.state and (state := self._exchanged(index)):
                self._keep(index, state)
        self._rows = [result.row for result in results if result.row is not None]
        return {metrics.steps_taken for metrics, _ in answers}

    def rows(self) -> list[PartRow]:
        return self._rows

    def gather(self) -> dict[str, Any]:
        start = time.monotonic()
        self._all("gather", self._at, self._log_steps)
        while None in (states := [self._exchanged(index) for index in range(self._count)]):
            if not self._free:
                self._begin()
            self._all("gather", self._at, self._log_steps)
        merged = merge_states([state for state in states if state is not None])
        if not self._free:
            self._keep_all(merged)
            self._keep_later(start)
        return merged

    def scatter(self, state: Mapping[str, Any]) -> None:
        start = time.monotonic()
        self._keep_all(state)
        self._begin()
        self._at = self._metrics[0].steps_taken
        self._keep_later(start)

    def _keep_all(self, state: Mapping[str, Any]) -> None:
        for index, share in enumerate(self._shares):
            self._keep(index, share.state(state))

    def _keep_later(self, start: float) -> None:
        """Have a state taken after `keep_every`, or later where one takes long: as long as that which crosses since `start`."""
        now = time.monotonic()
        self._keep_at = now + max(self._keep_every, _SELDOM * (now - start))

    def _keep(self, index: int, state: dict[str, Any]) -> None:
        """Keep the state from which a part begins; on disk, as the parts together have more than one machine may."""
        file = self._states[index]
        try:
            file.seek(0)
            file.truncate()
            file.writelines(stream(state))
            file.flush()
        except OSError as error:
            raise RunError(
                f"ray: {tempfile.gettempdir()}: the states of the parts cannot be kept there ({first_line(error)}); "
                "free space, or set TMPDIR"
            ) from None

    def _exchanged(self, index: int, state_file: IO[bytes] | None = None) -> dict[str, Any] | None:
        """Return the state that a part has ready, where it is given none; None: there is none, or its process has died."""
        try:
            state = exchanged(self._addresses[index], index, self._secret, state_file)
        except OSError as error:
            self._unreached += 1
            if self._unreached > _BREAKS:
                self._raise_broken(f"part {index} cannot be reached ({error})")
            return None
        self._unreached = 0
        return state

    def _raise_broken(self, line: str) -> NoReturn:
        raise RunError(f"ray: {line}; machines of the cluster must reach one another at all ports")

    def rebuild(self, make: Callable[[int], Part], shares: Sequence[Share]) -> None:
        """Have all parts begin anew at step 0, as these build them."""
        self._make, self._shares = self._ray.put(make), shares
        self._at = 0
        for file in self._states:
            file.seek(0)
            file.truncate()
        self._begin()

    def lines(self) -> list[MeasuredLine]:
        """Measure the lines between neighbours, in both directions.

        They are measured over the connections that parts exchange over, all at once, with as many bytes as the largest exchange
        that each part has sent to each neighbour since all began.
        """
        answers = self._all("measure", self._at, None)
        return [
            line for _, measured in answers if isinstance(measured, MeasuredLines) for line in measured.lines
        ]

    def statistics(self) -> list[PartMetrics]:
        seconds = time.monotonic() - self._began
        return [replace(metrics, seconds=seconds) for metrics in self._metrics]

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        self._resources.close()

    # --- calls -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._epoch += 1
        for submit in (self._submit_listen, self._submit_begin):
            refs = [submit(index) for index in range(self._count)]
            # Over a slow line the states with which parts begin take as long as they take.
            within = _STARTED_WITHIN if submit == self._submit_listen else None
            _, late = self._ray.wait(refs, num_returns=len(refs), timeout=within)
            if late:
                self._raise_late(refs.index(late[0]))
            answers = [self._answer(index, ref) for index, ref in enumerate(refs)]
            if None in answers:
                return self._begin()
            for index, answer in enumerate(answers):
                if answer is not None and isinstance(answer[1], Listening):
                    self._addresses[index] = answer[1].address
        return None

    def _raise_late(self, index: int) -> NoReturn:
        free = self._ray.available_resources()
        raise RunError(
            f"ray: part {index} has not started within {_STARTED_WITHIN:g} s; "
            f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
        )

    def _submit_listen(self, index: int) -> Any:
        """Have a part open its address, once Ray has started it."""
        return self._submit(index, "listen", self._metrics[index], max_task_retries=-1)

    def _submit_begin(self, index: int) -> Any:
        """Have a part begin from its newest state, which it is given; one that does not get it does not begin."""
        has_state = self._states[index].tell() > 0
        if has_state:
            self._exchanged(index, self._states[index])
        arguments = self._make, self._epoch, self._addresses, has_state
        return self._submit(index, "begin", *arguments, max_task_retries=-1)

    def _submit(self, index: int, method: str, *arguments: Any, **options: Any) -> Any:
        call = self._actors[index].call.options(concurrency_group="steps", **options)
        return call.remote(method, *arguments)

    def _note(self, index: int, method: str, *arguments: Any) -> None:
        """Call a method of an actor whose answer nobody waits for, also while it steps."""
        getattr(self._actors[index], method).options(concurrency_group="notes", num_returns=0).remote(
            *arguments
        )

    def _all(self, method: str, until: int, argument: object, stop: Stop = never) -> list[Answer]:
        """Call a method of all workers and return their answers; in lockstep all go back if one dies, and are called again.

        Args:
            method: `advance`, `gather` or `measure`.
            argument: What else the method takes.

        Raises:
            AntiphonError: What a worker raises, a divergence first; all others have ended the call.
            RunError: A part has died and not come back, or none goes on.
        """
        while (answers := self._call(method, until, argument, stop)) is None:
            self._begin()
        return answers

    def _call(self, method: str, until: int, argument: object, stop: Stop) -> list[Answer] | None:
        """Call a method of all workers once; None: one has died or is cut off, and the others have ended the call."""
        self._calls += 1
        call = _WorkersCall((method, self._calls, until, argument), until)
        call.pending = {self._submit(index, *call.arguments): index for index in range(self._count)}
        take = self._take_free if self._free else self._take_in_lockstep
        while call.pending:
            for ref in self._ray.wait([*call.pending], timeout=_POLL)[0]:
                index = call.pending.pop(ref)
                call.late_at.pop(index, None)
                try:
                    answer = self._answer(index, ref)
                except AntiphonError as error:
                    call.errors.append(error)
                else:
                    take(call, index, answer)
            for index, late_at in call.late_at.items():
                if time.monotonic() > late_at:
                    self._raise_late(index)
            call.halted = stop() or call.halted or call.fails or bool(call.errors)
            if call.halted:  # all of them: one that could not be reached may be at work
                for number in range(self._count):
                    self._note(number, "halt", self._calls)
        if call.errors:
            raise min(call.errors, key=lambda error: not isinstance(error, DivergenceError))
        self._breaks = self._breaks + 1 if call.broken and not call.died else 0
        if self._breaks > _BREAKS:
            self._raise_broken(call.broken)
        return None if call.fails else [call.answers[index] for index in range(self._count)]

    def _take_in_lockstep(self, call: _WorkersCall, index: int, answer: Answer | None) -> None:
        """Take the answer of a part, which ends the call; where its process has died, or a connection, that of all fails."""
        if answer is None:
            call.died = True
        else:
            call.end(index, answer)

    def _take_free(self, call: _WorkersCall, index: int, answer: Answer | None) -> None:
        """Take the answer of a part that does not wait: one whose process has died begins again, and is called again."""
        if answer is None:
            call.pending[self._submit_listen(index)] = index
            call.late_at[index] = time.monotonic() + _STARTED_WITHIN
            return
        metrics, outcome = answer
        if isinstance(outcome, Listening):  # it is there again
            call.pending[self._submit_begin_alone(index, outcome.address)] = index
        elif isinstance(outcome, Begun) or (metrics.steps_taken < call.until and not call.halted):
            call.pending[self._submit(index, *call.arguments)] = index
        else:
            call.end(index, answer)

    def _submit_begin_alone(self, index: int, address: Address) -> Any:
        """Have a part begin that does not wait and has been started again, at an address that the others are told."""
        self._addresses = {**self._addresses, index: address}
        for number in range(self._count):
            self._note(number, "meet", index, address)
        return self._submit_begin(index)

    def _answer(self, index: int, ref: Any) -> Answer | None:
        """Return a worker's answer, which is there; None: its process has died, and Ray starts another one.

        Raises:
            AntiphonError: What the worker raised.
            RunError: It has died too often.
        """
        metrics, answer, ray_errors = self._metrics[index], None, self._ray.exceptions
        try:
            answer = self._ray.get(ref)
        except ray_errors.RayTaskError as error:
            if isinstance(error.cause, AntiphonError):
                raise error.cause from error
            raise RunError(f"ray: part {index} fails ({first_line(error.cause or error)})") from error
        except ray_errors.ActorDiedError as error:
            line = f"died after step {metrics.steps_taken} and cannot be restarted ({first_line(error)})"
            raise RunError(f"ray: part {index} {line}") from None
        except (ray_errors.UnserializableException, ray_errors.RuntimeEnvSetupError) as error:
            # It would be so again: what it was given cannot be loaded there, such as a name that only this process has.
            last = str(error).strip().splitlines()[-1].partition(": ")[2]
            raise RunError(f"ray: part {index} fails ({last})") from None
        except ray_errors.RayError:
            pass
        if answer is not None:
            self._metrics[index] = answer[0]
        elif metrics.alive:
            self._metrics[index] = replace(metrics, alive=False, incarnation=metrics.incarnation + 1)
        if self._metrics[index].incarnation > metrics.incarnation:
            _log.warning("part %d died after step %d; Ray restarts it", index, metrics.steps_taken)
        return answer
