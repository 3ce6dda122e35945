"""Parts as actors of a Ray cluster, each in a process of its own; what they exchange goes from actor to actor."""

from __future__ import annotations

import importlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.parts.part import Part
from antiphon.engine.parts.placement import Placement
from antiphon.engine.parts.transport import Stop, never
from antiphon.engine.ray.ray_cluster import RayCluster, open_cluster
from antiphon.engine.ray.records import PartRecord, Watch
from antiphon.engine.ray.worker import Failure, PartWorker, Session, StateLost
from antiphon.engine.state.checkpoint import from_bytes, to_bytes
from antiphon.errors import AntiphonError, DivergenceError, RunError
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["RayNeighbour", "RayParts"]


_GROUPS = {"steps": 1, "exchanges": 1, "reports": 1}
"""Threads of an actor: one steps its part, one takes exchanges, one answers meanwhile."""
_STARTED_WITHIN = 120.0
"""Seconds in which the process of a part must be there, at first and after it died."""
_STEPPED_WITHIN = 600.0
"""Seconds in which some part must have taken a step, or ended a call."""
_POLL = 0.2
"""Seconds between two looks at whether the run is to end."""
_ANSWERED_WITHIN = 5.0
"""Seconds in which a part says how far it is."""
_DEATHS = 20
"""Deaths of a part without a checkpoint between them, after which it is given up."""


