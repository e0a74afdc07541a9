"""The control plane: owns tasks, runs, schedules and logs."""

import os

# Before anything imports grpc: its fork handlers kill children that CPython starts by a real fork().
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
