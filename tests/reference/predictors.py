"""Training of synthetic gradients and synthetic inputs, and what they are conditioned on (rules 6, 8, 9, 23, 25)."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError
from antiphon.comms import Example, Mask
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import encode
from antiphon.comms.predictors import Model, Predictor, newest_example
from antiphon.engine.heart.channel import Channel, SyntheticGradient
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.updates import GroupWindows, PredictorUpdate
from antiphon.nets.mask import NONE
from tests.reference import wires
from tests.reference.state import State, all_finite
from tests.reference.wires import as_mask, mask_fill_zero


def synthetic_gradient(state: State, channel: Channel, message: Sent) -> Tensor | None:
    """Return SG(m, c) of a message, [B, size] per sample; None where nothing is injected (rules 5, 20)."""
    predictor = channel.synthetic_gradient.model
    may_inject = channel.injects_prediction and message.plan.is_bookable
    if predictor is None or not may_inject or message.creditable is NONE:
        return None
    example = example_of(state, channel, message, answered=False)
    if example is None:
        return None
    predicted = constant(predictor.predict(example))
    # Without a target a predictor has no loss of its own, and no slope.
    return mask_fill_zero(as_mask(example.valid, predicted), predicted)


def example_of(state: State, channel: Channel, message: Sent, *, answered: bool) -> Example | None:
    """Return what a predictor reads of a message, if `answered` with what has come back; None: its signals are absent."""
    signals, own = message.signals.signals, channel.synthetic_gradient
    target = own.target_signal_name
    needed = [spec.name for spec in own.context.signal_specs] + ([] if target is None else [target])
    if any(name not in signals for name in needed):
        return None
    encoded = encode(own.context.signal_specs, signals, state.system.dtype)
    columns = ([] if encoded is None else [encoded]) + [*message.ends.values()]
    example = Example(message.value, torch.cat(columns, 1) if columns else None, None)
    example.stamp = message.stamp
    if answered and channel.wire.returns_gradients:
        example.returned, example.loss, example.valid = message.returned, message.loss, message.counted
        if example.loss is None and channel.needs_returned_loss:
            example.loss = torch.zeros_like(message.value[:, 0])  # none after an end (rule 20)
    if target is not None:
        example.target, present = signals[target], signals.get(f"_{target}")
        criterion = getattr(own.model, "criterion", None)
        if criterion is not None and criterion.ignore_index is not None:
            shown = torch.ones_like(example.target, dtype=torch.bool) if present is None else present
            shown = shown.reshape(len(shown), -1).expand(-1, example.target[0].numel())
            present = shown.reshape(example.target.shape) & (example.target != criterion.ignore_index)
        if present is not None:
            if present.dim() > 1:
                sites = present.view(example.target.shape)
                example.target, present = example.target.where(sites, 0), present.flatten(1).any(1)
                example.sites = None if sites.dim() == 1 else sites
            example.target = mask_fill_zero(present, example.target)
            example.valid &= Mask.of(present)
    return example


def end_value(state: State, channel: Channel, end: str, stamp: int, tick: int | None) -> Tensor:
    """Return a value of a channel's ends as a message is sent that its receiver uses at `tick`, [B, features] (rule 25)."""
    agent = state.agents[channel.sender if end.startswith(("from", "phase")) else channel.receiver]
    if end == "returned":
        newest = channel.wire.outbox.newest
        return channel.content.zeros if newest is None else newest
    if end.endswith("state"):  # zeros before its first tick
        delay = 0 if end == "from.state" else channel.wire.timetable.delay
        past = {step: v for step, v in agent.kept.newest_states if step <= stamp - delay}
        zeros = channel.content.zeros.new_zeros(state.batch, agent.learner.network.state_size)
        return past[max(past)] if past else zeros
    if end == "phase":  # which of its sender's ticks it was, among those after which all windows repeat
        cycle, period = channel.synthetic_gradient.context.endpoint_values[end], agent.clock.tick_period
        row = [float(i == stamp % cycle.length // period) for i in range(cycle.length // period)]
        return channel.content.zeros.new_tensor(row).expand(state.batch, len(row))
    # its phase: at which tick of its window it is, one-hot; zeros where it never ticks
    at, grid, period = (
        stamp if end == "from.phase" else tick,
        state.group_of[agent.name].grid,
        agent.clock.tick_period,
    )
    place = None if at is None else grid.position(at, period, state.system.schedule.episode_start)
    row = [float(i == place) for i in range(grid.max_ticks(period))]
    return channel.content.zeros.new_tensor(row).expand(state.batch, len(row))


def context_of_input(state: State, channel: Channel, due: Received, tick: int) -> Tensor | None:
    """Return the context of the synthetic input that stands in for a message at `tick`: [B, features]."""
    own, inbox = channel.synthetic_input.context, channel.wire.inbox
    encoded = encode(own.signal_specs, due.signals.signals, state.system.dtype)
    columns = [] if encoded is None else [encoded]
    prior, stamps = channel.content.zeros, as_mask(False, channel.content.zeros).long() - 1
    if inbox.prior_value is not None and inbox.prior_stamp is not None:
        prior, stamps = inbox.prior_value, inbox.prior_stamp
    for end in own.endpoint_values:
        if end == "held":  # the newest message that arrived before the due one
            columns.append(mask_fill_zero(stamps >= 0, prior))
        elif end == "age":  # steps from that message to the due one
            columns.append(mask_fill_zero(stamps >= 0, due.stamp - stamps).to(prior.dtype).unsqueeze(1))
        else:
            columns.append(end_value(state, channel, end, due.stamp, tick))
    return torch.cat(columns, 1) if columns else None


def gradient_updates(
    state: State, closed: GroupWindows, step: int, *, watch: Watch
) -> dict[str, PredictorUpdate]:
    """Compute the training step of every synthetic gradient that something reached at `step` (rules 6, 7)."""
    updates: dict[str, PredictorUpdate] = {}
    gates: dict[str, Tensor] = {}
    for name, channel in state.channels.items():
        predictor, messages = channel.synthetic_gradient.model, wires.take(channel, step)
        if predictor is not None and predictor.gated and messages:
            gates[name] = gate_sums(state, channel, messages)
        if predictor is None or predictor.frozen:
            continue
        if not channel.wire.returns_gradients:  # it learns when its sender does (rule 9)
            windows = [w for _, w in closed if state.participates(channel.sender, w.number)]
            sent = [message for window in windows for key, message in window.sent if key == name]
            messages = [message for message in sent if message.plan.is_bookable]
        examples, prediction = _examples(state, channel, messages, step), None
        if examples and (watch is True or (watch and name in watch)):
            prediction = constant(predictor.predict(newest_example(examples)))
        losses = [predictor.loss(one) for one in examples]
        refit(predictor, examples)
        trained = learned(state, channel, predictor, losses, step)
        if trained is not None:
            updates[name] = PredictorUpdate(examples, *trained, prediction)
    for name, sums in gates.items():  # of the next step on
        state.channels[name].synthetic_gradient.model.buffers["skill sums"] = sums
    return updates


def refit(predictor: Predictor, examples: list[Example]) -> None:
    """Let a predictor in closed form learn from examples, of a step or a minibatch."""
    if predictor.closed_form and examples:
        predictor.put_statistics(fitted(predictor, examples))
        predictor.updates += 1


def fitted(predictor: Predictor, examples: list[Example]) -> dict[str, Tensor]:
    """Return what two ridge regressions keep after these examples, one row after the other (rule 9b)."""
    read = [predictor.read(example) for example in examples]
    rows = [
        (x, g)
        for one in read
        for x, g, counts in zip(
            predictor.features(one.message, one.context),
            one.returned,
            as_mask(one.valid, one.message),
            strict=True,
        )
        if counts
    ]
    if not any(g.any() for _, g in rows):
        return {}
    after = {name: value.clone() for name, value in predictor.buffers.items()}
    after["compared"] *= 0.98
    for q, memory in enumerate((0.85, 0.98)):
        after["sums"][q] *= memory
    for x, g in rows:
        made = [x @ own for own in predictor.buffers["maps"]]  # of before the step
        vectors = [*made, g, torch.full_like(g, bool(g.any()))]
        after["compared"] += torch.stack([torch.stack([a @ b for b in vectors]) for a in vectors])
        after["sums"] += torch.outer(x, torch.cat([x, g]))
    count, columns, done = len(after["sums"][0]), after["sums"].shape[2], predictor.updates
    total = sum(len(one.message) for one in read)
    if (done + 1) not in (2**k for k in range(30)) and (done + 1) * total // (
        2 * columns
    ) == done * total // (2 * columns):
        return after
    place = predictor.features.one
    for q, sums in enumerate(after["sums"]):
        seen = sums.diagonal() > 0  # the others were zero in every row
        gram, moment = sums[:, :count][seen][:, seen], sums[seen, count:]
        root = gram.diagonal().sqrt()  # of features of one size
        scaled = (
            gram / root / root[:, None] + torch.eye(len(root), dtype=sums.dtype) * 10 / sums[place, place]
        )
        after["maps"][q] = 0.0
        after["maps"][q][seen] = torch.linalg.solve(scaled, moment / root[:, None]) / root[:, None]
    s, b = after["compared"][:2, :2], after["compared"][:2, 2]
    after["map"] = torch.einsum("q,qfm->fm", s.new_tensor(_best(s.tolist(), b.tolist())), after["maps"])
    squares, components = after["compared"][2, 2], after["compared"][3, 3]
    after["bound"] = 2 * (squares / components * (columns - count)).sqrt()  # of a row
    return after


def _best(s: list[list[float]], b: list[float]) -> tuple[float, float]:
    """Return the u >= 0 with a sum of at most 1, of multiples of .02, that minimises u's u - 2 b'u; of equal ones the first."""
    tie = 1e-4 * max(s[0][0], s[1][1])

    def error(u: tuple[float, float]) -> float:
        squares = u[0] ** 2 * (s[0][0] + tie) + 2 * u[0] * u[1] * s[0][1] + u[1] ** 2 * (s[1][1] + tie)
        return squares - 2 * (u[0] * b[0] + u[1] * b[1])

    found = [(i / 50, j / 50) for i in range(51) for j in range(51 - i)]
    least = min(map(error, found)) + 1e-12 * max(s[0][0], s[1][1])
    return next(u for u in found if error(u) <= least)


def gated(synthetic: SyntheticGradient, prediction: Tensor) -> Tensor | None:
    """Return a prediction by the factor that makes it least wrong; None: its gate is shut (rule 9a)."""
    cosine, _, count, ratio, opens = synthetic.model.buffers["skill sums"]
    return prediction * min(1.0, float(cosine / count / ratio)) if opens else None


def gate_sums(state: State, channel: Channel, messages: list[Sent]) -> Tensor:
    """Return what a channel's gate has seen with these messages, each compared before anything learns from it (rule 9a)."""
    synthetic = channel.synthetic_gradient
    model = synthetic.model
    sums = model.buffers["skill sums"]
    dots, lengths, norms = (torch.zeros(state.batch, dtype=torch.float64) for _ in range(3))
    for message in messages:
        example = example_of(state, channel, message, answered=True)
        if example is None:
            continue
        counted = as_mask(message.counted, message.value)
        predicted = mask_fill_zero(counted, constant(model.predict(example))).double()
        returned = mask_fill_zero(counted, message.returned).double()
        dots += (predicted * returned).sum(1)
        lengths += predicted.square().sum(1)
        norms += returned.square().sum(1)
    scale = float((lengths.sum() * norms.sum()).sqrt())
    if not scale:  # nothing came back, or zero was predicted
        return sums
    shares = dots / scale
    cosine, variance, count = 0.98 * sums[0], 0.98**2 * sums[1], 0.98 * sums[2]
    cosine, variance, count = cosine + shares.sum(), variance + shares.square().sum(), count + 1
    ratio, errors = lengths.sum() / scale, 0.0 if sums[4] else 2.5
    opens = (cosine - errors * variance.sqrt()) / count / ratio >= 0.02
    return torch.stack([cosine, variance, count, ratio, opens.double()])


def input_updates(state: State, step: int) -> dict[str, PredictorUpdate]:
    """Compute the training step of every synthetic input that a real message reached at `step` (rules 6, 18)."""
    updates: dict[str, PredictorUpdate] = {}
    for name, channel in state.channels.items():
        model, examples = channel.synthetic_input.model, channel.synthetic_input.examples
        channel.synthetic_input.examples = []
        if model is not None and not model.frozen:
            trained = learned(state, channel, model, [model.loss(one) for one in examples], step)
            if trained is not None:
                updates[name] = PredictorUpdate(examples, *trained, for_input=True)
    return updates


def _examples(state: State, channel: Channel, messages: list[Sent], step: int) -> list[Example]:
    """What a predictor learns from messages."""
    found = []
    for message in messages:
        example = example_of(state, channel, message, answered=True)
        if example is None:
            continue
        if not channel.wire.returns_gradients:
            valid = as_mask(message.creditable, message.value)
            example.valid &= Mask.of(valid)
            if not valid.any():
                continue
        found.append(example)
    return found


def learned(
    state: State, channel: Channel, model: Model, losses: list[Tensor], step: int
) -> tuple[Tensor, list[Tensor | None]] | None:
    """The sum of a predictor's losses, and its gradients; None: there is none."""
    if not losses:
        return None
    loss = torch.stack(losses).sum()
    gradients: list[Tensor | None] = []
    if model.trainable:
        gradients = list(torch.autograd.grad(loss, model.trainable, allow_unused=True))
    if all_finite([*gradients, loss]):
        return constant(loss), gradients
    kind = "input" if model is channel.synthetic_input.model else "gradient"
    line = f"channel {channel.name}: the synthetic {kind} at step {step + 1}"
    raise DivergenceError(f"{line} is not finite; lower its learning rate")
