"""Where a change goes. No code.

Under each change stands the file that decides it, in the heart where no folder is named, and a name whose docstring
says what to mind. *Also* lists the files elsewhere that must change with it. The first entry is for changes without an
entry: go through it once. The parts follow the step: Sending, Reading, Returning (of gradients), Credit, Predictors,
Losses and windows, Moving (of parameters), and Features, states, metrics. Look for a change by what happens in the
step, not by its purpose.

Any change: who does the work of a step elsewhere, or counts on it
    specified: docs/semantics.md; tests/reference, an engine of single agents with which backends must agree
    declared and refused: its spec in scenarios/, scenarios/checks.py, comms/declared_coupling.py
    built, alone and in stacks: engine/build/{channels, builder}.py; what members of a stack must have alike:
        engine/build/stack_kinds.py
    saved, forked, taken apart: the role of a field (roles.py); engine/state/{state_dict, stacks}.py; notes:
        engine/state/trees.py
    run without learning (evaluation, export, probes): engine/inference/{rollout, composition}.py and
        engine/inference/policy.py (over perfect links); inspection/truth.py (everything with its graph)
    run again, a window: `ForwardPass.replay`; engine/features/lambda_returns.py; in rows of a minibatch, which use
        `Agent.join_input`, `Channel.output_from_port`, `coupling_credit`, `Channel.injection_of`,
        `BackwardPass.gradients` and `Engine.finish_gradients` as the step does: engine/policies/{replays,
        replayed_senders, further_passes}.py
    differentiated early: engine/features/sweep.py (`sweep_obstacle`)
    in several processes: distributed/parts/{cut_ledger, halves, exchange}.py; what the receiver's half has, also of
        a ledger: `of_receiver` (roles.py); how far parts run ahead: distributed/parts/placement.py;
        distributed/virtual/virtual_coordinator.py
    recorded on a GPU: engine/capture/{conditions, loop_state}.py
    foretold: engine/metrics/newest.py (which log entry has which metric), engine/costs/, engine/warnings/,
        scenarios/at_once.py

Any setting of a channel or an agent
    channel_settings.py, timetable.py, ledger.py or agent.py, whose it is
    also: its spec in scenarios/, engine/build/channels.py or engine/build/builder.py, engine/inference/rollout.py
        (`_silent`)
    members of a stack have it alike; to let them differ: engine/state/changes.py, if a number, or
        `may_differ` in engine/build/{stack_kinds, channel_stacking}.py
Anything that looks at a step's number, or at a tensor, on the host
    also: engine/capture/conditions.py has it as an obstacle to recorded periods, or it asks nets/step_numbers.py
        (`step_decision`)

Sending

When an agent ticks
    clock.py: `Clock`
    also: engine/build/builder.py
A clock that pauses
    clock.py: `Clock`; not by environment, as a tick is of all rows. Regular ticks are counted on by timetable.py,
        window grids, `Coupling.credit` and about 40 files outside, in the folders that the docstring of `Clock` lists.
        What cannot follow a pause must refuse it: scenarios/checks.py, engine/capture/conditions.py
In which order agents tick in a step
    clock.py: `TickSchedule.network_calls`
    also: scenarios/relations.py
When an agent sends
    clock.py: a class of `SendTimes`
    also: engine/build/channels.py, engine/warnings/given_up.py, scenarios/scenario_warnings.py,
        engine/metrics/description.py
What a link does to a message
    comms/links.py: `Link`
What a link does to a message, by what the link does not have (the tick that reads it, earlier messages)
    who calls the link: ledger.py: `Ledger.send`, window.py: `WithGraph.learned_value`
    also: engine/policies/resent_messages.py, inspection/truth.py; what is kept of earlier ones:
        engine/state/{state_dict, stacks}.py
A message that is not sent, or lost, by its value
    ledger.py: `Ledger.send`, in `Fate.lost`; `Ledger.may_lose`, by which ledgers hold messages and others plan; on a
        GPU, `Ledger._known_to_arrive`, which asks the link alone
    also: `loses` of the spec, asked before anything is built; what it keeps of earlier ones: `Ledger.copied`, and
        `may_differ` in engine/build/stack_kinds.py; engine/metrics/channel_means.py; comms/declared_coupling.py:
        `DeclaredCoupling.problems`, as a coupling that reads with the graph has no message to fall back to
    in parts the mask must cross, as distributed/parts/cut_ledger.py sends zeros in a message's place until it comes:
        distributed/parts/{exchange, boundary, cut}.py
A message that is not read, by its age at the tick
    ledger.py: `Ledger.receive`; held_messages.py; forward.py: `ForwardPass.as_read`
    also: engine/features/stand_ins.py, engine/metrics/step_metrics.py, inspection/ceiling.py
What is not sent: by or to the dead, or where a signal says so
    channel.py: `Channel.void_when_sent`; `Channel.mask_signal_names`, by which environments are asked for signals; one
        not asked for is absent, and voids nothing
What is not sent by the step of the episode
    a signal that engine/environment.py makes: `SignalledSteps`, `signals_of`
    also: envs/signal.py, engine/inference/{policy, composition}.py, engine/policies/final_values.py
What is sent by a copy of the sender's parameters (averaged, older)
    a feature like engine/policies/target_networks.py: the copy is buffers of agents/learner.py, so saved and stacked;
        the sent ports are set at `after_evaluate`, the copy is moved at `after_move`
    also: engine/inference/{rollout, composition, policy}.py

Reading

Which tick reads a message
    timetable.py: `Timetable.reading_ticks`, which all that reads asks
    also: scenarios/at_once.py (what is read by when its sender learns), engine/inference/rollout.py (`filled`),
        engine/warnings/advice.py (`_lost_credit`)
A message that arrives twice
    timetable.py: `Timetable.reading_ticks`; a link that loses one of the two has two draws, and `Fate.lost` is of a
        message, not of a tick: held_messages.py: `HeldMessages.hold`
    also: comms/read_modes.py (`read_mode_of`), engine/inference/rollout.py (`filled`),
        engine/state/stacks.py, engine/costs/memory_estimate.py, engine/metrics/step_metrics.py (traffic)
A delay that varies, by step (not by environment: a `ReadPlan`, and when a gradient is back, are of all rows)
    timetable.py: `Timetable.arrival_of`, its inverse `newest_due`, `reads_as_sent`; agent.py: `state_steps`. A drawn
        delay has to follow from the stamp, as other parts ask for it too, and before. Where one message may overtake
        another, `Timetable.reading_ticks` must look further than to the next stamp, `Timetable.stamps_read_at` must not
        stop at a gap, and held_messages.py: `HeldMessages.hold` must not drop what arrives after a newer one. A delay
        by the number of a message (bundles) needs that number in clock.py: `SendTimes` has stamps alone
    also, as they count on one `delay`: engine/features/sweep.py, engine/metrics/timeline.py, running/handles.py,
        distributed/parts/{free_boundary, cut, halves, placement}.py, comms/read_modes.py (`read_mode_of`, whose slots
        are the messages from one tick to the next), engine/build/{channels, stack_kinds}.py,
        engine/features/contexts.py, engine/inference/{composition, rollout}.py, engine/costs/memory_estimate.py,
        engine/metrics/{newest, channel_metrics}.py, scenarios/{at_once, relations, scenario_warnings}.py,
        engine/warnings/{advice, given_up, missing_targets}.py
Which reads count
    forward.py: `ForwardPass.as_read`, of `Arrival.may_count`; message_lives.py has the whole rule
Which reads count, by what only the step's end shows
    backward.py: `BackwardPass.book`
    also: engine/features/{returned_losses, lambda_returns}.py, engine/policies/returned_actions.py
A read that is not differentiated (detached)
    forward.py: `ForwardPass.as_read`: a `Constant`
    also: engine/features/direct_feedback.py, which injects whatever the read is
Several messages in a tick (read mode)
    comms/read_modes.py: a class, made by `read_mode_of`
    also: engine/build/shapes.py, engine/policies/replays.py, engine/inference/rollout.py (`filled`),
        scenarios/{channel_specs, checks, at_once, scenario_warnings, sender_passes}.py; `slots`, if not fixed:
        engine/costs/{cost_model, memory_estimate}.py, distributed/parts/placement.py
How messages are joined to one input
    comms/fan_in.py: a class beside `Concatenation`
    also: engine/build/shapes.py
What a receiver reads in place of a message
    a feature with the point `stand_in`; never of a void message, which is of an episode before
    also: engine/metrics/step_metrics.py (the metric `stand_in`), engine/inference/rollout.py (`_silent`); which rows
        are replaced, foretold: scenarios/{scenario_warnings, at_once}.py, telemetry/{verdicts, causes}.py
What of a message enters the network
    channel.py: `Channel.entering`, which all that is read passes through; by the tick or its age, which its callers
        know: window.py: `value_entering`, engine/policies/replays.py (`_ReplayedMessage.read`, of several
        ticks). A read has no age of its own: engine/features/ages.py has that of the newest; of each, a note is made at
        `as_read`. What is done only while agents learn asks whether the forward pass is `deployed`
How a network is evaluated
    agents/learner.py: `evaluate`, in a tick and again; of parts of a network, `from_hidden` and `values`. In a tick
        forward.py: `ForwardPass.evaluate` calls it, and gives all pure networks seed 0: what one draws would be the
        same at all ticks
    also, which evaluate again: engine/policies/{replays, replayed_senders, replay_buffer, critics, target_networks}.py
A tick of which only the outputs are wanted
    engine/policies/final_values.py, which reads by `ForwardPass.begin_tick`; messages that are only imagined:
        `Ledger.temporarily_sent`
What an agent observes
    forward.py: `ForwardPass.observations`, which is asked again as a window is replayed: it must be the same at a step
    also: engine/policies/critics.py, engine/features/normalisation.py
When a recurrent state begins anew, beside the ends of episodes
    timetable.py: `Timetable.reading_ticks`, empty at such a tick: the state before it is unread, which
        `Window.final_state` has to pass over
Which messages an episode's end, or a death, cuts off
    timetable.py: `Timetable.is_cut`, which ledgers, timelines and probes ask
    also: engine/warnings/advice.py (`_over`)
From which ticks it cuts them off
    ledger.py: `Ledger.void_messages`, which asks `Timetable.is_cut` once, of the step after the end, and voids what is
        cut there for all later ticks. Where some of these are to read it, `Fate.void` is not enough: `Ledger.receive`
    also: `Timetable.is_cut`, for timelines and probes; held_messages.py; message.py: `Fate`
In which rows, and by which kind of end, messages and states end
    channel.py: `Channel.ended_rows`, `Channel.terminated_rows`; step.py: `end_episodes` asks them only if
        `EpisodeEnds.anywhere` (signals.py), so ends of another kind belong into `EpisodeEnds`, which
        engine/environment.py makes; of what is held and conditions predictors, `forget` of held_messages.py and
        newest_returned.py
    also: engine/capture/loop.py (`take`), which refuses periods whose ends differ by `EpisodeEnds.ended` alone;
        engine/features/contexts.py, engine/inference/policy.py, whose ends have no kind

Returning

When a message is finished, and its gradient whole
    timetable.py: `ReadPlan.finish_by`; ledger.py: `Ledger.close_reader_window`, and `slack`, by which one may stay open longer
    also, foretold: `Timetable.planned_back_at`, which inspection/value.py and engine/costs/cost_model.py ask;
        engine/build/channels.py, engine/metrics/{timeline, newest}.py, engine/warnings/{given_up, advice}.py,
        engine/costs/memory_estimate.py; read by its `finished_at`: running/handles.py, engine/state/state_dict.py
        (`_load_ledger`), engine/state/stacks.py; of cut channels: distributed/parts/{cut_ledger, exchange, boundary,
        free_boundary}.py
What becomes of a message that never counts
    ledger.py: `Ledger.finish`
When the gradient of a read is booked
    backward.py: `BackwardPass.book`
What of a read's gradient is booked (clipped, weighed)
    channel.py: `Channel.as_returned`, of further passes and lambda-returns too
What of a message's gradient goes back, summed over its reads
    ledger.py: `Ledger.finish`
    also: distributed/parts/cut_ledger.py, as both halves of a cut channel finish a message
How several reads are added
    message.py: `Booked.add_read`; ticks that share a read: window.py: `CountedRead.only_tick`
    also: distributed/parts/{exchange, cut_ledger}.py
A gradient that is lost on its way back
    by a draw of comms/links.py: `Link`: ledger.py: `Ledger.finish`, before the message is finished
    after it is finished: message.py: `Message.return_nothing`
    also: distributed/parts/cut_ledger.py, where both parts draw the same; distributed/parts/placement.py
        (`_always_returns`), by which parts run ahead; scenarios/checks.py (`rule_11_at_once`), for what needs it at
        once
What is kept of returned gradients
    newest_returned.py: a field with a role, which checkpoints, stacks and parts have then; kept if
        `Ledger.keeps_returned`, by engine/build/channels.py
When a gradient has come back
    timetable.py: `Timetable.back_from`
How long a message is kept
    ledger.py: `Ledger.delete_spent`, called for channels over which a step has sent; and where values are freed before
        (`Message.free_values`), `Ledger.finish`
    also: engine/state/stacks.py (`_forgotten`), engine/costs/memory_estimate.py, inspection/truth.py, where all stay.
What takes the place of a gradient that comes too late
    a coupling's `credit`, which has no returned gradient where the window has given the channel up: backward.py:
        `BackwardPass.ordinary_credit`, late_windows.py: `LateWindows.choose_windows`
What a returned gradient is worth, by age
    to a predictor: a feature with the point `gradients_back`, where delayed channels are absent
    to a sender that waits (`delayed`): comms/couplings.py: `Delayed.credit`
    to both, by the age of each read: backward.py: `BackwardPass.book`
    to both, by the time until it is whole: ledger.py: `Ledger.finish`

Credit

A coupling
    comms/couplings.py: a class with `@_built_in`. What it declares decides what others build, advise and refuse:
        comms/declared_coupling.py. Its `credit` may find either gradient absent: `CreditedMessage`. What uses returns
        of earlier messages says so: `DeclaredCoupling.needs_own_return`
    also: comms/loop/channel_arguments.py (`carried_out_couplings`): loops refuse one with a `credit` of its own
What a sender learns from a message, by one coupling
    comms/couplings.py: its `credit`; what that may read is `CreditedMessage`, made in backward.py, by
        `credited_message`
What a sender learns from a message, by all couplings
    backward.py: `coupling_credit`, and for predictions `_applied_prediction`; further passes call it too, where nothing
        has returned. By members, and by what has returned: `BackwardPass.ordinary_credit`
How credit is shortened, masked, weighed, and joined over channels
    by channel and step: channel.py: `Channel.clipped_credit`, `Channel.injection_of`
    by the gradient of the sender's own loss: a feature with the point `after_credit`, which has `PendingUpdate.losses`
        and may replace `PendingUpdate.injections`; `BackwardPass.gradients` for one pass more
    over channels: backward.py: `BackwardPass.collect_injections`
    by message, such as its age at the first read: backward.py: `coupling_credit`, which has its stamp;
        `Timetable.reading_ticks` has its ticks. `Channel.injection_of` has no message, and further passes call it for
        all stamps at once
    also: engine/policies/replayed_senders.py, engine/features/lambda_returns.py, inspection/signal_alignment.py, which
        call them
Which messages may have credit, and in which rows
    message.py: `Message.creditable`; window.py: `Window.credited_rows`, of further passes too

Predictors

When a predictor learns
    predictors.py: `PredictorTrainer.learns`
    also: engine/metrics/newest.py (`_rhythms_of`), or log entries miss its metrics
From which messages a predictor learns
    a feature with the point `gradients_back`: it may take messages away, and add earlier ones with what is booked for
        them, if it stands behind `Gates` and `ClippedReturns` in engine/feature_table.py: `TABLE`, or these judge and
        clip earlier ones again, as `rescale` does in any case. Those it keeps are not in a checkpoint; a buffer that is
        saved is of the predictor's state: comms/synthetic_gradients.py, engine/state/{state_dict, stacks}.py,
        engine/build/stack_kinds.py
    of `local`: predictors.py: `PredictorTrainer.examples_with_sender`; of synthetic inputs, and in which rows:
        engine/features/stand_ins.py
How much an example counts to a predictor
    comms/examples.py: `Example`; comms/model.py; what it knows of its message: predictors.py:
        `PredictorTrainer.example`
    also: comms/module_predictors.py, of users' modules
What a predictor is conditioned on
    comms/endpoint_values.py: a row, by which it is allowed, built, kept and charged to the link;
        engine/features/contexts.py: its value, of what held_messages.py (of a synthetic input), newest_returned.py or a
        note has. Losses of the receiver return for critics alone: `Channel.needs_returned_loss`
In which rows a predictor learns nothing
    by a mask that the host looks at, so that a member without rows takes no step: channel.py:
        `Channel.restrict_example`
    by values: `Example.valid`, where the example is made whole: predictors.py: `PredictorTrainer.example`. The host
        does not look, and a member without rows still moves, by momentum
    also: engine/policies/replayed_senders.py, and for synthetic inputs engine/features/stand_ins.py, which make
        examples themselves; engine/features/gates.py, which judges by them
By which loss a predictor learns
    comms/model.py: `LinearMaps.errors` and `Model.loss_and_gradients` of squared errors; of another kind, its own
        `_loss`: comms/{synthetic_gradients, module_predictors}.py
    also: engine/native/networks.py, whose `NativeMaps` have errors of their own; comms/label_gradients.py,
        agents/local_policy.py, which differentiate losses of agents
When a predictor is trusted (gates)
    comms/skill_gate.py, engine/features/gates.py; where it is applied: backward.py: `_applied_prediction`
    also: engine/policies/replayed_senders.py, engine/metrics/step_metrics.py, engine/warnings/advice.py,
        engine/capture/conditions.py, scenarios/{channel_specs, checks}.py, scenarios/relations.py (`gated`),
        scenarios/sender_passes.py, engine/build/{channels, stack_kinds, channel_stacking}.py
A kind of synthetic gradient
    comms/{synthetic_gradients, label_gradients}.py, agents/local_policy.py
A kind of synthetic input
    comms/synthetic_inputs.py; what it predicts and learns from: engine/features/stand_ins.py, where a tick reads it:
        `StandIns.stand_in`, also in rollouts and in final values
How many steps a predictor's optimiser takes
    predictors.py: `PredictorTrainer.move_predictors`, with `differentiate_predictors` before each
    also: comms/examples.py, as examples keep what was predicted with the parameters before a move;
        engine/features/sweep.py, which may have freed them
Channels that share a predictor
    predictors.py: `PredictorTrainer.differentiate_predictors`, which would join their examples
    also: engine/build/channels.py, engine/metrics/step_metrics.py, engine/state/changes.py;
        engine/build/stack_kinds.py has them apart: `Model.stacked` refuses one model twice

Losses and windows

An objective
    agents/objectives.py
A loss beside the objectives
    a feature with the point `after_credit`
How losses are weighed by environment
    window_losses.py: `ObjectiveEvaluator.term_loss`, which rollouts call too
    of policies: engine/policies/policy_evaluator.py, where the rows that learn are taken
    also: engine/policies/trajectories.py (`have_valid_ticks`, for the host), engine/policies/replay_buffer.py, whose
        windows are drawn again
How losses are weighed by what only a window's end shows
    window_losses.py: `ObjectiveEvaluator.window_loss` and its `factor_by_agent`, by which rollouts score too;
        what an episode's end tells is kept by tick, as a window has no notes
    also: engine/features/sweep.py (`sweep_obstacle`), engine/policies
    an agent whose losses are all 0 still moves, by its optimiser's momentum: `Update.rest`
By what losses are divided
    comms/backward_requests.py: `backward_all`, also credit and what returns
    also: engine/policies/further_passes.py
An environment is left out
    as one that learns nothing: the next entry; as one without messages: channel.py: `Channel.void_when_sent`; by its
        losses alone: window_losses.py: `ObjectiveEvaluator.term_loss`
    also: engine/policies, engine/features/{auxiliary, normalisation}.py; who counts its steps: engine/environment.py
In which rows an agent learns from a window
    participation.py: `Participation.learning_rows`
    also: engine/build/builder.py, engine/costs/cost_model.py, engine/warnings/{advice, missing_targets}.py
Which ticks are a window
    clock.py: a class of `WindowGrid`; how many ticks a certain window has is asked of `WindowGrid.steps_of`, and
        `max_steps` and `max_ticks` are bounds, for buffers, contexts and estimates
    also: engine/build/learning_groups.py, scenarios/relations.py, engine/warnings/{advice, given_up}.py,
        inspection/truth.py (means over a window), engine/features/contexts.py (the place of a tick),
        engine/capture/conditions.py; who needs windows of one length: engine/policies/replay_buffer.py, which
        scenarios/checks.py refuses (`rule_42a_replay`)
A tick in two windows
    none can be: running statistics, reads, plans and the last state of a window count on the one window that
        `WindowGrid.number_at` names. To learn from ticks again: lambda-returns, which keep windows
A window whose end is not known ahead
    timetable.py: `ReadPlan`, made as a message is sent: `Ledger` must plan what is open anew; a window is of all
        environments
    also: features that ask for ends in `tick` (engine/features/sweep.py)
When an ended window is learned from
    late_windows.py: `LateWindows.choose_windows`; a coupling's `waits` and `waits_for`
    also, who foretell it: engine/metrics/timeline.py, engine/warnings/given_up.py; who ask `waits` alone, as a bound:
        engine/build/builder.py (`horizons`), engine/metrics/newest.py, engine/costs/cost_model.py,
        distributed/parts/placement.py

Moving

With which optimiser
    nets/trained_parameters.py; of predictors, engine/build/channels.py
At which rate an agent or predictor learns
    nets/trained_parameters.py: `TrainedParameters.rate_at`, which all ask; `begin_step` counts each member's steps;
        `TrainedParameters.learn_at` sets another schedule
    also: nets/schedules.py, engine/metrics/step_metrics.py (the metric), engine/capture/conditions.py
At which rate, by what a step has shown
    a feature: at `before_move`, which has the updates of agents and predictors, it gives the rate, and at `after_move`
        the former one back. No saved state has a rate or a factor of it: what outlives the step must follow from
        numbers that are saved, such as `TrainedParameters.counts`. Further passes move at the rate given if the
        feature stands behind theirs in engine/feature_table.py: `TABLE`
Predictors that share an optimiser
    nets/optimisers.py: `clips`, as engine/features/group_clip.py does for agents. Optimisers share a clip and a count
What is done to gradients before they move
    a feature with the point `after_differentiate`, of windows alone, or `before_move`, of predictors too
Which learners move, or which members of stacks
    a feature with the point `after_differentiate`, which has the step: `Update.rest`
Which parameters of a learner move
    a feature with the point `after_differentiate`: `Update.rest_parameters`, as further passes do. Elsewhere a gradient
        that is None is zeros, with which momentum moves on (nets/trained_parameters.py: `TrainedParameters.filled`).
        What never moves is not in `trainable`
    also: its spec, engine/feature_table.py, engine/build/stack_kinds.py, engine/capture/conditions.py, if it acts by
        the step
An optimiser step by the gradients of several windows
    the sum is the optimiser's state (nets/{optimisers, torch_optimisers, stacked_optimiser}.py), as it has members;
        between steps, `Update.rest`
    also: engine/policies/further_passes.py, whose minibatches are updates too; engine/features/ties.py, which keeps
        tied agents of other rhythms at rest for ever: refuse them
Which members a learning signal has reached
    engine/features/reach.py
Parameters that change otherwise than by their optimiser (a copy of them: Sending)
    a feature with the point `after_move`, once a step; only while no group of theirs has an open window: its graph has
        them, and a change through `.data` falsifies its gradients in silence
    also: engine/state/in_place.py, which replays open windows after a change from outside; of members,
        nets/trained_parameters.py
In which order agents and predictors move
    step.py: `Engine.move_all`, which further passes call too
Which window is differentiated first
    step.py: `LearningOrder.turns`, `turns_of_groups` (no cycles)
    also: engine/build/stack_kinds.py
Which window moves parameters first
    step.py: `LearningOrder.turns`; of a group the oldest first. A metric or handle that wants the newest sorts by
        `oldest_first` (updates.py)
What is refused before parameters move
    divergence.py: `DivergenceCheck`; on a GPU, guard.py: `Guard`

Features, states, metrics

What a feature keeps
    notes.py: what has rows, with a message, a tick, an agent or a window's losses. Channels and windows have no notes,
        and a feature's own attributes are not saved: to count, use numbers of windows and steps
In which order features are called
    engine/feature_table.py: `TABLE`, where they have a point in common
A setting that changes in mid-run
    engine/state/changes.py, if a number. A coupling, a clock or a delay decides what is built (groups, turns,
        features): build anew, and load the state, which must have the same predictors
How rows are laid out in a stack
    layout.py: `Layout`
A metric of the step
    its newest value: engine/metrics/step_metrics.py
    an agent's mean since the last entry: engine/metrics/report_by_agent.py (`MeanAccumulator`), which has sums of
        objectives and of channels: what an agent counts at `after_read` needs sums of its own
    of a channel, if its receiver has it: telemetry/metrics.py (`end_of`), by which parts measure it
    a mean over steps of what channels do, by what ledgers show after a step: an entry of
        engine/metrics/channel_means.py; of ages of reads: engine/features/ages.py. What compares a message with the one
        before is noted as it is sent, by a feature with the point `after_enter`: after the step that one may be
        deleted. Of what comes back: a feature with the point `gradients_back`, which has copies of last states too
    a mean over steps of what was learned: updates.py: a field of `Update`, set where it is learned
        (`BackwardPass.collect_injections`), and added to the channel sums by `MeanAccumulator`
        (engine/metrics/report_by_agent.py)
    also: telemetry/tab/explanations.py; of what does not happen at each step, engine/metrics/newest.py (`_rhythms_of`)
What a step reports
    updates.py: `StepReport`
    also: engine/metrics/{report_by_agent, step_metrics}.py, running/handles.py,
        distributed/virtual/virtual_coordinator.py; a sum over steps, engine/capture/loop_state.py
"""
