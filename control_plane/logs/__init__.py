"""Logs: taking them in, keeping them, and reading them again from any offset."""
