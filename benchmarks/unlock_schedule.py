"""When the stages of a chain would work and wait if each had a processor of its own: schedules as lists of tasks.

A stage does its tasks in a fixed order; a task begins when the one before it and all that it needs are done. Messages take no
time on the way. Times come from outside; nothing is run. F(i, t) is the forward pass of stage i on minibatch t, B its
backward pass and optimiser, T the lesson of its synthetic gradient, I that of its synthetic input, and

    locked      F(i, t) needs F(i-1, t);  B(i, t) needs B(i+1, t);  F(i, t+1) follows B(i, t)
    delayed     F(i, t) needs F(i-1, t);  at step t stage i replays and learns minibatch t - (S-1-i): needs B(i+1, t-1)
    decoupled   F(i, t) needs F(i-1, t);  B(i, t) needs nobody;  T(i, t) needs B(i+1, t) and goes before B(i, t+1)
    pipelined   F(i, t) needs F(i-1, t-1);  B as above;  T(i, t) needs B(i+1, t-1)
    unlocked    F needs nobody;  B, T as decoupled;  I(i, t) needs F(i-1, t)
    1f1b        the synchronous pipeline of torch.distributed.pipelining: a minibatch in M parts, one forward, one
                backward in turn after the warm-up, the optimiser once all parts are through

Free running, nothing else holds a stage back. In step, all stages begin a step together once all have ended the one before
it, as the simulator's steps do: then the waves of a zero-delay chain show as waiting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["COUPLINGS", "Costs", "Played", "one_forward_one_backward", "play", "steps_of"]

COUPLINGS = ("locked", "delayed", "decoupled", "pipelined", "unlocked")
Key = tuple[str, int, int]
"""Kind, stage, minibatch (or part of one)."""


@dataclass(frozen=True)
class Costs:
    """Seconds that a stage needs.

    Attributes:
        forward: For a forward pass.
        backward: For a backward pass.
        optimise: For its optimiser's step.
        predict: To say a synthetic gradient.
        teach: To teach the synthetic gradient.
        stand_in: To say a synthetic input.
        teach_input: To teach the synthetic input.
    """

    forward: float
    backward: float
    optimise: float
    predict: float = 0.0
    teach: float = 0.0
    stand_in: float = 0.0
    teach_input: float = 0.0


@dataclass(frozen=True)
class Task:
    """What a stage does next: how long, and after which tasks of others."""

    key: Key
    seconds: float
    needs: tuple[Key, ...] = ()
    step: int = 0


@dataclass
class Played:
    """A schedule played through.

    Attributes:
        start: Of each task.
        end: Of each task.
        busy: Seconds of work by stage and step.
        ends: When each step's last task ended, by stage.
    """

    start: dict[Key, float] = field(default_factory=dict)
    end: dict[Key, float] = field(default_factory=dict)
    busy: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    ends: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def _settled(self) -> tuple[int, int]:
        """Two late steps: what begins and ends with the run does not count."""
        last = max(self.ends[0])
        return last // 2, last - 1

    def period(self) -> float:
        """Seconds from one step to the next."""
        one, other = self._settled()
        return (self.ends[0][other] - self.ends[0][one]) / (other - one)

    def waiting(self) -> float:
        """The share of a stage's time that it waits: 1 - work / time, mean over stages."""
        one, other = self._settled()
        period = self.period()
        shares = [
            1 - sum(steps[step] for step in range(one + 1, other + 1)) / ((other - one) * period)
            for steps in self.busy.values()
        ]
        return max(0.0, sum(shares) / len(shares))

    def held(self, stage: int, first: str, last: str) -> int:
        """The most minibatches that a stage holds at a time, from the start of one task to the end of another."""
        changes = []
        for (kind, at, number), begun in self.start.items():
            if (kind, at) == (first, stage) and (last, stage, number) in self.end:
                changes += [(begun, 1), (self.end[last, stage, number], -1)]
        most = now = 0
        for _, change in sorted(changes, key=lambda change: (round(change[0], 12), change[1])):
            now += change
            most = max(most, now)
        return most


