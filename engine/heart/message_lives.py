"""The life of a message, by methods, then in real numbers, which a test computes; no code is here (rules 17 and 18).

By the methods that change or read it, in the order in which they are called first:

    Ledger.send                     enters it, with its `ReadPlan`: which ticks and windows will read it
    Ledger.receive                  whether a tick of the receiver reads it (`ReadPlan.ticks`), and its `Arrival`: what
                                    has come, and where a read may count. Where messages may be lost,
                                    `HeldMessages.arrival` makes that of the newest
    StandIns.stand_in               the same, where a synthetic input stands in for it
    ForwardPass.as_read             what of it is differentiated: a `CountedRead`, with the rows in which it counts,
                                    `WithGraph` or `Constant`
    Ledger.void_messages            voids it in the environments whose episode has ended
    LateWindows.choose_windows      whether its sender's window, if that waits, is learned from: it asks
                                    `Message.return_state`
    BackwardPass.collect_injections injects its credit, where its sender's window is learned from
    BackwardPass.book               books the gradient of a `CountedRead`, as the reader's window is learned from
    Channel.as_returned             what returns of it: all in the rows in which the read counts, and nothing in others
    Message.close_sender_window     lets it be deleted: its sender's window has been learned from or skipped
    Ledger.close_reader_window      closes a window of the receiver; as the last one closes, `Ledger.finish` looks up
                                    whether a gradient returns
    Ledger.pop_messages_back        gives it to the training of predictors, `return_delay` steps later; `Booked` has the
                                    gradient until it is deleted
    Ledger.delete_spent             deletes it at a step at which a later one is sent, once agents have ticked
                                    (`delete_spent_messages` in step.py), if nothing will read it or inject into it;
                                    `Ledger.finish` has deleted it already where its values are freed

In numbers: agent a ticks at every step and learns from windows of 4 ticks: its window 1 has the ticks of steps 4 to 7.
Agent b ticks at every 4th step and learns from windows of 2 ticks: its window 1 has the ticks of steps 8 and 12, and
ends at step 12. Both have an objective. The channels a->b and b->a are decoupled and take 2 steps, for messages and for
gradients. There are B = 4 environments, and at step 7 the episode ends in environments 0 and 1. The columns list the
environments in which the message is void (`Fate.void`), became void before any tick read it (`Fate.void_unread`), has a
read that counted (`Booked.rows`), and has a booked gradient (`Booked.gradient`). The message of a->b that a sends at
step 6, which one window reads after the end:

    step  void  void_unread  counted  gradient  methods
    6     -     -            -        -         Ledger.send: the first tick that reads it is 8 = 6 + 2, in window 1 of b
    7     0 1   0 1          -        -         Ledger.void_messages; then a's window ends:
                                                BackwardPass.collect_injections injects in 2 and 3
    8     0 1   0 1          -        -         ForwardPass.as_read: one CountedRead, of zeros in 0 and 1; it counts in
                                                2 and 3
    12    0 1   0 1          2 3      2 3       b's window ends: Booked.add_read, Ledger.close_reader_window; the gradient is
                                                at a at 14 = 12 + 2
    14    0 1   0 1          2 3      2 3       Ledger.pop_messages_back: the predictor of a->b learns from 2 and 3, and
                                                a does not learn again
    15    gone  gone         gone     gone      Ledger.delete_spent, as a newer message has been sent

Nothing returns for the messages of steps 3, 4 and 5: when b ticks at step 8, that of step 6 has replaced them. Nor for
that of step 7: when b ticks at step 12, that of step 10 has replaced it. Those of 5 and 7 are gone at 8 and 10. Had the
episode ended at step 9, after the tick that reads the message, it would be void in 0 and 1 from then on, but
`void_unread` nowhere, and counted in all four environments. Had it ended at step 6 itself, the message would be void
there from its sending on, and all else the same; at step 5 the message would be of the next episode, and void nowhere
(`Timetable.is_cut`).

The message of b->a that b sends at step 4, which two windows read, one before the end and one after it:

    step  void  void_unread  counted  gradient  methods
    4     -     -            -        -         Ledger.send: the ticks of steps 6 to 9 read it, in windows 1 and 2 of a;
                                                then b's window 0 ends: BackwardPass.collect_injections injects in all
                                                four; the later end changes nothing of it
    6     -     -            -        -         ForwardPass.as_read: a reads it through a CountedRead in all four, as at
                                                step 7
    7     0 1   -            0 1 2 3  0 1 2 3   Ledger.void_messages; then a's window 1 ends: what was read before the
                                                end counts
    8     0 1   -            0 1 2 3  0 1 2 3   ForwardPass.as_read: a CountedRead of this tick, of zeros in 0 and 1; it
                                                counts in 2 and 3
    11    0 1   -            0 1 2 3  0 1 2 3   a's window 2 ends: Booked.add_read adds to the gradient in 2 and 3
                                                alone; it is at b at 13
    13    0 1   -            0 1 2 3  0 1 2 3   Ledger.pop_messages_back: the predictor of b->a learns from all four
    16    gone  gone         gone     gone      Ledger.delete_spent, as a newer message has been sent

The first message again, where a->b is `delayed`. Each time a window of a ends, `LateWindows.choose_windows` asks which
windows of a wait: this one, and those that waited before. A window waits for a message that it sent to another group if
a read of it may be booked (`ReadPlan.is_bookable`), until the gradient has reached a (`Message.return_state`). All that
a learns in the window waits, also its own loss. A newer window that waits for nothing overtakes it: with windows of one
tick, that of step 7 would be learned from at step 7, and that of step 6 at step 14. A window waits no longer when
`horizon` windows of a have ended after it and it would still wait: then a learns from it without credit for any of its
messages of a->b. With `horizon: 1` window 1 is given up so at step 11. With `horizon: 2` all is as below: at step 15,
when two have ended after it, the gradient is back, and injected.

    step  void  void_unread  counted  gradient  methods
    6     -     -            -        -         Ledger.send, as above
    7     0 1   0 1          -        -         a's window 1 ends, and waits for this message, not for those of steps 4,
                                                5 and 7, which no tick reads; its graph is freed
    11    0 1   0 1          -        -         a's window 2 ends: 1 and 2 wait, 2 for the message of step 10
    12    0 1   0 1          2 3      2 3       b's window ends, as above: the gradients of both messages are at a at 14
    14    0 1   0 1          2 3      2 3       Nothing is learned, as no window of a ends
    15    0 1   0 1          2 3      2 3       a's window 3 ends, and waits. Windows 1 and 2 have a turn each, 1 first:
                                                it is replayed with the present parameters, and
                                                BackwardPass.collect_injections takes `Booked.gradient`, of this message
                                                in 2 and 3
    16    gone  gone         gone     gone      Ledger.delete_spent, as a newer message has been sent; those of steps 5
                                                and 7 too, which no tick reads: their window waited, and could inject
                                                (`Message.sender_window_open`)

The first message again, where a->b is `locked`. Then a and b are one group, with windows of 8 steps, the least that
windows of 4 and of 8 divide (engine/build/learning_groups.py): those of steps 0 to 7 and 8 to 15. What crosses the end
of a window has no credit:

    step  void  void_unread  counted  gradient  methods
    6     -     -            -        -         Ledger.send: by its plan, a read in window 1 may be booked; `Locked` has
                                                none that counts
    7     0 1   0 1          -        -         window 0 ends: `Locked` has no `credit`, and nothing is injected
    8     0 1   0 1          -        -         ForwardPass.as_read: one Constant, of zeros in 0 and 1, as the message
                                                is of window 0
    15    0 1   0 1          -        -         window 1 ends: Ledger.close_reader_window; it is finished, and nothing is
                                                booked
    16    gone  gone         gone     gone      Ledger.delete_spent, as a newer message has been sent; those of steps 5
                                                and 7 at 8 and 10

The message of step 10 there, which is read in the window that sent it. Had the episode ended at step 11, b would read
zeros in 0 and 1, and no gradient would come back there; after step 12 an end changes nothing of what was read.

    step  void  void_unread  counted  gradient  methods
    10    -     -            -        -         Ledger.send, as above
    12    -     -            -        -         ForwardPass.as_read: one WithGraph
    15    -     -            -        -         window 1 ends: one backward pass goes from b's losses through the
                                                message to a; nothing is booked
    16    gone  gone         gone     gone      Ledger.delete_spent, as a newer message has been sent
"""
