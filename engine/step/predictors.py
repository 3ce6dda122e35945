"""Training of synthetic gradients and inputs, one optimiser step each on all that has come back (semantics 6), and
what they are conditioned on: signals of the step, and of the channel's two ends.

Of the ends, a synthetic gradient may know `returned` (the newest gradient that has come back), a synthetic input
`held` (the newest message that came before the one it stands in for) and its `age`; both may know `from.phase` and
`to.phase`: which tick of its window the sender or the receiver is at. A synthetic gradient may know the states of the
ends too: `from.state`, the sender's of the tick that made the message, and `to.state`, the newest of the receiver's
that had crossed the link by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.credit import constant
from antiphon.comms.model import ContextSpec
from antiphon.comms.outliers import Outliers
from antiphon.comms.stacked import StackedModels, gradients_all, predict_all
from antiphon.comms.synthetic_gradients import Example, Predictor
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.divergence import Guard, Report
from antiphon.engine.core.records import Record, Tape
from antiphon.engine.core.rows import Members, mask_and, mask_fill_zero, mask_not
from antiphon.engine.core.system import System
from antiphon.nets.optimisers import step_all

__all__ = ["Contexts", "InputUpdate", "PredictorTrainer", "PredictorUpdate", "ends_of"]


def ends_of(
    names: tuple[str, ...],
    shape: tuple[int, ...],
    sender_ticks: int,
    receiver_ticks: int,
    states: Mapping[str, int],
) -> tuple[ContextSpec, ...]:
    """Return what the end signals `names` of a channel are.

    Args:
        names: Of `shapes.GRADIENT_ENDS` or `shapes.INPUT_ENDS`.
        shape: Of one message.
        sender_ticks: Of a window of the sender.
        receiver_ticks: Of a window of the receiver.
        states: Components of the ends' states, by `from.state` and `to.state`; 0: it has none.
    """
    specs = {
        "returned": ContextSpec("returned", shape),
        "held": ContextSpec("held", shape),
        "age": ContextSpec("age", ()),
        "from.phase": ContextSpec("from.phase", (), sender_ticks),
        "to.phase": ContextSpec("to.phase", (), receiver_ticks),
    }
    specs |= {name: ContextSpec(name, (size,)) for name, size in states.items()}
    return tuple(specs[name] for name in names)


class Contexts:
    """Encodes the contexts of a system's predictors, [B, features] each.

    Args:
        system: The channels.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def of_gradient(self, channel: Channel, record: Record) -> Tensor | None:
        """Return what the synthetic gradient of `record` is conditioned on; None without any context."""
        seen = self._signals(channel, record, channel.context)
        if not channel.ends:
            return seen
        ends: dict[str, Callable[[], Tensor]] = {
            "returned": lambda: channel.zeros if record.returned is None else record.returned,
            "from.phase": lambda: self._phase(channel, channel.sender, record.stamp, record.began),
            "to.phase": lambda: self._phase(channel, channel.receiver, record.first_use, record.began),
            "from.state": lambda: self._state(channel, channel.sender, record.states.get("from.state")),
            "to.state": lambda: self._state(channel, channel.receiver, record.states.get("to.state")),
        }
        return _joined(seen, [ends[name]() for name in channel.ends])

    def _signals(self, channel: Channel, record: Record, specs: tuple[ContextSpec, ...]) -> Tensor | None:
        """Signals of the environment at the moment that a message was made."""
        found = record.step_signals.context(specs, self.system.dtype)
        return None if found is None else channel.replicas.to_rows(found)

    def _state(self, channel: Channel, agent: str, state: Tensor | None) -> Tensor:
        """[B, state size]: a state of an agent; zeros before its first."""
        if state is not None:
            return state
        size = self.system.agents[agent].learner.network.state_size
        return torch.zeros(channel.rows, size, dtype=self.system.dtype, device=self.system.device)

    def of_input(self, channel: Channel, record: Record, step: int) -> Tensor | None:
        """Return what a synthetic input that stands in for `record` at the tick at `step` is conditioned on."""
        seen = self._signals(channel, record, channel.input_context)
        if not channel.input_ends:
            return seen
        mailbox = channel.mailbox
        ends: dict[str, Callable[[], Tensor]] = {
            "held": lambda: channel.zeros if mailbox.prior is None else self._held(channel),
            "age": lambda: self._age(channel, record.stamp),
            "from.phase": lambda: self._phase(channel, channel.sender, record.stamp, record.began),
            "to.phase": lambda: self._phase(channel, channel.receiver, step, record.began),
        }
        return _joined(seen, [ends[name]() for name in channel.input_ends])

    def _held(self, channel: Channel) -> Tensor:
        prior, stamp = channel.mailbox.prior, channel.mailbox.prior_stamp
        assert prior is not None
        assert stamp is not None
        return torch.where((stamp >= 0).unsqueeze(1), prior, 0.0)

    def _age(self, channel: Channel, stamp: int) -> Tensor:
        held = channel.mailbox.prior_stamp
        if held is None:
            return channel.zeros.new_zeros(len(channel.zeros), 1)
        age = torch.where(held >= 0, stamp - held, 0)
        return age.to(self.system.dtype).unsqueeze(1)

    def _phase(self, channel: Channel, agent: str, tick: int | None, began: int) -> Tensor:
        """Which tick of its window an agent is at, one-hot; zeros where it never ticks."""
        windows, clock = self.system.group_of[agent].windows, self.system.agents[agent].clock
        count = windows.ticks(clock)
        encoded = torch.zeros(count, dtype=self.system.dtype, device=self.system.device)
        if tick is not None:
            at = torch.tensor(windows.position(tick, clock, began), device=self.system.device)
            encoded = F.one_hot(at, count).to(self.system.dtype)
        return encoded.expand(channel.rows, count)


