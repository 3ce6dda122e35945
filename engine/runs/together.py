"""Seeds that are run at once, each written as if it ran alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from antiphon.engine.runs.directory import RunDirectory, now
from antiphon.engine.runs.run import Outcome, Run
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.runs.stopping import stop_signals
from antiphon.engine.simulation import Simulation
from antiphon.errors import AntiphonError, DivergenceError
from antiphon.telemetry.over_seeds import OverSeeds

__all__ = ["OnStep", "Scores", "Together"]

Scores = dict[str, dict[str, float]]
OnStep = Callable[[int, Callable[[], Scores]], None]
"""Called after every step with how many have been taken, and what gives the readouts' scores since it was last called."""

_CHECKPOINTS = 10
_FEWEST_STEPS = 100


class _Clock:
    """The time of runs that share a program: each has its part of it."""

    def __init__(self, sharing: int) -> None:
        self._sharing, self._before, self._since = sharing, 0.0, time.perf_counter()

    def __call__(self) -> float:
        """Return the part of each, seconds."""
        return self._before + (time.perf_counter() - self._since) / self._sharing

    def share(self, sharing: int) -> None:
        """Share between so many from now on; 0: the clock stands still."""
        self._before, self._since, self._sharing = self(), time.perf_counter(), sharing or 1 << 62


class _Member(Run):
    """A run that shares its program with others.

    Args:
        simulation: Of `Seeds`.
        directory: Its run directory.
        until: The step it stops at.
        clock: Of all.
    """

    def __init__(self, simulation: Simulation, directory: RunDirectory, until: int, clock: _Clock) -> None:
        super().__init__(simulation, directory, until)
        self._clock, self._from = clock, 0.0
        self.outcome: Outcome | None = None

    def open(self) -> None:
        super().open()
        self._from = self._clock()

    def _seconds(self) -> float:
        return self._before + self._clock() - self._from

    def count(self) -> None:
        """Take note of what was learned at a step, for the scores."""
        self._tally.add(self.simulation.learned)

    def leave(self, ended: str, exit_code: int, error: str | None = None) -> None:
        """End this run; the others go on."""
        self.outcome = Outcome(self.finish(ended, error), exit_code, error)
        for recorder in self.simulation.recorders:
            recorder.close()
        self.simulation.recorders = []


class Together:
    """Seeds that are run at once, each written into a directory of its own.

    Args:
        seeds: Joined, all at the step they go on from.
        directories: One per seed.
        until: The step they stop at.
    """

    def __init__(self, seeds: Seeds, directories: Sequence[RunDirectory], until: int) -> None:
        self.seeds = seeds
        self.until = until
        self._clock = _Clock(len(directories))
        self.runs = [
            _Member(simulation, directory, until, self._clock)
            for simulation, directory in zip(seeds.simulations, directories, strict=True)
        ]

    def scores(self) -> Scores:
        """Return loss and metric of each readout since the last call, means over the seeds that run."""
        found = [run.scores() for run in self.runs if run.outcome is None]
        return {
            name: {metric: sum(one[name][metric] for one in found) / len(found) for metric in metrics}
            for name, metrics in (found[0] if found else {}).items()
            if all(name in one for one in found)
        }

    def go(
        self,
        on_step: OnStep | None = None,
        checkpoint_every: int | None = None,
        bands: OverSeeds | None = None,
        places: Sequence[int] = (),
    ) -> list[Outcome]:
        """Run to the end; the simulations are closed afterwards.

        A seed that diverges ends by itself. Ctrl-C or SIGTERM ends all after the present step, with checkpoints.

        Args:
            on_step: Called after every step.
            checkpoint_every: As of `Run.go`.
            bands: Are told the figures too.
            places: Which of its runs the seeds are.

        Raises:
            RunError: A directory cannot be written any more.
        """
        try:
            with stop_signals() as stopped:
                for number, run in enumerate(self.runs):
                    run.open()
                    if bands is not None:
                        run.simulation.recorders.append(bands.recorder(places[number]))
                self._clock.share(len(self.runs))
                self._loop(stopped, on_step, checkpoint_every)
                self._clock.share(0)
                for run in self._running:
                    early = run.simulation.now < self.until
                    run.leave("stopped" if early else "done", 128 + stopped[0] if early else 0)
        except BaseException as failure:
            for run in self._running:
                with suppress(AntiphonError):
                    reason = str(failure) or type(failure).__name__
                    run.directory.note(exit="failed", error=reason, finished=now())
            raise
        finally:
            self.seeds.close()
        return [run.outcome for run in self.runs if run.outcome is not None]

    @property
    def _running(self) -> list[_Member]:
        return [run for run in self.runs if run.outcome is None]

    def _loop(self, stopped: list[int], on_step: OnStep | None, checkpoint_every: int | None) -> None:
        step, running = self.runs[0].simulation.now, self._running
        every = checkpoint_every or max(_FEWEST_STEPS, -(-self.until // _CHECKPOINTS))
        for run in running:
            run.simulation.until = self.until
        while step < self.until and running and not stopped:
            self.seeds.step()
            step += 1
            for run in running:
                if run.simulation.diverged is None:
                    run.count()
            diverged = [run for run in running if run.simulation.diverged is not None]
            if diverged:
                self._clock.share(0)
                for run in diverged:
                    run.leave("diverged", DivergenceError.exit_code, run.simulation.diverged)
                running = self._running
                self._clock.share(len(running))
            if on_step is not None:
                on_step(step, self.scores)
            if step % every == 0 and step < self.until:
                for run in running:
                    run.directory.checkpoint(run.simulation)
