"""The long proofs under faults, with real processes: `python -m tests.faults`; not a part of `make test`."""
