"""The runner agent: takes offers, runs attempts on this host and proves how they ended."""

import os

# grpcio must see this before its first import: otherwise its fork hooks crash children of a process that streams.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Its own notices ("Got goaway", …) do not belong into the agent's log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