def play(lists: list[list[Task]], *, in_step: bool = False) -> Played:
    """Play the tasks of all stages.

    Args:
        lists: Those of each stage, in order.
        in_step: Whether a step begins when all stages have ended the one before it.
    """
    played = Played()
    places = [0] * len(lists)
    free = [0.0] * len(lists)
    began: dict[int, float] = {}
    ended: dict[int, int] = defaultdict(int)
    while any(place < len(tasks) for place, tasks in zip(places, lists, strict=True)):
        before = list(places)
        for stage, tasks in enumerate(lists):
            while places[stage] < len(tasks):
                task = tasks[places[stage]]
                if any(need not in played.end for need in task.needs):
                    break
                if in_step and task.step and ended[task.step - 1] < len(lists):
                    break
                ready = max([free[stage], *(played.end[need] for need in task.needs)])
                if in_step and task.step:
                    ready = max(ready, began.setdefault(task.step, max(free)))
                played.start[task.key] = ready
                free[stage] = played.end[task.key] = ready + task.seconds
                played.busy[stage][task.step] += task.seconds
                played.ends[stage][task.step] = free[stage]
                places[stage] += 1
                if places[stage] == len(tasks) or tasks[places[stage]].step > task.step:
                    ended[task.step] += 1
        if places == before:
            raise ValueError("the schedule is a deadlock")
    return played


def steps_of(
    coupling: str, stages: int, costs: Costs, steps: int, *, in_step: bool = False
) -> list[list[Task]]:
    """Return the tasks of a chain, by stage."""
    return [
        [task for step in range(steps) for task in _step(coupling, stage, stages, costs, step, in_step)]
        for stage in range(stages)
    ]


def _step(coupling: str, stage: int, stages: int, costs: Costs, step: int, in_step: bool) -> Iterator[Task]:
    """Yield what a stage does at a step."""
    first, last = stage == 0, stage == stages - 1
    learn = costs.backward + costs.optimise
    sent = step - 1 if coupling == "pipelined" else step
    hears = not first and coupling != "unlocked" and sent >= 0
    forward = costs.forward + (costs.stand_in if coupling == "unlocked" and not first else 0.0)
    yield Task(("F", stage, step), forward, (("F", stage - 1, sent),) if hears else (), step)
    if coupling == "locked":
        yield Task(("B", stage, step), learn, () if last else (("B", stage + 1, step),), step)
    elif coupling == "delayed":
        number = step - (stages - 1 - stage)
        if number >= 0:  # its gradient is back: all is done again with present parameters
            seconds = learn if last else costs.forward + learn
            yield Task(("B", stage, number), seconds, () if last else (("B", stage + 1, number),), step)
    else:
        lesson = step if in_step else step - 1  # free running, the next forward pass need not wait for it
        back = lesson - 1 if coupling == "pipelined" else lesson
        taught = (
            ()
            if last or back < 0
            else (Task(("T", stage, back), costs.teach, (("B", stage + 1, back),), step),)
        )
        if not in_step:
            yield from taught
        yield Task(("B", stage, step), learn + (0.0 if last else costs.predict), (), step)
        if in_step:
            yield from taught
        if coupling == "unlocked" and not first:
            yield Task(("I", stage, step), costs.teach_input, (("F", stage - 1, step),), step)


def one_forward_one_backward(stages: int, parts: int, costs: Costs, steps: int) -> list[list[Task]]:
    """Return the tasks of the synchronous pipeline, by stage.

    Args:
        stages: S.
        parts: M, of a minibatch.
        costs: Of one part; the optimiser's is once for all.
        steps: Minibatches.
    """
    return [
        [task for step in range(steps) for task in _parts(stage, stages, parts, costs, step)]
        for stage in range(stages)
    ]


def _parts(stage: int, stages: int, parts: int, costs: Costs, step: int) -> Iterator[Task]:
    warm = min(parts, stages - 1 - stage)
    order = [("F", part) for part in range(warm)]
    for part in range(parts):
        order += [("F", part + warm)] * (part + warm < parts) + [("B", part)]
    for kind, part in order:
        number = step * parts + part
        if kind == "F":
            needs = () if stage == 0 else (("F", stage - 1, number),)
            yield Task(("F", stage, number), costs.forward, needs, step)
        else:
            needs = () if stage == stages - 1 else (("B", stage + 1, number),)
            yield Task(("B", stage, number), costs.backward, needs, step)
    yield Task(("O", stage, step), costs.optimise, (), step)
