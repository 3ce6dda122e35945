"""The step of a system, from what agents read at a tick to what they learn from it.

Read this page, then the files in this order. Rules are those of docs/semantics.md; tests/contracts/test_message_life.py has the
lives of a few messages as tables.

    clock           ticks, windows of ticks, and the order of calls
    timetable       which ticks read a message, which windows close before its gradient goes back, and when it is back
    signals         what the environment shows at a step, and which episodes ended with it
    layout          the order of rows in a stack
    ends            a channel's two ends: what was sent, what has come, and the wire between them
    channel, agent  stacks of channels and of agents, with their settings
    window          reads, ticks, windows, and the groups of agents that learn together
    system          all of these, as the builder has made them
    contexts        what predictors see beside a message; the synthetic input that stands in for one
    forward         agents read, evaluate and send
    window_losses   objectives at ticks, and their sums over a window
    updates         what a step has learned
    predictors      training of synthetic gradients and inputs
    backward        what senders are credited with, and what returns of the messages read
    moving          whether all is finite; ties, clips and optimiser steps
    step            all of that in its order, with windows that wait for gradients
    sweep           a group is differentiated as soon as it has ticked, to save memory
    policies/       agents that act: acting, experience, learning, passes (window_evaluation: a window anew, in some rows)

Files elsewhere belong to it: nets/mask.py; comms/couplings.py and links.py; comms/backward_requests.py, whose
`backward_all` has the arithmetic of a step: what is divided by B, scaled and discounted; and agents/policy_gradients.py, the
losses of policies.

A step, by its calls, in their order (a test runs them); `[…]` is called only where a scenario needs it:

    step_once                                       (engine/backends.py)
        Engine.tick
            ForwardPass.tick_agents                 one network call for each agent, or for tied agents of one wave
                Acting.begin_step                   outputs that are actions hold for their tick alone
                ForwardPass.begin_tick              for each agent of a call: what it reads, over each of its channels
                    Inbox.read                      the messages that are due, as `Arrival`s
                    [Contexts.stand_in]             the synthetic input, where the newest is lost, or all (`unlocked`)
                        Contexts.keep_example       what it learns from
                    ForwardPass.as_read             how it is differentiated: `CountedRead`, `WithGraph`, `Constant`
                        Coupling.read_kind
                ForwardPass.evaluate                one network call
                ForwardPass._send_messages          for each agent of the call
                    Acting.act                      the action of an acting agent, sampled from its policy
                    Outbox.send                     over each of its channels
                        Timetable.read_plan         which ticks will read it
                        Wire.deliver                to the inbox of its receiver
                [Sweep.after_call]                  a group that has ticked is differentiated (`differentiate_windows`)
            delete_spent_messages
                Inbox.delete_spent                  older messages of no more use, of each channel that has sent
        advance_environment                         it returns which episodes have ended
        Engine.learn
            end_episodes                            stage 1
                Wire.end_episodes
            Engine._pop_ended_windows               stage 2: each group's window that ends at this step
                [choose_windows]                    which ended windows of a group that waits go on waiting
            Engine._learn_in_turns
                [ForwardPass.replay]                windows that have waited, just before their turn
                BackwardPass.differentiate_windows  for each turn
                    ObjectiveEvaluator.window_loss
                    BackwardPass.collect_injections what its sender learns from each message of the window
                        Sent.is_back                whether its gradient is, for a sender that waited
                        Coupling.credit             the returned gradient, or `PredictorTrainer.predict`
                    backward_all                    one backward pass for all windows of the turn
                Moving.settle                       who moves, ties, hooks; then everything is checked
                BackwardPass.book                   what the window read: its gradients are added to the messages
            Inbox.close                         stage 3: of each channel that a learned window has read
                Wire.give_back                      of a message whose last window this was: the gradient goes back
                    Outbox.take_returned
            PredictorTrainer.pop_messages_back      stage 4: messages whose gradient is back, for predictors and gates
                Outbox.pop_returned                 of every channel
            PredictorTrainer.collect_updates        gradients of predictors
            Moving.check_predictors
            PolicyLearning.count_returns            stage 5: running statistics of returns
            Moving.move                             until here, no parameter has moved
            FurtherPasses.take                      `ppo`, `q`: over minibatches of the windows
            Window.free_graph                       stage 6

Here an `Agent` is a stack of N >= 1 agents of the scenario, a `Channel` a stack of K >= 1 of its channels, and its wire
joins an outbox of messages, [K * B, size] each, with an inbox. A `Mask` says in which rows something holds. Steps count from 0; messages to
users number them from 1.

    tick          one evaluation of an agent's network, at a step of its clock
    window        the ticks that an agent is unrolled over; it learns at the end of a window, or the window is skipped
    stamp         the step at which a message was sent
    due           the newest message that a perfect link would have brought to a tick
    held          the newest message that has arrived, read where a due one is lost
    void          read as zeros: the episode has ended since it was sent, or an endpoint was not alive
    count         a read counts where it takes the due message, or a synthetic input in its place, and its agent learns
    book          add the gradient of a read to its message, when the reader's window is learned from
    finished      the last window that may read the message has closed: nothing more is booked
    back          `return_delay` steps after it was finished, what was booked has reached the sender
    wait          an ended window of a group waits until the gradients of what it sent are back, or given up (`horizon`)
    prediction    what a synthetic gradient gives for a sent message
    credit        the gradient from which the sender learns: the prediction behind its gate, or the returned gradient
    injection     what the sender's backward pass adds at the output: the credit, where the sender learns

No autograd graph outlives the step at which its window is learned from, and none is stored: a fork, a checkpoint and a
window that waits are replayed from their ticks.

What policies need is in policies/, and called at its line: `Acting` in a tick, `value_final_observations` where an episode
is truncated, `PolicyLearning` for losses of windows, `FurtherPasses` once parameters have moved.
"""
