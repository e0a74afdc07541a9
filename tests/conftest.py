"""Settings of the test process itself, made before anything imports grpc."""

from __future__ import annotations

import os

# As in the programs: grpcio's fork hooks disturb processes that are started while a stream is open.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
