"""Attempts on this host: what is wanted against what lives, and the links to the shims."""
