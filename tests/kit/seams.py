"""Names inside the library that tests replace: to refuse a write, to shorten a wait, to make a limit small.

Who renames one changes it here alone.
"""

from __future__ import annotations

REGISTERED = "antiphon.base.extensions._registered"
"""Kinds that were registered in this process, by name in each extension point."""
ENVIRONMENTS = "antiphon.envs.registry._environments"
"""Environments that were registered in this process, by id."""
EVALUATE = "antiphon.engine.inference.evaluation.Evaluator.score"
"""Scores a system on a split."""
EVALUATION = "antiphon.engine.inference.evaluation."
"""The module with the limits of an evaluation."""
FEWEST_STEPS = "antiphon.running.directory_writer._FEWEST_STEPS"
"""Between checkpoints of a run."""
ENTRY_POINTS = "antiphon.base.extensions.entry_points"
"""Returns the entry points of installed packages, by group."""
INSTALLED = "antiphon.base.extensions._installed"
"""The kinds of installed packages, kept once they have been read."""
STEP_OF_WRITER = "antiphon.running.directory_writer.DirectoryWriter.step"
"""Writes what a step of a run has come to."""
REPLACE_CHECKPOINT = "antiphon.engine.state.checkpoint.os.replace"
"""Gives a checkpoint its name."""
TB_SERVE = "antiphon.commands.serve"
"""Serves TensorBoard until it is interrupted."""
EVALUATE_AGENT = "antiphon.agents.learner.Learner.evaluate"
"""Computes an agent's outputs at a tick."""
REPLAY_ROWS = "antiphon.engine.heart.policies.window_evaluation.WindowEvaluation"
"""Evaluates a window again in some rows: `mixes_rows`, whether all are evaluated; `evaluate`, a pass."""
