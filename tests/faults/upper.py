"""Faults in scenarios, telemetry and the package itself: what is accepted, reported, written and read."""

from __future__ import annotations

from tests.faults.fault import Fault

UPPER: tuple[Fault, ...] = (
    Fault(
        "scenarios-a-zero-delay-cycle-is-allowed",
        "scenarios/checks.py",
        "    if stuck:\n        cycle = cycle_among(stuck, arcs)",
        "    if not arcs:\n        cycle = cycle_among(stuck, arcs)",
        "tests/scenarios/test_refusals.py::test_refused[channels: zero-delay cycle a -> b -> a; give one o]",
    ),
    Fault(
        "scenarios-discounts-above-1-on-a-cycle",
        "scenarios/checks.py",
        "if channel.gradient.discount > 1 and part[channel.sender] == part[channel.receiver]:",
        "if channel.gradient.discount > 2 and part[channel.sender] == part[channel.receiver]:",
        "tests/scenarios/test_refusals.py::test_refused[channels[0].gradient.discount: must be at most 1 o]",
    ),
    Fault(
        "scenarios-tied-agents-may-differ-in-p_update",
        "scenarios/checks.py",
        '("categories", "network", "clock", "optimiser", "learn", "weights", "p_update")',
        '("categories", "network", "clock", "optimiser", "learn", "weights")',
        "tests/scenarios/test_refusals.py::test_refused[agents.b.p_update: differs from agent 'a', with wh]",
    ),
    Fault(
        "scenarios-channels-of-a-port-may-differ-in-size",
        "scenarios/checks.py",
        'for field in ("size", "norm", "symbols", "sample"):\n            mine, theirs = getattr',
        'for field in ("norm", "symbols", "sample"):\n            mine, theirs = getattr',
        "tests/scenarios/test_refusals.py::test_refused[channels[1].size: 5 differs from channels[0].size,]",
    ),
    Fault(
        "scenarios-an-input-may-know-what-is-returned",
        "scenarios/checks.py",
        'refused += [("input", p, n, "gradients") for p, n in enumerate(context) if n in _FOR_GRADIENTS]',
        "refused += []",
        "tests/scenarios/test_states.py::test_refused[channels[0].input.context[0]: 'to.state' is for synthetic gr]",
    ),
    Fault(
        "scenarios-a-window-is-the-longest-of-its-members'",
        "scenarios/relations.py",
        "steps = math.lcm(steps, clock.period * clock.unroll)",
        "steps = max(steps, clock.period * clock.unroll)",
        "tests/scenarios/test_document.py::test_locked_groups_and_windows",
    ),
    Fault(
        "scenarios-a-locked-state-has-any-window",
        "scenarios/relations.py",
        "return frozenset([*locked, *(name for",
        "return frozenset([*(name for",
        "tests/scenarios/test_states.py::test_a_locked_state_makes_the_window_the_episode",
    ),
    Fault(
        "statistics-a-ratio's-interval-is-not-divided-by-the-mean",
        "telemetry/statistics.py",
        "half = student_t(len(parts) - 1) * standard_error(residuals) / whole",
        "half = student_t(len(parts) - 1) * standard_error(residuals)",
        "tests/telemetry/test_statistics.py",
    ),
    Fault(
        "verdicts-a-lone-environment-is-silent",
        "telemetry/verdicts.py",
        "if entropy is not None and traits.batch > 1:",
        "if entropy is not None:",
        "tests/telemetry/test_verdicts.py::test_one_environment_says_nothing_of_the_entropy_of_symbols",
    ),
    Fault(
        "verdicts-a-caution-on-every-signal",
        "telemetry/verdicts.py",
        "or not (cosine >= _HIGH and parameter_cosine < _SHARE * cosine)",
        "or not (cosine >= _HIGH or parameter_cosine < _SHARE * cosine)",
        "tests/telemetry/test_verdicts.py::test_nothing_is_to_be_said[0.9-0.46]",
    ),
    Fault(
        "history-a-restart-keeps-later-figures",
        "telemetry/history.py",
        "if self._steps and step < self._steps[-1]:",
        "if self._steps and step < self._steps[0]:",
        "tests/telemetry/test_history.py::test_a_run_that_begins_again_forgets_what_came_after",
    ),
    Fault(
        "csv-values-are-rounded",
        "telemetry/csv_files.py",
        "repr(float(row.value))) for row in rows)",
        'f"{row.value:.6g}") for row in rows)',
        "tests/telemetry/test_metrics_csv.py::test_values_come_back_to_the_last_bit_and_not_finite_ones_stay",
    ),
    Fault(
        "errors-a-long-line-loses-its-fix",
        "antiphon/errors.py",
        'text = f"{text[: _LONGEST_LINE - _END_OF_LINE - 3]} … {text[-_END_OF_LINE:]}"',
        'text = f"{text[: _LONGEST_LINE - 2]} …"',
        "tests/test_errors.py::test_control_characters_are_escaped[\\u2028]",
    ),
    Fault(
        "errors-nothing-near-is-suggested",
        "antiphon/errors.py",
        "    if near:\n        return f\"; did you mean '{near[0]}'?\"\n",
        "",
        "tests/test_errors.py::test_no_similar_name_is_sought_for_a_huge_one",
    ),
    Fault(
        "cli-the-exit-code-of-seeds-is-lost",
        "antiphon/commands/run.py",
        "    return outcome.exit_code\n\n\ndef _warn",
        "    return 0\n\n\ndef _warn",
        "tests/test_cli_seeds.py::test_ctrl_c_ends_all_and_the_same_command_goes_on",
    ),
)
