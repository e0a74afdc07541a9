"""What a run, a list and a log byte cost, counted and not timed: the same numbers on every machine."""
