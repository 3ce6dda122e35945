"""Faults in engine/step and engine/policies: what a step computes, and in which order."""

from __future__ import annotations

from tests.faults.fault import Fault

STEP: tuple[Fault, ...] = (
    Fault(
        "backward-a-loss-is-divided-by-its-valid-rows",
        "engine/step/backward.py",
        "        loss = tick.losses.sum() / self.system.batch\n",
        "        loss = tick.losses.sum() / (self.system.batch if present is None else present.sum())\n",
        "tests/contracts/test_contracts.py::test_documents[absent targets-reference]",
    ),
    Fault(
        "backward-an-example's-first-step-counts-in-place-of-its-last",
        "engine/step/backward.py",
        "if goal.last_only and (part.step_signals.step + 1) % self._hold:",
        "if goal.last_only and part.step_signals.step % self._hold:",
        "tests/contracts/test_contracts.py::test_documents[library corporation, {}-reference]",
    ),
    Fault(
        "backward-a-loss-without-a-target-counts",
        "engine/step/backward.py",
        "losses, score = mask_fill_zero(present, losses), mask_fill_zero(present, score)",
        "score = mask_fill_zero(present, score)",
        "tests/contracts/test_contracts.py::test_documents[absent targets-reference]",
    ),
    Fault(
        "backward-tied-gradients-are-summed",
        "engine/step/backward.py",
        "[None if g is None else g / sharing for g in gradients]",
        "[None if g is None else g for g in gradients]",
        "tests/contracts/test_contracts.py::test_documents[tied-reference]",
    ),
    Fault(
        "backward-the-weight-of-an-objective-is-forgotten",
        "engine/step/backward.py",
        "losses if goal.weight == 1.0 else losses * goal.weight,",
        "losses,",
        "tests/contracts/test_contracts.py::test_documents[goals-reference]",
    ),
    Fault(
        "backward-scale-is-taken-for-discount",
        "engine/step/backward.py",
        "yield Injection(record.graph_output, credit, scale, channel.discount)",
        "yield Injection(record.graph_output, credit, scale, scale)",
        "tests/contracts/test_contracts.py::test_documents[scale and discount-reference]",
    ),
    Fault(
        "backward-an-ended-episode-is-injected",
        "engine/step/backward.py",
        "rows = mask_and(channel.of_sender(participates), mask_not(record.no_injection))",
        "rows = channel.of_sender(participates)",
        "tests/contracts/test_contracts.py::test_documents[ends-reference]",
    ),
    Fault(
        "backward-a-gradient-is-not-clipped",
        "engine/step/backward.py",
        "return credit if channel.clip is None else clipped(credit, channel.clip)",
        "return credit",
        "tests/contracts/test_contracts.py::test_documents[clip and schedule-reference]",
    ),
    Fault(
        "backward-a-propagated-gradient-has-the-wrong-sign",
        "engine/step/backward.py",
        "credit = credit + channel.propagate * channel.predictor.propagated(example)",
        "credit = credit - channel.propagate * channel.predictor.propagated(example)",
        "tests/contracts/test_contracts.py::test_documents[at once-reference]",
    ),
    Fault(
        "backward-direct-feedback-misses-the-tick-of-the-message",
        "engine/step/backward.py",
        "if agent == channel.error_of and step >= record.stamp:",
        "if agent == channel.error_of and step > record.stamp:",
        "tests/contracts/test_contracts.py::test_documents[direct feedback-reference]",
    ),
    Fault(
        "backward-the-auxiliary-target-has-the-wrong-sign",
        "engine/step/backward.py",
        "first.ports[AUXILIARY_PORT] - target",
        "first.ports[AUXILIARY_PORT] + target",
        "tests/contracts/test_contracts.py::test_documents[auxiliary task-reference]",
    ),
    Fault(
        "forward-a-void-message-is-read-over-a-locked-channel",
        "engine/step/forward.py",
        "        value = mask_fill_zero(entry.available, tape.graph_outputs[channel.name, entry.stamp].flatten(1))\n        if part",
        "        value = tape.graph_outputs[channel.name, entry.stamp].flatten(1)\n        if part",
        "tests/contracts/test_contracts.py::test_documents[symbols, returns of states-reference]",
    ),
    Fault(
        "forward-an-age-is-in-steps",
        "engine/step/forward.py",
        "(blank + age) / channel.ledger.sender.clock.period",
        "blank + age",
        "tests/contracts/test_contracts.py::test_documents[ages-reference]",
    ),
    Fault(
        "forward-a-locked-channel-has-no-noise",
        "engine/step/forward.py",
        "tape.graph_outputs[channel.name, step] = channel.ledger.link.carry(step, message.flatten(1))",
        "tape.graph_outputs[channel.name, step] = message.flatten(1)",
        "tests/engine/step/test_trace.py::test_over_a_locked_channel_noise_lets_the_gradient_straight_through",
    ),
)