def _joined(first: Tensor | None, rest: list[Tensor]) -> Tensor:
    columns = [*([] if first is None else [first]), *rest]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


@dataclass(slots=True)
class InputUpdate:
    """What a synthetic input learns from at one step."""

    loss: Tensor
    """Before the update; [K] of a stack."""
    gradients: list[Tensor]
    """Of its parameters."""
    members: Members = None
    """The channels of a stack that it is for; None: all."""


@dataclass(slots=True)
class PredictorUpdate:
    """What a synthetic gradient learns from at one step."""

    examples: list[Example]
    loss: Tensor
    """Summed over the examples, before the update; [K] of a stack."""
    gradients: list[Tensor]
    """Of its parameters."""
    prediction: Tensor | None
    """Its prediction for the newest example before the update; None unless asked for."""
    members: Members = None
    """The channels of a stack that it is for; None: all."""


AnyUpdate = TypeVar("AnyUpdate", PredictorUpdate, InputUpdate)


class PredictorTrainer:
    """Evaluates and trains the predictors of a system.

    Args:
        system: The channels.

    Attributes:
        frozen: Whether nothing is learned: what has come back reaches the senders, and no predictor.
        guard: Where numbers are checked on the device and read later; None: the host checks every step.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.contexts = Contexts(system)
        self.frozen = False
        self.guard: Guard | None = None

    def predict_missing(self, requested: list[tuple[Channel, Record]]) -> None:
        """Evaluate the synthetic gradients of records, which keep them while they stay true."""
        questions: list[tuple[Predictor, Example]] = []
        records: list[tuple[Channel, Record]] = []
        for channel, record in requested:
            example = self.example(
                channel, record, answered=False
            )  # a prediction must not see what has come back
            if example is not None and channel.predictor is not None:
                questions.append((channel.predictor, example))
                records.append((channel, record))
        for (channel, record), (predictor, example), prediction in zip(
            records, questions, predict_all(questions), strict=True
        ):
            if example.target is not None and example.valid is not None:  # no own loss, no injection
                prediction = mask_fill_zero(example.valid, prediction)
            prediction = constant(prediction)
            if channel.predictors_disabled is not None:
                prediction = channel.enabled_predictions(prediction)
            channel.ledger.keep_prediction(record, prediction, predictor.updates)

    def predict(self, channel: Channel, record: Record) -> Tensor | None:
        """Return the synthetic gradient of one record, [B, size] per sample; None where it cannot be evaluated."""
        self.predict_missing([(channel, record)])
        return None if record.prediction is None else record.prediction[0]

    def example(self, channel: Channel, record: Record, *, answered: bool = True) -> Example | None:
        """The example that a record is for its channel's predictor; None where its target is absent.

        Args:
            channel: The channel.
            record: One of its records.
            answered: Whether what has come back is in it.
        """
        if channel.target is not None and channel.target not in record.step_signals.signals:
            return None
        if not record.step_signals.signals and channel.context:
            return None
        context = self.contexts.of_gradient(channel, record)
        example = Example(record.message, context, None)
        valid: Tensor | None = None
        if answered and channel.ledger.wants_deltas:
            example.delta, example.loss = record.delta, record.loss
            if (
                channel.needs_returned_loss and example.loss is None
            ):  # after an episode's end there is no loss
                example.loss = torch.zeros_like(record.message[:, 0])
            valid = example.valid = record.counted if isinstance(record.counted, Tensor) else None
        if channel.target is not None:
            target = record.step_signals.signals[channel.target]
            present = record.step_signals.signals.get(f"_{channel.target}")
            if present is not None:
                target, present = mask_fill_zero(present, target), channel.to_rows(present)
                example.valid = present if valid is None else present & valid
            example.target = channel.to_rows(target)
        return example

    def local_examples(self, tapes: list[Tape]) -> dict[str, list[Example]]:
        """Examples of predictors to which nothing is returned: they learn when their sender does."""
        found: dict[str, list[Example]] = {}
        for tape in tapes:
            for name, record in tape.sent:
                channel = self.system.channels[name]
                if channel.predictor is None or channel.ledger.wants_deltas or channel.predictor_disabled:
                    continue
                participates = channel.of_sender(self.system.agents[channel.sender].participates(tape.window))
                if participates is False:
                    continue
                example = (
                    None if record.unread or record.no_injection is True else self.example(channel, record)
                )
                if example is not None:
                    rows = mask_and(participates, mask_not(record.no_injection))
                    if isinstance(rows, Tensor):
                        example.valid = rows if example.valid is None else rows & example.valid
                    if len(channel.members) > 1:
                        example.members = channel.examples_for(rows)
                    found.setdefault(name, []).append(example)
        return found

    def gradients(
        self,
        local: dict[str, list[Example]],
        returns: dict[str, list[Record]],
        step: int,
        *,
        watch: bool,
    ) -> dict[str, PredictorUpdate]:
        """Gather what reached each synthetic gradient at this step, with the gradients of its parameters.

        Args:
            local: Examples of those to which nothing is returned, by channel.
            returns: Records of states whose return over several windows is known now, by channel.
            step: The step just taken.
            watch: Whether predictions are kept for telemetry.

        Raises:
            DivergenceError: A loss or gradient is not finite, and the scenario says stop.
        """
        reached: dict[str, tuple[Predictor, list[Example]]] = {}
        for channel in self.system.channels.values():
            predictor = channel.predictor
            records = channel.ledger.take(step)
            if self.frozen or predictor is None or predictor.frozen or channel.predictor_disabled:
                continue
            examples = local.get(channel.name, [])
            if channel.traced:  # what was consumed waits for its return; an episode's last state need not
                records = [record for record in records if record.unread or record.no_injection is True]
                records += returns.get(channel.name, [])
            if channel.ledger.wants_deltas:
                examples = [e for record in records if (e := self._returned_example(channel, record, step))]
            if examples:
                reached[channel.name] = predictor, examples
        predictions: dict[str, Tensor] = {}
        if watch:
            newest = {name: (predictor, examples[-1]) for name, (predictor, examples) in reached.items()}
            predictions = {name: constant(p) for name, p in self._predictions(newest).items()}
        learned = self._gradients(reached)
        updates = {
            name: PredictorUpdate(examples, *learned[name], predictions.get(name))
            for name, (_, examples) in reached.items()
        }
        for name, update in updates.items():
            if (count := len(self.system.channels[name].members)) > 1:
                update.members = _union([example.members for example in update.examples], count)
        self._disable_diverged(updates, step)
        return updates

    @staticmethod
    def _predictions(
        requested: Mapping[str, tuple[Predictor, Example]],
    ) -> dict[str, Tensor]:
        """Synthetic gradients by name; those of lone channels of one shape as one batched product."""
        lone = {n: (p, e) for n, (p, e) in requested.items() if not isinstance(p, StackedModels)}
        found = dict(zip(lone, predict_all(list(lone.values())), strict=True))
        return found | {n: p.predict(e) for n, (p, e) in requested.items() if isinstance(p, StackedModels)}

    @staticmethod
    def _gradients(
        requested: Mapping[str, tuple[Predictor, list[Example]]],
    ) -> dict[str, tuple[Tensor, list[Tensor]]]:
        """Each predictor's loss, [K] of a stack, and the gradients of its parameters."""
        lone = {n: (p, e) for n, (p, e) in requested.items() if not isinstance(p, StackedModels)}
        found = dict(zip(lone, gradients_all(list(lone.values())), strict=True))
        return found | {n: p.gradients(e) for n, (p, e) in requested.items() if isinstance(p, StackedModels)}

    def _disable_diverged(self, updates: dict[str, AnyUpdate], step: int) -> None:
        """Disable the models that have diverged, and drop the updates of which nothing is left.

        Raises:
            DivergenceError: One has, and the scenario says stop.
        """
        for name, diverged in self._diverged(updates, step).items():
            channel, inputs = self.system.channels[name], isinstance(updates[name], InputUpdate)
            disabled = channel.input_models_disabled if inputs else channel.predictors_disabled
            new = [k for k in diverged if disabled is None or not disabled[k]]
            for k in new:
                self._report(channel.members[k], diverged[k], step, inputs=inputs)
            (channel.disable_input_models if inputs else channel.disable_predictors)(new)
            if channel.input_model_disabled if inputs else channel.predictor_disabled:
                del updates[name]
        self._leave_out_disabled(updates)

    def _leave_out_disabled(self, updates: Mapping[str, PredictorUpdate | InputUpdate]) -> None:
        for name, update in updates.items():
            channel, inputs = self.system.channels[name], isinstance(update, InputUpdate)
            if len(channel.members) > 1:
                disabled = channel.input_models_disabled if inputs else channel.predictors_disabled
                update.members = _enabled(update.members, disabled)

    def _diverged(
        self, updates: Mapping[str, PredictorUpdate | InputUpdate], step: int
    ) -> dict[str, dict[int, str]]:
        """What is wrong with the numbers of some members, by name and place; one reduction where nothing is.

        Those of stacks are left to the guard where there is one.
        """
        divergence, guard = self.system.divergence, self.guard
        if guard is not None:
            for name, update in updates.items():
                if update.loss.dim():
                    guard.look(name, len(update.loss), [*update.gradients, update.loss], step)
            updates = {name: update for name, update in updates.items() if not update.loss.dim()}
        if divergence.fine([t for update in updates.values() for t in (update.loss, *update.gradients)]):
            return {}
        found: dict[str, dict[int, str]] = {}
        for name, update in updates.items():
            count = len(update.loss) if update.loss.dim() else 1
            diverged = divergence.members(count, update.gradients, [update.loss])
            if diverged:
                found[name] = diverged
        return found

    def report_diverged(self, name: str, member: int, step: int) -> None:
        """Report that a synthetic gradient or input of a stack has diverged.

        Raises:
            DivergenceError: The scenario says stop.
        """
        channel = self.system.channels.get(name)
        if channel is not None:
            self._report(channel.members[member], "is not finite", step, inputs=False)

    def _report(self, channel: Channel, what: str, step: int, *, inputs: bool) -> None:
        kind, end = ("input", channel.receiver) if inputs else ("gradient", channel.sender)
        fix = (
            "the learning rate of the synthetic input"
            if inputs
            else "its learning rate, or that of its synthetic gradients"
        )
        text = (
            f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step} {what}; "
            f"lower {fix}"
        )
        self.system.divergence.report(Report(step, text, (end,), channel.name))

    def input_gradients(self, step: int) -> dict[str, InputUpdate]:
        """Gather what each synthetic input learns from at this step, with the gradients of its parameters.

        Raises:
            DivergenceError: One has diverged, and the scenario says stop.
        """
        found: dict[str, InputUpdate] = {}
        for name, channel in self.system.channels.items():
            examples, members = channel.input_examples, channel.input_example_members
            channel.input_examples, channel.input_example_members = [], []
            model = channel.input
            if self.frozen or model is None or model.frozen or not examples or channel.input_model_disabled:
                continue
            if isinstance(model, StackedModels):
                of = _union(members, len(channel.members))
                found[name] = InputUpdate(*model.input_gradients(examples, members), of)
            else:
                found[name] = InputUpdate(*model.gradients(examples))
        self._disable_diverged(found, step)
        return found

    def apply(self, updates: Mapping[str, PredictorUpdate | InputUpdate], step: int) -> None:
        """Take the optimiser step of each synthetic gradient, or input."""
        self._leave_out_disabled(updates)
        plans = []
        skip = None if self.guard is None else self.guard.tripped
        for name, update in updates.items():
            channel, inputs = self.system.channels[name], isinstance(update, InputUpdate)
            model = channel.input if inputs else channel.predictor
            assert model is not None
            if isinstance(model, StackedModels):
                model.step(update.gradients, step, update.members, skip=skip)
                if not inputs:
                    update.gradients = []  # as large as the predictors, and of no more use
            else:
                plans.append(model.planned(update.gradients, step))
        step_all(plans)

    def _returned_example(self, channel: Channel, record: Record, step: int) -> Example | None:
        """What a predictor learns from a record whose gradient has come back, with its prediction where still true."""
        if channel.outliers is not None and record.delta is not None:
            self._clip(channel, channel.outliers, record, step)
        example = self.example(channel, record)
        predictor = channel.predictor
        if example is not None and len(channel.members) > 1:
            example.members = channel.examples_for(record.counted)
        if example is not None and predictor is not None and record.prediction is not None:
            prediction, updates = record.prediction
            if updates == predictor.updates:
                example.prediction = prediction
        return example

    def _clip(self, channel: Channel, outliers: Outliers, record: Record, step: int) -> None:
        """Clip a returned state gradient that is far longer than the median; note the first of each channel."""
        assert record.delta is not None
        before = torch.as_tensor(outliers.clip_count).reshape(-1)
        channel.ledger.replace_gradient(record, outliers.clip(record.delta))
        first = (before == 0) & (torch.as_tensor(outliers.clip_count).reshape(-1) > 0)
        if bool(first.any()):
            for k in first.nonzero().flatten().tolist():
                own = channel.members[k]
                text = (
                    "channel {channel}: a gradient came back more than ten times as long as the median; it is "
                    "shortened, as all such will be"
                )
                self.system.divergence.note(Report(step, text, (own.sender,), own.name))


def _union(examples: Sequence[Members], count: int) -> Members:
    """The members that any of the examples is for."""
    found: Members = torch.zeros(count, dtype=torch.bool)
    for members in examples:
        found = None if found is None or members is None else found | members
    return found


def _enabled(members: Members, disabled: Members) -> Members:
    if disabled is None:
        return members
    return torch.logical_not(disabled) if members is None else members & torch.logical_not(disabled)
