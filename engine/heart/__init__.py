"""The step of a system, from what agents read at a tick to what they learn from it.

Read this page, then words.py, which has the words and masks of the heart, then step.py. In the list of files below,
those with a * are the step, and those with a + say what the life of any message is made of: message_lives.py tells such
lives. A first reading skips those with a -. Two files elsewhere belong to it: base/mask.py, and
comms/backward_requests.py, whose `backward_all` has the arithmetic of a step: what is divided by B, scaled and
discounted. Rules are those of docs/semantics.md.

A step, by its calls, in their order (a test runs them); `[…]` is called only where a scenario needs it:

    take_step
        Engine.tick
            ForwardPass.tick_agents                 one network call for each agent, or for tied agents of one wave
                ForwardPass.begin_tick              for each agent of a call: what it reads, over each of its channels
                    Ledger.receive                  the messages that are due, as `Arrival`s
                    [StandIns.stand_in]             the synthetic input, where the newest is lost, or all (`unlocked`)
                    ForwardPass.as_read             how it is differentiated: `CountedRead`, `WithGraph`, `Constant`
                        Coupling.read_kind
                ForwardPass.evaluate                one network call
                ForwardPass._send_messages          for each agent of the call
                    Ledger.send                     over each of its channels
                        Timetable.read_plan         which ticks will read it
                [SweepOrder.after_send]             a group that has ticked is differentiated (`differentiate_windows`)
            delete_spent_messages
                Ledger.delete_spent                 older messages of no more use, of each channel that has sent
        advance_environment                         the caller's; it returns which episodes have ended
        Engine.learn
            end_episodes                            stage 1
                Ledger.void_messages
            Engine._pop_ended_windows               stage 2: each group's window that ends at this step
                [LateWindows.choose_windows]        which ended windows of a group that waits go on waiting
            Engine._learn_in_turns
                [ForwardPass.replay]                windows that have waited, just before their turn
                BackwardPass.differentiate_windows  for each turn
                    ObjectiveEvaluator.window_loss
                    BackwardPass.collect_injections what its sender learns from each message of the window
                        Message.return_state        whether its gradient is back, for a sender that waited
                        Coupling.credit             the returned gradient, or `PredictorTrainer.predict`
                    backward_all                    one backward pass for all windows of the turn
                Engine.finish_gradients             features, at `after_differentiate`; then ties and hooks
                    DivergenceCheck.check_updates
                BackwardPass.book                   what the window read: its gradients are added to the messages
                    Channel.as_returned             what returns of the gradient of a read
            Ledger.close_reader_window          stage 3: of each channel that a learned window has read
                Ledger.finish                       of a message whose last window this was: the gradient goes back
            PredictorTrainer.pop_messages_back      stage 4: messages whose gradient is back, for predictors and gates
                Ledger.pop_messages_back            of every ledger
            PredictorTrainer.collect_updates        gradients of predictors
            DivergenceCheck.check_predictors
            Engine.move_all                         stage 5: until here, no parameter has moved
            Window.free_graph                       stage 6

Here an `Agent` is a stack of N >= 1 agents of the scenario, a `Channel` a stack of K >= 1 of its channels, and a ledger
has the messages of such a stack, [K * B, size] each. The single agents and channels of the scenario are the `members`
of stacks; each is a stack of one itself. A `Mask` says in which rows something holds; base/mask.py says when its rows
are looked at.

Names: `x_name` names the object `x`; but the `sender` and the `receiver` of a channel are names of agents. `x_by_y` is
x for each y, `x_count` the number of x. `a_from_b` takes rows of b, and returns rows of a. `load` takes over a saved
state, and `forget` forgets where an episode ended.

The files; each imports only files above it, also for types:

    words *             no code: what words and masks mean here
    changes             no code: where a change goes
    roles               what a saved state has of a field
    layout              rows of a stack: which seed, member and environment each is of, and which a sender's port has
    clock +             when agents tick and send, which ticks are a window, and in which order agents tick
    timetable *         which ticks and windows read a message, and when its gradient is back
    notes               what features keep with a message, a tick, an agent or a window's losses
    signals             signals of a step, ends of episodes; engine/environment.py makes both
    message *           messages of stacks of channels, and what of them has reached a tick
    held_messages       the newest arrival that a receiver holds, for lost messages and synthetic inputs
    newest_returned     the newest returned gradient, where a predictor is conditioned on it
    ledger *            the messages of a stack of channels, from sending to the return of their gradient
    channel_settings    predictors, injection, fixed feedback and endpoints of a channel
    channel +           stacks of channels
    window *            reads, and how they are differentiated; ticks, windows, learning groups
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
    step *              the step: tick, environment, ends of episodes, learn; the order of windows
    late_windows        which ended windows wait for returned gradients
    message_lives       no code: the lives of messages, by steps and methods

What only some scenarios need is a feature in engine/features or engine/policies, if it can be called at a point of the
step; a row of engine/feature_table.py installs it where a setting needs it. What acts between two points is a branch in
these files: `read`, `align`, participation, fixed feedback, `needs_actions`, and `SweptUpdates`.
`LateWindows` is here, as it is the rule of couplings that wait. Two outside have a say in what a tick reads:
engine/features/stand_ins.py, and engine/policies/final_values.py, which reads ahead. participation, guard and
late_windows are imported only where a scenario needs them.

changes.py says where a change goes.
"""
