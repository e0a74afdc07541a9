"""Seeded bugs: one line of the product is changed, and a scenario, the simulation or a history check must notice."""
