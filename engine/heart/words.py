"""The words and masks of the heart, each of which has one meaning; there is no code here.

    tick                one evaluation of an agent's network, kept as a `Tick`; the agent *ticks* at that step
    end                 the last step of a window or of an episode
    output              a message as its sender computes it, with its graph: rows of a port, or a sample
                        (`Window.outputs_with_graph`)
    state               what a recurrent agent sends to its own next tick; what a checkpoint has is a *saved state*
    stamp               the step at which a message was sent
    due                 a message is due at a tick that a perfect link would have brought it to. A tick reads the newest
                        that is due, or several (read mode)
    held                a receiver holds the newest message that has arrived, to read it where a due one is lost, or to
                        condition a synthetic input on it
    void                a message is void where ticks read it as zeros: `Fate.void`, below
    read                a tick takes a message, or what stands in for it, as input: as a `CountedRead`, `WithGraph` or
                        `Constant`
    learner             the network, parameters and optimiser of an agent, which tied agents share; its name is that of
                        its first agent
    learn               an agent learns from a window in the rows whose gradient moves it:
                        `Window.learning_rows_by_agent`, below
    count               a read counts where it takes the due message, or a synthetic input in its place, and its agent
                        learns from the window
    window              begins with its first tick, and ends at a step of its `WindowGrid`: its group pops it. Then it
                        is learned from, or skipped, as one without a tick is. After that it closes in the ledgers that
                        it reads
    book                as the reader's window is learned from, add a read to `Message.booked` (`BackwardPass.book`):
                        where it counts, and its gradient there, if the ledger `returns_gradients`
    waits               after its end, a window waits until the gradients of what it sent are back (`delayed`) or given
                        up (`horizon`), by the rule of late_windows.py. A group `waits` if its windows may
    turn                a part of a step: its windows are differentiated together and booked, before the next turn
                        (`LearningOrder`)
    swept               differentiated as soon as its group has ticked, before all turns (features/sweep.py); its turn
                        takes up the result
    point               where the step calls features: a method of `Feature`
    finished            a message is finished when the last window that may read it has closed (`Message.finished_at`):
                        no more is booked for it. Until then it is open. It is finished as it is sent, if no read may be
                        booked
    back, returned      what was booked is back, and called returned, `return_delay` steps after its message was
                        finished: it has reached the sender (`Message.back_at`, `Message.return_state`)
    loss                of each environment: [rows]; what is differentiated is its mean, the sum divided by B
    prediction          what a synthetic gradient gives for a sent message: its target is the returned gradient, or a
                        signal (`local`)
    applied prediction  the prediction behind its gate, mixed with the gradient booked at the same step
                        (`gradient.trace`)
    credit              the gradient from which the sender learns about a message: the applied prediction, shortened
                        (`clip`), or the returned gradient (`delayed`). A feature at the point `replace_credit` may give
                        another, unshortened
    injection           what the sender's backward pass adds at the output: the credit, but zeros where the sender does
                        not learn, or the message was void before a tick read it

Masks of a message, in its rows. Where nothing is lost, no episode ends and all learn, they are `NONE` and `ALL`:

    mask                 where it holds
    Fate.lost            the link lost the message
    Fate.void            it is read as zeros: its episode has ended since; or, as it was sent, an endpoint was not
                         alive, or its mask signal was 0 or less
    Fate.void_unread     a read may be booked, but it became void before any tick read it
    Fate.void_as_sent    it was void as it was sent: nothing crossed the link
    Message.sent_rows    the other rows: it was sent, and perhaps lost
    Message.missing      it is lost, or void by now
    Message.creditable   its sender may have credit: a read may be booked, and it is not `void_unread`, which only
                         message.py and ledger.py name in the heart
    Arrival.available    a tick has a value to read: the due message, an older one that is held, or a synthetic input.
                         Elsewhere it reads zeros
    Arrival.synthetic    the value is a synthetic input
    Arrival.may_count    the value is the due message or a synthetic input, and not an older message
    CountedRead.counted  the read counts: the same, and the receiver learns from the window
    Booked.rows          something is booked: a read has counted, or a state was an episode's last
                         (`Booked.add_zero_rows`)
    Example.valid        a predictor learns from the message (`Channel.restrict_example`); a synthetic input from what
                         was not `missing`

Masks of what learns: two of an agent's rows, then those of members of a stack (`Mask[Members]`, on the host):

    mask                               set by                          where it holds
    Window.learning_rows_by_agent      `ForwardPass.begin_window`      the agent learns from the window
    Tick.learning_rows                 `ForwardPass.begin_tick`        the same, of the tick's agent
    Example.member_mask                `Channel.restrict_example`      the channel has this example
    Update.moving_members_by_learner   features; `Engine.move_agents`  its optimiser moves the member: a learning signal
                                                                       has reached it
    Update.resting_members_by_learner  features (`Update.rest`)        the member stays, although a learning signal has
                                                                       reached it
    PredictorUpdate.moving_members     `PredictorTrainer`              its optimiser moves the predictor: its channel
                                                                       has an example
    DivergenceCheck.unstopped_members  `DivergenceCheck`               the member's seed has not diverged: others do not
                                                                       move

Times are steps of the environment, from 0; messages to people number them from 1. A run has B environments, and [rows,
…] has a row for each (member of a stack, environment). Several seeds that run as one have B environments each, and a
signal is [seeds * B, …].

No autograd graph outlives the step at which its window is learned from, and none is ever stored: a fork, a checkpoint
and a window that waits are replayed from their ticks. A fork or checkpoint gives the bits of the first graph. A window
that waits is replayed with the present parameters, which may have moved since.
"""
