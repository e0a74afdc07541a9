"""Measures the product against a bare floor in the same run: `python -m tests.bench [--quick]`."""
