"""A simulation whose agents run on the machines of a cluster profile, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from antiphon.distributed.parts.settings import FreeSettings
from antiphon.distributed.virtual.cluster import VirtualCluster
from antiphon.distributed.virtual.execution import VirtualParts
from antiphon.distributed.virtual.profile import ClusterProfile, find_profile
from antiphon.engine.running import Settings
from antiphon.running.run import begin
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario, Template


class VirtualSimulation(Simulation):
    """A scenario on a simulated cluster: parts in free mode, in the order of virtual time.

    One step is as many steps of parts as there are parts: `now` is the mean number of steps taken per part, including steps
    that a failure has undone. `seconds` is the simulated time. Everything else works as in `Simulation`: metrics, run
    directories, checkpoints, evaluation. A checkpoint holds all exchanges on their way.

    Args:
        scenario: See `Simulation`.
        profile: A cluster profile, the name of one of antiphon's own, or a YAML file.
        placement: The part of each agent; part i runs on machine i. A number: that many parts, of equal work. None: every set
            of agents that cannot be separated is a part, or as many parts as there are machines.
        seed: Seed of all random numbers, including those of the cluster.
        free: Bounds of the exchange.
        step_seconds: Seconds per step of each part, without chance; None: from the profile. With `measure` it is timed, once.
        device, dtype, logdir, checkpoint_every, threads: See `Simulation`.

    Raises:
        ScenarioError: The profile is invalid, or the scenario cannot be divided, or not in free mode.
        DataError: Data of the environment are missing or damaged.
        RunError: `logdir` cannot be written.
        ResourceError: There is not enough memory.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        profile: ClusterProfile | str | Path,
        placement: Mapping[str, int] | int | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        free: FreeSettings | None = None,
        step_seconds: list[float] | None = None,
        logdir: str | Path | None = None,
        checkpoint_every: int | None = None,
        threads: int = 1,
    ) -> None:
        profile = profile if isinstance(profile, ClusterProfile) else find_profile(profile)
        settings = Settings.of(seed=seed, device=device, dtype=dtype, threads=threads)
        virtual = VirtualParts(profile, placement, free, step_seconds)
        self._hold(begin(scenario, settings, logdir, executor=virtual, checkpoint_every=checkpoint_every))

    @property
    def _virtual(self) -> VirtualParts:
        executor = self.running.executor
        assert isinstance(executor, VirtualParts)
        return executor

    @property
    def profile(self) -> ClusterProfile:
        """The cluster."""
        return self._virtual.profile

    @property
    def placement(self) -> dict[str, int]:
        """The part of each agent."""
        return self._virtual.placement

    @property
    def cluster(self) -> VirtualCluster:
        """The machines, as they are now."""
        return self._virtual.cluster

    @property
    def seconds(self) -> float:
        """Simulated seconds."""
        return self.cluster.seconds

    @property
    def warnings(self) -> list[str]:
        """One line for each agent that may learn from messages of other examples."""
        return list(self._virtual.warnings)

    def figures(self) -> dict[str, float]:
        """Return the run's metrics of virtual time.

        `simulated_seconds`. `goodput`: the share of the machines' time in which they computed steps that count; `waiting`
        and `away`: the shares in which they waited for a message, or had failed. `traffic`: bytes sent so far; `calls`; and
        the share of calls that were lost. Since the previous metrics: `gradient_age`, steps from a message to the step that
        learns from its returned gradient; `given_up`, the share of messages without a returned gradient; and `missed`,
        ticks without a new message.
        """
        return self._virtual.figures()
