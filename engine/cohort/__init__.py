"""The cohort backend: agents that are alike, run as one.

Agents of one kind form a *cohort*, channels of one kind between two cohorts a *bundle*. A cohort is run by the code of
the reference backend as a single agent whose rows are (member, environment): ledgers, tapes and masks are the same, with
more rows. Only where parameters meet rows the members are told apart, by batched products on stacked parameters.
What has no second of its kind, or cannot be stacked, is run as itself beside them.

likeness (who is alike), parts (cohorts and bundles), lift (making them), mailbox (what a cohort reads), ticking,
teaching, backend; exchange (to the per-agent system that everybody else sees, and back), told (what was learned, by agent)
"""
