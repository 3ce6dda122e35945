"""The step of a system, from what agents read at a tick to what they learn from it.

Nine files are the step, in this order: step.py (`take_step` is the step, and `Engine.learn` its longest part), message.py (the words
and masks of the heart), timetable.py (which ticks read a message), reads.py (how one is read), ledger.py (what happens to a message,
in order), forward.py (a tick), window_losses.py and backward.py (losses and gradients of a window), and predictors.py (what
predictors learn from). They have a * in the list below. Four more, with a +, say what any message's life is made of: when agents
tick, which ticks are a window, what a window keeps, and what a channel has. The others are read when a type of theirs is met.
Rules are those of docs/semantics.md.

Here an `Agent` is a stack of N >= 1 agents of the scenario, a `Channel` a stack of K >= 1 of its channels, and a ledger has the
messages of such a stack, [K * B, size] each. The single agents and channels of the scenario are the `members` of stacks; each is a
stack of one itself. A `Mask` says in which rows something holds; base/mask.py says when its rows are looked at.

Names: what names an object is `x_name`, and `x` is the object, but for the `sender` and the `receiver` of a channel, which are names of
agents. `x_by_y` is x for each y. `a_from_b` takes rows of b, and returns rows of a. Methods of one name do one thing in every class
that has them: `load` takes over a saved state, `forget` forgets where an episode ended. The other words of the heart are at the head
of message.py.

Each file imports only files above it in this list:

    roles               what a saved state has of a field
    layout              rows of a stack: which seed, member and environment each is of, and which a sender's port has
    clock +             when agents tick and send
    window_grid +       which ticks are a window
    timetable *         which ticks and windows read a message, and when its gradient is back
    schedule            the order in which agents tick
    feature_setting     names of settings that features obey
    notes               what features keep with a message, a tick or an agent
    signals             signals of a step, ends of episodes
    message *           messages of stacks of channels; the words of their lives
    reads *             what has reached a tick, and how it is differentiated
    window +            ticks, windows, learning groups
    held_messages       the newest arrival that a receiver holds, where messages may be lost or a synthetic input is conditioned on it
    newest_returned     the newest returned gradient, where a predictor is conditioned on it
    ledger *            the messages of a stack of channels, from sending to the return of their gradient
    channel +           stacks of channels
    participation       which agents learn from a window
    rewards             what a policy learns from in place of a target
    policy_window       the window of a policy, with what its first pass has computed
    agent               stacks of agents
    updates             what is learned at a step, by agents and by predictors
    divergence_texts    what a user reads of a divergence
    divergence          checks before a parameter moves
    system              all agents, channels and learning groups
    feature             the points of the step at which features are called
    forward *           a tick: read, evaluate, send
    window_losses *     losses of a window
    predictors *        training of synthetic gradients and inputs
    backward *          gradients of a window that ends
    learning_order      the order in which windows are differentiated
    step *              the step: tick, environment, ends of episodes, learn

What only some scenarios need is a feature in engine/features or engine/policies, if it can be called at a point of the step;
engine/installed.py installs it. What changes a line between two points is a branch in these files: `read`, `align`, participation,
fixed feedback, `needs_actions`, and `SweptUpdates`. The rewards of policies are here too, as agents hold them.
held_messages, newest_returned and participation are imported only where a scenario needs them.

Where a change goes: the file, the name, and what to mind there:

  Sending:
    when an agent ticks                          clock.py: `Clock`, made by engine/build/builder.py
    in which order agents tick in a step         schedule.py: `Schedule.network_calls`, from the waves of scenarios/relations.py
    when it sends                                clock.py: a class of `SendTimes` beside `RatedSends`, chosen in engine/build/channels.py;
                                                 the advice in engine/planning/given_up.py makes its own
    what a link does to a message                comms/links.py: `Link`, which `Ledger.send` calls
  Reading:
    which tick reads a message                   timetable.py: `Timetable.reading_ticks`, from which its plan follows, and its inverse
                                                 `stamps_read_at`: change both (`Ledger.leaf_for` asserts that they agree)
    which reads count                            reads.py: `Arrival.may_count`; `ForwardPass.as_read` and `Ledger.leaf_for`. Features at
                                                 `after_book` and lambda-returns take `Leaf.counted`
    how a tick reads several messages (`read`)   comms/read_modes.py: a class; and `reading_ticks`, if it reads others than the messages
                                                 since the tick before. engine/build/shapes.py counts them
    how messages are joined to one input         comms/links.py: a class beside `Concatenation`, and `StackFanIn`, which joins them over a
                                                 stack; engine/build/shapes.py sizes the network's input
    what a receiver reads in place of a message  a feature with the point `stand_in`; it is called for synthetic inputs alone
    what ends with an episode, or at a death     ledger.py: `Ledger.void_messages`, in the rows of `Channel.ended_rows`. No window ends
                                                 with an episode: later ticks go on in the same one; `EpisodeWindows` end by their length
    what is sent by or to the dead               channel.py: `Channel.void_when_sent`
  Returning:
    what becomes of a message that never counts  ledger.py: `Ledger.finish`, by `Message.finished_and_counted`. One that is not bookable
                                                 (`ReadPlan`) never meets it: it is finished in `Ledger.send`. That a message was read without being
                                                 counted, as a `Constant`, only a feature at the point `after_read` can note
    when the gradient of a read is booked        backward.py: `BackwardPass.book`. To book later, keep `Update.gradient_by_leaf`, which it
                                                 clears, and name a later window in `Timetable.read_plan`: the last to close finishes it
    when a gradient has come back                timetable.py: `Timetable.back_at`, by which ledgers keep messages, pop them, and let
                                                 windows wait (`Ledger.return_state`)
    what a returned gradient is worth, by age    a feature with the point `gradients_back`, for predictors alone. For `delayed` too: in
                                                 `Ledger.finish`, by the step of finishing; by the age at each read, in `Ledger.leaf_for`,
                                                 which must give each tick a leaf of its own, and in `BackwardPass.book`
  Learning:
    a coupling                                   comms/couplings.py: a class with `@_built_in`; or a class of the user's
    what a sender learns from a message          comms/couplings.py: a coupling's `credit`
    the same, for all couplings                  backward.py: `BackwardPass.ordinary_credit`, which applies `clip` if the channel predicts;
                                                 again for what is not the step's: engine/policies/replayed_senders.py (further
                                                 passes) and inspection/signal_alignment.py. With `sweep` it may be called in `tick`,
                                                 before the step's episodes end
    a kind of synthetic gradient                 comms/synthetic_gradients.py; by labels, comms/label_gradients.py; by the receiver's
                                                 actions, agents/local_policy.py
    in which rows a sender learns nothing        channel.py: `Channel.credited_rows`. What else follows a message that was void before it
                                                 was read takes `Fate.void_unread` itself: four files of engine/features, and
                                                 engine/policies/replayed_senders.py, inspection/signal_alignment.py, running/handles.py
    in which rows a predictor learns nothing     channel.py: `Channel.restrict_example`, which also decides whose predictors take a step
    an objective                                 agents/objectives.py; window_losses.py applies it
    a loss beside the objectives                 a feature with the point `after_credit`
    which ticks are a window                     window_grid.py: a class of `WindowGrid`, chosen in engine/build/learning_groups.py
    when an ended window is learned from         comms/couplings.py: `waits` and `waits_for`; engine/features/late_windows.py, as the third
                                                 life below tells
    with which optimiser                         nets/trained_parameters.py; a predictor's settings: engine/build/channels.py
    which window is differentiated first         learning_order.py: `LearningOrder.turns`
    what is done to gradients before they move   a feature with the point `after_differentiate`, where those of a window have not been
                                                 checked, or `before_move`, where those of all windows have been
    what is refused before parameters move       divergence.py: `DivergenceCheck`
  Other:
    how rows are laid out in a stack             layout.py: `Layout`
    what a checkpoint has of a message           message.py: the field's role (roles.py)
    what a checkpoint has of a note              engine/state/trees.py
    a metric of the step, such as ages of reads  engine/metrics/step_metrics.py, from the `StepReport` that `learn` returns. The ticks of
                                                 `Update.window` have their reads: `Leaf` and `WithGraph` have the stamp of their message;
                                                 of a `Constant`, a feature notes it (engine/features/ages.py)

The lives of three messages, in real numbers (a test computes these tables):

Agent a ticks at every step and learns from windows of 4 ticks: its window 1 has the ticks of steps 4 to 7. Agent b ticks at every
4th step and learns from windows of 2 ticks: its window 1 has the ticks of steps 8 and 12, and ends at step 12. Both have an
objective. The channels a->b and b->a are decoupled and take 2 steps, for messages and for gradients. There are B = 4 environments,
and at step 7 the episode ends in environments 0 and 1. The columns list the environments in which a message is void, void and unread, and
counted (`Booked.counted`), and has a booked gradient. The message of a->b that a sends at step 6, which one window reads after the end:

    step  void  unread    counted  gradient  methods
    6     -     -         -        -         Ledger.send: the first tick that reads it is 8 = 6 + 2, in window 1 of b
    7     0 1   0 1       -        -         Ledger.void_messages; then a's window ends: BackwardPass.collect_injections injects in 2 and 3
    8     0 1   0 1       -        -         ForwardPass.as_read: b reads zeros in 0 and 1, and a Leaf that counts in 2 and 3
    12    0 1   0 1       2 3      2 3       b's window ends: Booked.add_read, Ledger.close_window; the gradient is at a at 14 = 12 + 2
    14    0 1   0 1       2 3      2 3       Ledger.pop_messages_back: the predictor of a->b learns from 2 and 3, and a does not learn again
    15    gone  gone      gone     gone      Ledger.send of a newer message deletes it

For the messages of steps 3, 4 and 5 nothing returns: when b ticks at step 8, that of step 6 has replaced them. Had the episode ended at
step 9, after the tick that reads the message, it would be void in 0 and 1 from then on, but unread nowhere, and counted in
all four environments.

The message of b->a that b sends at step 4, which two windows read, one before the end and one after it:

    step  void  unread    counted  gradient  methods
    4     -     -         -        -         Ledger.send: the ticks of steps 6 to 9 read it, in windows 1 and 2 of a; then b's window 0
                                             ends: BackwardPass.collect_injections injects in all four; the later end changes nothing of it
    6     -     -         -        -         ForwardPass.as_read: a reads it through a Leaf that counts in all four, as at step 7
    7     0 1   -         0 1 2 3  0 1 2 3   Ledger.void_messages; then a's window 1 ends: what was read before the end counts
    8     0 1   -         0 1 2 3  0 1 2 3   ForwardPass.as_read: a reads zeros in 0 and 1, and a Leaf that counts in 2 and 3
    11    0 1   -         0 1 2 3  0 1 2 3   a's window 2 ends: Booked.add_read adds to the gradient in 2 and 3 alone; it is at b at 13
    13    0 1   -         0 1 2 3  0 1 2 3   Ledger.pop_messages_back: the predictor of b->a learns from all four
    16    gone  gone      gone     gone      Ledger.send of a newer message deletes it

The first message again, where a->b is `delayed`: a's window waits. Which windows wait is asked only as a window of a ends: those of its
ended windows that sent a message, bookable and to another group, whose gradient has not reached a (`Ledger.return_state`). At the latest
they stop when `horizon` windows have ended after them. All that a learns in such a window waits, its own loss too:

    step  void  unread    counted  gradient  methods
    6     -     -         -        -         Ledger.send, as above
    7     0 1   0 1       -        -         Ledger.void_messages; then a's window 1 ends, and waits for this message without its graph. It
                                             does not wait for those of steps 4, 5 and 7, which no tick reads
    8     0 1   0 1       -        -         ForwardPass.as_read, as above
    11    0 1   0 1       -        -         a's window 2 ends: 1 and 2 wait, 2 for the message of step 10
    12    0 1   0 1       2 3      2 3       b's window ends, as above: the gradients of both messages are at a at 14
    14    0 1   0 1       2 3      2 3       Nothing is learned, as no window of a ends
    15    0 1   0 1       2 3      2 3       a's window 3 ends, and waits. Windows 1 and 2 are replayed with the present parameters; in two
                                             turns, 1 first, BackwardPass.collect_injections takes `Booked.gradient`, of this one in 2 and 3
    16    gone  gone      gone     gone      Ledger.send of a newer message deletes it
"""