class RayNeighbour:
    """A part as its neighbours reach it (`Neighbour`): calls to its actor, whose answers nobody waits for."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def put(self, sender: int, epoch: int, exchange: Exchange, durable: int) -> None:
        self._call("put").remote(sender, epoch, exchange, durable)

    def replay(self, requester: int, epoch: int, first: int) -> None:
        self._call("replay").remote(requester, epoch, first)

    def lose(self, sender: int, epoch: int, first: int) -> None:
        self._call("lose").remote(sender, epoch, first)

    def _call(self, method: str) -> Any:
        return getattr(self._actor, method).options(concurrency_group="exchanges", num_returns=0)


class RayParts:
    """All parts of a scenario in a Ray cluster (`Parts`).

    A part whose process dies is started again, by Ray, and goes on from its own checkpoint with what its neighbours have kept
    for it, while these go on until they need it. Where its machine is gone, and its checkpoint with it, all parts go back to the
    newest state of the whole.

    Args:
        make: Builds part `index`, at step 0; it is called in the part's process.
        merge: Makes the state of the whole out of those of all parts (`merge_states`).
        placement: The part of each agent.
        every: Steps between the exchanges of two parts; in lockstep at most the lookahead.
        address: HOST:PORT of a Ray cluster; None: one of this machine alone is started, and ended with `close`.
        gpu: Whether each part has a GPU, or its share of those there are.
        checkpoint_every: Steps between a part's own checkpoints.

    Raises:
        RunError: As of `RayCluster`, or a part does not start.
        AntiphonError: What building a part raises.
    """

    def __init__(
        self,
        make: Callable[[int], Part],
        merge: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
        placement: Placement,
        *,
        every: int,
        address: str | None = None,
        gpu: bool = False,
        checkpoint_every: int = 100,
    ) -> None:
        self.placement, self.every, self._merge = placement, every, merge
        self._count = max(placement.values()) + 1
        self._directory: Path | None = None
        """Of the parts' checkpoints."""
        self._actors: list[Any] = []
        self._makers: list[Any] = []
        self._at = self._epoch = self._calls = 0
        self._boundaries: list[int] = []
        self._rows: list[int] = []
        self._whole: tuple[int, list[bytes]] = 0, []
        """The newest state of all parts, and its step; none: that of step 0."""
        self._records = [PartRecord() for _ in range(self._count)]
        self._began = time.monotonic()
        self._resources = ExitStack()
        try:
            cluster = self._resources.enter_context(open_cluster(address))
            self._ray = importlib.import_module("ray")
            self._start(make, cluster, gpu, checkpoint_every)
            reports = self._each("open", lambda: (self._session,))
            self.lookahead = min(report.lookahead for report in reports)
        except BaseException:
            self.close()
            raise

    def _start(
        self, make: Callable[[int], Part], cluster: RayCluster, gpu: bool, checkpoint_every: int
    ) -> None:
        gpus = self._ray.cluster_resources().get("GPU", 0.0) if gpu else 0.0
        share = 1.0 if gpus >= self._count else int(1000 * gpus / self._count) / 1000
        actor = self._ray.remote(
            num_cpus=0 if cluster.own else 1,
            num_gpus=share if gpu else 0,
            max_restarts=-1,
            max_task_retries=0,
            concurrency_groups=_GROUPS,
            scheduling_strategy="DEFAULT" if cluster.own else "SPREAD",
        )(PartWorker)
        directory = self._directory = cluster.folder / f"antiphon-parts-{uuid.uuid4().hex}"
        # Kept as long as the parts: Ray starts one that has died with the same arguments.
        self._makers = [self._ray.put(partial(make, index)) for index in range(self._count)]
        self._actors = [
            actor.remote(maker, index, directory / str(index), checkpoint_every)
            for index, maker in enumerate(self._makers)
        ]
        self._neighbours = {index: RayNeighbour(one) for index, one in enumerate(self._actors)}
        refs = [self._submit(index, "report", (), group="reports") for index in range(self._count)]
        started, missing = self._ray.wait(refs, num_returns=len(refs), timeout=_STARTED_WITHIN)
        if missing:
            free = self._ray.available_resources()
            raise RunError(
                f"ray: part {refs.index(missing[0])} has not started within {_STARTED_WITHIN:g} s; "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
            )
        for ref in started:
            try:
                self._note(refs.index(ref), self._ray.get(ref, timeout=_ANSWERED_WITHIN))
            except self._ray.exceptions.RayError as error:
                raise RunError(f"ray: part {refs.index(ref)} does not start ({_reason(error)})") from None

    # --- the protocol ------------------------------------------------------------------------------------

    def advance(self, until: int, *, stop: Stop = never, row_at: int | None = None) -> int:
        """As of `Parts`."""
        if row_at is not None:
            self._rows.append(row_at)
        reached = self._advance(until, stop)
        if len(reached) > 1:  # it was stopped: all go on to where the first one is
            self._advance(max(reached), never)
        self._at = max(reached)
        return self._at

    def _advance(self, until: int, stop: Stop) -> set[int]:
        reports = self._each("advance", lambda: (self._session, self._calls, until), stop)
        return {report.now for report in reports}

    def gather(self) -> dict[str, Any]:
        """As of `Parts`."""
        if self._at not in self._boundaries:
            self._boundaries.append(self._at)
        found = self._each("gather", lambda: (self._session, self._calls, self._at))
        states = [state for _, state in found]
        self._whole = self._at, states
        durable = min(report.durable for report, _ in found)
        self._boundaries = [step for step in self._boundaries if step > durable]
        self._rows = [step for step in self._rows if step >= durable]
        return self._merge([from_bytes(state) for state in states])

    def scatter(self, state: Mapping[str, Any]) -> None:
        """As of `Parts`."""
        self._boundaries, self._rows = [], []
        self._scatter(to_bytes(dict(state)))
        self._at = self._records[0].progress.now

    def statistics(self) -> list[PartFigures]:
        """As of `Parts`."""
        seconds = time.monotonic() - self._began
        return [record.figures(index, seconds) for index, record in enumerate(self._records)]

    def close(self) -> None:
        """As of `Parts`."""
        started = [index for index in range(len(self._actors)) if self._records[index].progress.process]
        if started:
            self._halt(started)
            refs = [self._submit(index, "close", ()) for index in started]
            self._ray.wait(refs, num_returns=len(refs), timeout=_ANSWERED_WITHIN)
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._resources.close()

    # --- calls -------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        return Session(
            epoch=self._epoch,
            every=self.every,
            neighbours=self._neighbours,
            boundaries=tuple(self._boundaries),
            rows=tuple(self._rows),
        )

    def _submit(self, index: int, method: str, arguments: Sequence[Any], *, group: str = "steps") -> Any:
        actor = self._actors[index]
        return actor.call.options(concurrency_group=group).remote(method, *arguments)

    def _each(self, method: str, arguments: Callable[[], Sequence[Any]], stop: Stop = never) -> list[Any]:
        """Call a method of all workers, again where all had to go back to a state of the whole, and return the answers."""
        while True:
            try:
                return self._call_all(method, arguments, stop)
            except StateLost:
                self._go_back()

    def _go_back(self) -> None:
        """Have all parts take over the newest state of the whole."""
        step, states = self._whole
        self._boundaries = [one for one in self._boundaries if one > step]
        self._rows = [one for one in self._rows if one >= step]
        self._scatter(to_bytes(self._merge([from_bytes(state) for state in states])) if states else None)

    def _scatter(self, whole: bytes | None) -> None:
        self._epoch += 1
        shared = None if whole is None else self._ray.put(whole)
        self._call_all("scatter", lambda: (self._session, shared))

    def _call_all(self, method: str, arguments: Callable[[], Sequence[Any]], stop: Stop = never) -> list[Any]:
        """Call a method of all workers and return the answers; a part that dies meanwhile is called once more.

        Raises:
            StateLost: As of `PartWorker`.
            AntiphonError: What a worker raises, a divergence first; all others have ended the call.
            RunError: A part has died and not come back, or none goes on.
        """
        self._calls += 1
        sent = arguments()
        pending = {self._submit(index, method, sent): index for index in range(self._count)}
        answers: dict[int, Any] = {}
        errors: list[AntiphonError] = []
        watch = Watch(_STEPPED_WITHIN)
        try:
            while pending:
                done, _ = self._ray.wait([*pending], timeout=_POLL)
                for ref in done:
                    index = pending.pop(ref)
                    answer = self._answer(index, ref)
                    if isinstance(answer, Failure):
                        errors.append(answer.error)
                    elif answer is not None:
                        answers[index] = answer
                    elif not errors:
                        pending[self._submit(index, method, sent)] = index
                if errors or stop():
                    self._halt(pending.values())
                if not done and watch.is_due():
                    self._ask([*pending.values()])
                    watch.look(self._records)
        except BaseException:
            self._halt(pending.values())
            raise
        if errors:
            raise min(errors, key=_rank)
        return [answers[index] for index in range(self._count)]

    def _answer(self, index: int, ref: Any) -> Any:
        """Return a worker's answer, which is there; None: its process has died."""
        try:
            answer = self._ray.get(ref, timeout=_STEPPED_WITHIN)
        except self._ray.exceptions.RayActorError as error:
            self._note_death(index, error)
            return None
        if not isinstance(answer, Failure):
            self._note(index, answer)
        return answer

    def _halt(self, indices: Iterable[int]) -> None:
        """Have parts end the present call early."""
        for index in indices:
            self._submit(index, "halt", (self._calls,), group="reports")

    def _ask(self, indices: Sequence[int]) -> None:
        """Note the progress of parts that answer soon."""
        refs = {self._submit(index, "report", (), group="reports"): index for index in indices}
        for ref in self._ray.wait([*refs], num_returns=len(refs), timeout=_ANSWERED_WITHIN)[0]:
            with suppress(self._ray.exceptions.RayError):
                self._note(refs[ref], self._ray.get(ref, timeout=_ANSWERED_WITHIN))

    def _note(self, index: int, answer: Any) -> None:
        self._records[index].note(answer[0] if isinstance(answer, tuple) else answer)

    def _note_death(self, index: int, error: BaseException) -> None:
        record = self._records[index]
        record.note_death()
        gone = isinstance(error, self._ray.exceptions.ActorDiedError)
        if gone or (record.deaths > _DEATHS and record.seconds_dead > _STARTED_WITHIN):
            raise RunError(
                f"ray: part {index} has died after step {record.progress.now} and does not come back ({_reason(error)})"
            )
        time.sleep(_POLL)


def _rank(error: AntiphonError) -> int:
    """Order errors of several parts: a divergence first, the loss of a state last."""
    return 0 if isinstance(error, DivergenceError) else 2 if isinstance(error, StateLost) else 1


def _reason(error: BaseException) -> str:
    """Return the line of an error of Ray that says most."""
    lines = [
        line.strip() for line in str(getattr(error, "cause", None) or error).splitlines() if line.strip()
    ]
    return lines[0] if lines else type(error).__name__
