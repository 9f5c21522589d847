"""A batch's life, a module a step.

intake     a request opens a batch
prepare    its texts are fetched
pairs      an iteration of comparisons is planned, or the batch has enough
submit     comparisons are sent to the provider
answers    callbacks are recorded, and the batch is moved on
score      scores, ranks and the closing events are written
monitor    whatever waits too long is asked again, scored or failed
sweep      bells that were lost are rung again

A step gets what it needs as arguments, changes the database only inside `runtime.database.transaction()`,
and returns the bells that its caller rings after the commit.
"""
