"""Histories: what runs, clients and the database say of the same time, and whether they agree."""
