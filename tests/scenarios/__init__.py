"""Promises of the product, each shown with both programs as real processes."""
