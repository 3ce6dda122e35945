"""The step of a system, from what agents read at a tick to what they learn from it.

Read this page, then words.py, which has the words and masks of the heart, then step.py. In the list of files below, those with a * are
the step, and those with a + say what the life of any message is made of: message_lives.py tells such lives. A first reading skips those with a -.
Two files elsewhere belong to it: base/mask.py, and comms/backward_requests.py, whose `backward_all` has the arithmetic of a step: what is
divided by B, scaled and discounted. Rules are those of docs/semantics.md.

A step, by its calls, in their order (a test runs them); `[…]` is called only where a scenario needs it:

    take_step
        Engine.tick
            ForwardPass.tick_agents                 one network call for each agent, or for tied agents of one wave
                ForwardPass._begin_tick             for each agent of a call: what it reads, over each of its channels
                    Ledger.receive                  the messages that are due, as `Arrival`s
                    [StandIns.stand_in]             the synthetic input, where the newest is lost, or everywhere (`unlocked`)
                    ForwardPass.as_read             how one is differentiated: as a `CountedRead`, `WithGraph` or `Constant`
                        Coupling.read_kind
                ForwardPass.evaluate                one network call
                ForwardPass._send_messages          for each agent of the call
                    Ledger.send                     over each of its channels
                        Timetable.read_plan         which ticks will read it
                [SweepOrder.after_send]             a group that has ticked is differentiated at once (`differentiate_windows`)
            delete_spent_messages
                Ledger.delete_spent                 of each channel over which a message was sent: older ones of no more use
        advance_environment                         the caller's; it returns which episodes have ended
        Engine.learn
            end_episodes                            stage 1
                Ledger.void_messages
            Engine._pop_ended_windows               stage 2: each group's window that ends at this step
                [LateWindows.choose_windows]        of a group that waits: which ended windows wait, are learned from, or are skipped
            Engine._learn_in_turns
                [ForwardPass.replay]                windows that have waited, just before their turn
                BackwardPass.differentiate_windows  for each turn
                    ObjectiveEvaluator.window_loss
                    BackwardPass.collect_injections for each message that the window sent: what its sender learns from it
                        Message.is_back             whether its gradient is back: a sender that waited takes it here, not in stage 4
                        Coupling.credit             the returned gradient, or `PredictorTrainer.predict`
                    backward_all                    one backward pass for all windows of the turn
                Engine.finish_gradients             features, at `after_differentiate`; then ties and hooks
                    DivergenceCheck.check_updates
                BackwardPass.book                   what the window read: its gradients are added to the messages
                    Channel.as_returned             what returns of the gradient of a read
            Ledger.close_window                     stage 3: of each channel that a window that has been learned from has read
                Ledger.finish                       of a message whose last window this was: the gradient goes back
            PredictorTrainer.pop_messages_to_learn_from     stage 4: from every ledger, the messages whose gradient is back
            PredictorTrainer.collect_updates        gradients of predictors
            DivergenceCheck.check_predictors
            Engine.move_all                         stage 5: until here, no parameter has moved
            Window.free_graph                       stage 6

Here an `Agent` is a stack of N >= 1 agents of the scenario, a `Channel` a stack of K >= 1 of its channels, and a ledger has the
messages of such a stack, [K * B, size] each. The single agents and channels of the scenario are the `members` of stacks; each is a
stack of one itself. A `Mask` says in which rows something holds; base/mask.py says when its rows are looked at.

Names: `x_name` names the object `x`; but the `sender` and the `receiver` of a channel are names of agents. `x_by_y` is x for each y,
`x_count` the number of x. `a_from_b` takes rows of b, and returns rows of a. `load` takes over a saved state, and `forget` forgets where
an episode ended.

The files; each imports only files above it, also for types:

    words *             no code: what words and masks mean here
    roles               what a saved state has of a field
    layout              rows of a stack: which seed, member and environment each is of, and which a sender's port has
    clock +             when agents tick and send
    window_grid +       which ticks are a window
    timetable *         which ticks and windows read a message, and when its gradient is back
    schedule            the order in which agents tick
    notes               what features keep with a message, a tick, an agent or a window's losses
    signals             signals of a step, ends of episodes; engine/environment.py makes both
    message *           messages of stacks of channels, and what of them has reached a tick
    held_messages       the newest arrival that a receiver holds, where messages may be lost or a synthetic input is conditioned on it
    newest_returned     the newest returned gradient, where a predictor is conditioned on it
    ledger *            the messages of a stack of channels, from sending to the return of their gradient
    channel_settings    predictors, injection, fixed feedback and endpoints of a channel
    channel +           stacks of channels
    reads *             how what has reached a tick is differentiated
    window +            ticks, windows, learning groups
    participation       which agents learn from a window
    agent               stacks of agents
    updates             what is learned at a step, by agents and by predictors
    divergence_texts -  what a user reads of a divergence
    divergence -        checks before a parameter moves
    guard -             the same on a GPU, where the host looks at no number until it synchronises
    system              all agents, channels and learning groups
    feature             the points of the step at which features are called
    forward *           a tick: read, evaluate, send
    window_losses *     losses of a window
    predictors *        training of synthetic gradients and inputs
    backward *          gradients of a window that ends
    learning_order      the order in which windows are differentiated, and move parameters
    step *              the step: tick, environment, ends of episodes, learn
    late_windows        which ended windows wait for returned gradients
    message_lives       no code: the lives of messages, by steps and methods

What only some scenarios need is a feature in engine/features or engine/policies, if it can be called at a point of the step;
engine/feature_table.py installs it, by a `FeatureSetting` of engine/feature_settings.py. What acts between two points is a branch in these
files: `read`, `align`, participation, fixed feedback, `needs_actions`, and `SweptUpdates`. `LateWindows` is here, as it is the rule of
`delayed`.
held_messages, newest_returned, participation, guard and late_windows are imported only where a scenario needs them.

Where a change goes: the file and the name, whose docstring says what to mind there; after `+`, files elsewhere that must change too:

  Sending:
    when an agent ticks                          clock.py: `Clock` + engine/build/builder.py
    in which order agents tick in a step         schedule.py: `TickSchedule.network_calls` + scenarios/relations.py
    a clock that pauses                          clock.py: `Clock`, whose docstring says who counts on regular ticks; not by environment, as
                                                 a tick is of all rows
    when it sends                                clock.py: a class of `SendTimes` + engine/build/channels.py, engine/warnings/given_up.py
    what a link does to a message                comms/links.py: `Link`
    the same, by its tick or earlier messages    who calls the link: ledger.py: `Ledger.send`, reads.py: `WithGraph.carried_value` +
                                                 engine/policies/replays.py, engine/policies/replayed_senders.py, inspection/truth.py; what is
                                                 kept + engine/state/state_dict.py, engine/state/stacks.py
    a message that is not sent, by its value     ledger.py: `Ledger.send`, in `Fate.lost`, and `Ledger.may_lose`, which all ask who plan what will
                                                 be there + engine/build/channels.py and engine/inference/rollout.py (`_silent`), where
                                                 `held_messages` is made, scenarios/at_once.py
    the same, by its age at a tick               ledger.py: `Ledger.receive`, held_messages.py, forward.py: `ForwardPass.as_read` +
                                                 engine/features/stand_ins.py, engine/metrics/step_metrics.py, inspection/ceiling.py
    what is sent by or to the dead               channel.py: `Channel.void_when_sent`
    the same, by a signal                        channel.py: `Channel.mask_signal_names`, which all ask who step an environment; a signal
                                                 that nobody asks for is absent, and voids nothing
    the same, by the step of the episode         a signal that engine/environment.py makes: `SignalledSteps`, `signals_of` + envs/signal.py,
                                                 engine/inference/policy.py, engine/inference/composition.py, engine/policies/final_values.py
  Reading:
    which tick reads a message                   timetable.py: `Timetable.reading_ticks`, which all that reads asks +
                                                 engine/inference/rollout.py (`filled`), engine/warnings/advice.py (`_lost_credit`)
    a message that arrives twice                 the same, and `Ledger.delete_spent` + comms/read_modes.py, engine/state/stacks.py,
                                                 engine/costs/memory_estimate.py
    a delay that varies                          timetable.py: `Timetable.arrival_of`, its inverse `newest_due`, and agent.py: `state_steps` +
                                                 engine/build/channels.py, engine/build/stack_kinds.py, engine/features/contexts.py,
                                                 engine/inference/composition.py, engine/inference/rollout.py, engine/costs/memory_estimate.py,
                                                 distributed/parts/halves.py, distributed/parts/placement.py
    which reads count                            forward.py: `ForwardPass.as_read`, of `Arrival.may_count`; message_lives.py has the whole rule
    the same, by what only the step's end shows  backward.py: `BackwardPass.book` + engine/features/returned_losses.py,
                                                 engine/features/lambda_returns.py, engine/policies/returned_actions.py
    several messages in a tick (read mode)       comms/read_modes.py: a class + engine/build/shapes.py, scenarios/channel_specs.py,
                                                 scenarios/checks.py, scenarios/scenario_warnings.py, scenarios/sender_passes.py
    how messages are joined to one input         comms/fan_in.py: a class beside `Concatenation` + engine/build/shapes.py
    what a receiver reads in place of a message  a feature with the point `stand_in` + the metric `stand_in` (engine/metrics/step_metrics.py),
                                                 engine/inference/rollout.py (`_silent`), scenarios/scenario_warnings.py
    what of a message enters the network         reads.py: `differentiable_value_in` of each read; of policies, `constant_value_in` too
    what an agent observes                       forward.py: `ForwardPass.observations` + engine/policies/critics.py, engine/features/normalisation.py.
                                                 It is asked again as a window is replayed: the same at a step
    what ends with an episode, or at a death     timetable.py: `Timetable.is_cut`, which ledgers, timelines and probes ask; of what is held
                                                 and conditions predictors, `forget` of held_messages.py and newest_returned.py
  Returning:
    what becomes of a message that never counts  ledger.py: `Ledger.finish`
    when the gradient of a read is booked        backward.py: `BackwardPass.book`
    what of it is booked (clipped, weighed)      channel.py: `Channel.as_returned`, of further passes and lambda-returns too
    how several reads are added                  message.py: `Booked.add_read`; ticks that share a read: reads.py: `CountedRead.only_tick` +
                                                 distributed/parts/exchange.py, distributed/parts/cut_ledger.py
    what is kept of returned gradients           newest_returned.py + engine/state/stacks.py, distributed/parts/part.py, inspection/truth.py
    when a gradient has come back                timetable.py: `Timetable.back_from`
    how long a message is kept                   ledger.py: `Ledger.delete_spent` + engine/state/stacks.py
    what a returned gradient is worth, by age:
      to a predictor                             a feature with the point `gradients_back`, where delayed channels are absent
      to a sender that waits (`delayed`)         comms/couplings.py: `Delayed.credit`
      to both, by the age of each read           backward.py: `BackwardPass.book`
      to both, by the time until it is whole     ledger.py: `Ledger.finish`
  Learning:
    a coupling                                   comms/couplings.py: a class with `@_built_in` + engine/capture/conditions.py, if its
                                                 credit depends on the step
    what a sender learns from a message          comms/couplings.py: a coupling's `credit`; what that may read is `CreditedMessage`, made in
                                                 backward.py: `BackwardPass.ordinary_credit`
    the same, for all couplings                  backward.py: `BackwardPass.ordinary_credit`; of predictions, `BackwardPass.applied_prediction`
                                                 + engine/policies/replayed_senders.py
    how credit is shortened, masked and weighed  channel.py: `Channel.clipped_credit`, `Channel.injection`
    the same, of several channels together       backward.py: `BackwardPass.collect_injections` + engine/policies/replayed_senders.py,
                                                 engine/features/lambda_returns.py, inspection/signal_alignment.py
    when a predictor learns                      predictors.py: `PredictorTrainer.learns` + engine/metrics/newest.py: `_rhythms_of`, or log entries
                                                 miss its metrics
    from which messages a predictor learns       a feature with the point `gradients_back`, which may take messages away and add earlier ones, with
                                                 what is booked for them; those it keeps are not in a checkpoint. Of `local`, and of synthetic
                                                 inputs: predictors.py: `PredictorTrainer.sender_examples`, `collect_input_updates`
    a kind of synthetic gradient                 comms/synthetic_gradients.py, comms/label_gradients.py, agents/local_policy.py
    when a predictor is trusted (gates)          comms/skill_gate.py, engine/features/gates.py; where it is applied: backward.py:
                                                 `BackwardPass.applied_prediction` + scenarios/channel_specs.py, engine/build/channels.py
    which members learn from a window            participation.py: `Participation.learning_rows` + engine/build/builder.py
    in which rows an agent learns from a window  forward.py: `ForwardPass.begin_window`
    which messages may have credit, and where    message.py: `Message.creditable`
    in which rows a sender learns nothing        the same, and channel.py: `Channel.credited_rows`
    in which rows a predictor learns nothing     channel.py: `Channel.restrict_example`
    how much an example counts to a predictor    comms/examples.py: `Example`, comms/model.py + comms/module_predictors.py, a user's module;
                                                 what it knows of its message: predictors.py: `PredictorTrainer.example`
    an objective                                 agents/objectives.py
    a loss beside the objectives                 a feature with the point `after_credit`
    how losses are weighed by environment        window_losses.py: `ObjectiveEvaluator.term_loss`, which rollouts call too; not of policies
    the same, by what only a window's end shows  window_losses.py: `ObjectiveEvaluator.window_loss` and its `factor_by_agent` +
                                                 `sweep_obstacle` (engine/features/sweep.py), engine/policies; what an episode's end tells
                                                 is kept by tick, as a window has no notes. An agent whose losses are all 0 still
                                                 moves by its optimiser's momentum: `Update.rest`
    an environment is left out                   channel.py: `Channel.void_when_sent`, and `ObjectiveEvaluator.term_loss`, not learning rows, which
                                                 are of whole members + engine/policies, engine/features/auxiliary.py,
                                                 engine/features/normalisation.py; who counts an environment's steps: engine/environment.py
    by what losses are divided                   comms/backward_requests.py: `backward_all`, also credit and what returns +
                                                 engine/policies/further_passes.py
    which ticks are a window                     window_grid.py: a class of `WindowGrid` + engine/build/learning_groups.py,
                                                 scenarios/relations.py, engine/warnings/advice.py
    the same, where an end is not known ahead    timetable.py: `ReadPlan`, made as a message is sent: `Ledger` must plan what is open anew + features
                                                 that ask for ends in `tick` (engine/features/sweep.py), engine/capture/conditions.py; a window
                                                 is of all environments
    when an ended window is learned from         late_windows.py: `LateWindows.choose_windows`; a coupling's `waits` and `waits_for`
    with which optimiser                         nets/trained_parameters.py; of predictors, engine/build/channels.py
    how many steps a predictor's takes           predictors.py: `PredictorTrainer.move_predictors`, with `differentiate_predictors` before each
    at which rate an agent or predictor learns   a feature as engine/features/gates.py: compare at `gradients_back`, and at `before_move` give the
                                                 rate to `learn_at` of nets/trained_parameters.py, which counts the steps of each member
    in which order agents and predictors move    step.py: `Engine.move_all`, which further passes call too
    which window is differentiated first         learning_order.py: `LearningOrder.turns`, `turns_of_groups` (no cycles) + engine/build/stack_kinds.py
    which window moves parameters first          the same: windows move them in their turns, of a group the oldest first; a metric or handle
                                                 that wants the newest takes them by `oldest_first` (updates.py)
    what is done to gradients before they move   a feature with the point `after_differentiate` or `before_move`
    which learners move, or members of stacks    a feature with the point `after_differentiate`: `Update.rest`
    which members a learning signal has reached  engine/features/reach.py
    what is refused before parameters move       divergence.py: `DivergenceCheck`; on a GPU, guard.py: `Guard`
  Other:
    a setting of a channel or an agent           channel_settings.py, timetable.py, ledger.py, agent.py, whose it is + its spec (scenarios),
                                                 engine/build/channels.py or engine/build/builder.py, engine/inference/rollout.py (`_silent`).
                                                 Members of a stack are equal in it; where they need not be: engine/state/hyperparameters.py, if a
                                                 number, or `apart` in engine/build/stack_kinds.py + engine/build/channel_stacking.py
    what a feature keeps                         notes.py, with a message, a tick, an agent or a window's losses: what has rows. There are none of
                                                 channels or windows, and a feature's own attributes are not saved: count by what is numbered, as
                                                 windows and steps are
    in which order features are called           engine/feature_table.py: `TABLE`, where they have a point in common
    a setting that changes in mid-run            engine/state/hyperparameters.py, if a number. From a coupling, a clock or a delay follows what
                                                 is built (groups, turns, features): build anew, and load the state, which must
                                                 have the same predictors
    what a recorded period (capture) forbids     that the host branches on a step (nets/step_numbers.py: `step_decision`), or on a tensor;
                                                 what must is an obstacle in engine/capture/conditions.py
    how rows are laid out in a stack             layout.py: `Layout`
    what a checkpoint has of a message           message.py: the field's role (roles.py)
    what a checkpoint has of a note              engine/state/trees.py
    a metric of the step                         engine/metrics/step_metrics.py, which has the newest values; a mean since the last entry:
                                                 engine/metrics/report_by_agent.py (`MeanAccumulator`); with ages of reads:
                                                 engine/features/ages.py; of what does not happen at each step + engine/metrics/newest.py:
                                                 `_rhythms_of`; all + telemetry/tab/explanations.py
    what a step reports                          updates.py: `StepReport` + engine/metrics/report_by_agent.py,
                                                 distributed/virtual/virtual_coordinator.py; a sum over steps + engine/capture/loop_state.py
"""
