"""The contract's modules, imported when one is first touched, so that help and completion scripts need no gRPC."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from banksman.v1 import access_pb2 as access_pb2
    from banksman.v1 import access_pb2_grpc as access_pb2_grpc
    from banksman.v1 import artifact_pb2 as artifact_pb2
    from banksman.v1 import audit_pb2 as audit_pb2
    from banksman.v1 import audit_pb2_grpc as audit_pb2_grpc
    from banksman.v1 import limit_pb2 as limit_pb2
    from banksman.v1 import log_pb2 as log_pb2
    from banksman.v1 import log_pb2_grpc as log_pb2_grpc
    from banksman.v1 import notification_pb2 as notification_pb2
    from banksman.v1 import notification_pb2_grpc as notification_pb2_grpc
    from banksman.v1 import project_pb2 as project_pb2
    from banksman.v1 import project_pb2_grpc as project_pb2_grpc
    from banksman.v1 import report_pb2 as report_pb2
    from banksman.v1 import report_pb2_grpc as report_pb2_grpc
    from banksman.v1 import run_pb2 as run_pb2
    from banksman.v1 import run_pb2_grpc as run_pb2_grpc
    from banksman.v1 import runner_pb2 as runner_pb2
    from banksman.v1 import runner_pb2_grpc as runner_pb2_grpc
    from banksman.v1 import schedule_pb2 as schedule_pb2
    from banksman.v1 import schedule_pb2_grpc as schedule_pb2_grpc
    from banksman.v1 import secret_pb2 as secret_pb2
    from banksman.v1 import secret_pb2_grpc as secret_pb2_grpc
    from banksman.v1 import spec_pb2 as spec_pb2
    from banksman.v1 import system_pb2 as system_pb2
    from banksman.v1 import system_pb2_grpc as system_pb2_grpc
    from banksman.v1 import task_pb2 as task_pb2
    from banksman.v1 import task_pb2_grpc as task_pb2_grpc
    from banksman.v1 import template_pb2 as template_pb2
    from banksman.v1 import template_pb2_grpc as template_pb2_grpc
else:

    def __getattr__(name: str) -> object:
        if name.endswith(("_pb2", "_pb2_grpc")):
            return importlib.import_module(f"banksman.v1.{name}")
        raise AttributeError(f"the contract has no module {name}")
