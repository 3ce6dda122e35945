"""Where calls run: in this process, or in other processes of this machine, each of which takes one call at a time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing import get_context, parent_process
from types import FrameType, ModuleType
from typing import Any, Protocol, Self, TypeVar

from antiphon.base.signals import pass_on, stop_signals
from antiphon.nets.devices import matmul_precision, set_matmul_precision

Result = TypeVar("Result")
Argument = TypeVar("Argument")


_PASSED_ON = getattr(signal, "SIGUSR2", signal.SIGTERM)
"""What stops a process's call: it is no SIGTERM that the process may have got itself, and has obeyed."""


class Place(Protocol):
    """What calls functions, which it can import, in the caller's precision of matrix products."""

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Begin a call."""


class Here:
    """This process: a call has ended when it is submitted, and heeds signals itself."""

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        call: Future[Result] = Future()
        try:
            call.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  (the caller's to handle, as one of another process)
            call.set_exception(error)
        return call

    def signals(self) -> AbstractContextManager[list[int]]:
        """Return no signals: see above."""
        return nullcontext([])


class Processes:
    """Processes of this machine: one that has ended its call takes the next one. They end with the `with` block."""

    def __init__(self) -> None:
        self._workers: list[_WorkerProcess] = []
        self._stopped: Sequence[int] = ()

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """See `Place`; BrokenProcessPool: the process was killed."""
        worker = next((worker for worker in self._workers if worker.free), None)
        if worker is not None:
            worker.begin(function, *arguments)
        else:
            worker = _WorkerProcess()
            worker.begin(function, *arguments)
            self._workers.append(worker)  # not before: a signal would kill a process that has no call to stop
        if self._stopped and not worker.stopped:  # by a signal that came before the line above
            worker.stop()
        return worker.call

    @contextmanager
    def signals(self) -> Iterator[list[int]]:
        """List the signals to this process, which stop the runs of all calls with checkpoints, as the end of this does."""
        with stop_signals(self._stop) as self._stopped:
            try:
                yield self._stopped
            finally:
                self._stop()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.shutdown()


class _WorkerProcess(ProcessPoolExecutor):
    """A process that takes one call after the other. It begins with a fresh interpreter, without the main program."""

    def __init__(self) -> None:
        super().__init__(1, get_context("spawn"), _begin)
        # new processes would run the main program again where it has no `if __name__ == "__main__"`
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            with _interrupts_kept():
                self._pid = self.submit(os.getpid)
        finally:
            sys.modules["__main__"] = main
        self.call: Future[Any] = self._pid
        """The newest one."""
        self.stopped = False

    def begin(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = self.submit(_called, matmul_precision(), function, *arguments)

    @property
    def free(self) -> bool:
        """Whether it has ended its call, and lives."""
        return self.call.done() and not isinstance(self.call.exception(), BrokenProcessPool)

    def stop(self) -> None:
        """Stop the runs of its call with checkpoints; when called again, at once."""
        if not self.call.done():
            self.stopped = True
            with suppress(BrokenProcessPool, ProcessLookupError):
                os.kill(self._pid.result(), _PASSED_ON)


def calls_as_completed(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    pool: Place,
    at_once: int,
    stopped: Sequence[int],
) -> Iterator[tuple[Argument, Future[Result]]]:
    """Call a function with each of some arguments, at most `at_once` at a time, and yield each with its call when that has ended.

    None begins, and none is yielded, once a signal is in `stopped`.
    """
    waiting, running = deque(arguments), dict[Future[Result], Argument]()
    while running or (waiting and not stopped):
        while waiting and not stopped and len(running) < at_once:
            argument = waiting.popleft()
            running[pool.submit(function, argument)] = argument
        ended = wait(running, return_when=FIRST_COMPLETED).done
        for call in [call for call in running if call in ended]:
            argument = running.pop(call)
            if not stopped:
                yield argument, call


def _called(precision: str | None, function: Callable[..., Result], *arguments: object) -> Result:
    set_matmul_precision(precision)
    return function(*arguments)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Begin processes that a Ctrl-C does not reach before `_begin`, while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(number: int, _: FrameType | None) -> None:
    """Stop the runs of the present call; when called again, at once."""
    signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    pass_on(signal.SIGTERM)


def _begin() -> None:
    """Prepare a worker: Ctrl-C reaches the process that began it alone, output goes to stderr, and it ends when that one is killed."""
    if hasattr(os, "setsid"):
        os.setsid()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that has come meanwhile is dropped
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
        signal.signal(_PASSED_ON, _stop)
    os.dup2(2, 1)

    def follow() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
