"""Settings of the test process itself, made before anything imports grpc."""

from __future__ import annotations

import os

from hypothesis import settings

# As in the programs: grpcio's fork hooks disturb processes that are started while a stream is open.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# No clock decides whether a test passes; and a run in CI tries the same examples each time.
settings.register_profile("banksman", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("banksman")
