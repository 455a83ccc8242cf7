"""Updates of several runs computed at once, with the numbers that each run's own update would have.

    for each run k: begin its iteration                        (advantages, targets, schedules: its own)
    for each epoch, for each mini-batch:
        evaluate the networks of every run on its own entries  (the networks' kernels: one run after another)
        one loss of all runs' decisions, one differentiation
        clip and step each run's parameters
    for each run k: end its iteration

Everything but the networks is computed on the rows of all runs together. Operations on small mini-batches take their
fixed time however many rows they have, so that K runs cost little more than one there. Sums that parameters depend on
are taken within a run, in the order in which the run alone would take them.
"""
