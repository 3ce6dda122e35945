"""Names inside the library that tests replace: to refuse a write, to shorten a wait, to make a limit small.

Who renames one changes it here alone.
"""

from __future__ import annotations

BUILD = "antiphon.engine.live_system.build"
"""Makes a system of a scenario."""
REGISTERED = "antiphon.base.extensions._registered"
"""Kinds that were registered in this process, by name in each extension point."""
CSV_RECORDER = "antiphon.running.directory_writer.CsvRecorder"
"""Writes metrics.csv."""
EVALUATE = "antiphon.engine.inference.of_running.evaluate"
"""Scores a system on a split."""
EVALUATION = "antiphon.engine.inference.evaluation."
"""The module with the limits of an evaluation."""
FEWEST_STEPS = "antiphon.running.directory_writer._FEWEST_STEPS"
"""Between checkpoints of a run."""
ENOUGH_EPISODES = "antiphon.engine.inference.episode_table.ENOUGH"
LONGEST_EPISODE = "antiphon.engine.inference.evaluation.LONGEST"
"""Steps that an evaluation waits for an episode's end."""
REPLACE_CHECKPOINT = "antiphon.engine.state.checkpoint.os.replace"
"""Gives a checkpoint its name."""
RESULT_OF = "antiphon.running.directory_writer.result_of"
"""What a run ends with."""
SAVE_CHECKPOINT = "antiphon.engine.state.checkpoint.save_file"
"""Writes the tensors of a checkpoint."""
STUDY_GO = "antiphon.jobs.studies.study.Study.go"
"""Runs a study."""
TB_SERVE = "antiphon.commands.tb.serve"
"""Serves TensorBoard until it is interrupted."""
WRITE_FACTS = "antiphon.running.directory.write_checked"
"""Writes run.json."""
