"""Migrations: one file per change of the tables, run in order at start."""
