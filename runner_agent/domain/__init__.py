"""What the agent decides, without I/O and without a clock: `(state, event, now) -> (state, outputs)`."""
