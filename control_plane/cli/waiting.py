"""Wait until a run is finished or settled, over restarts of the control plane."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.cli import contract
from control_plane.cli.client import Client
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode

# The longest that one call may wait, a little under the control plane's own limit.
CALL_S = 50.0
RETRY_S = 2.0


def reached(run: contract.run_pb2.Run, *, settled: bool) -> bool:
    return not run.is_active and (not settled or run.HasField("settled_at"))


def wait_for_run(
    client: Client,
    run: str,
    project: str,
    *,
    settled: bool = False,
    timeout_s: float | None = None,
    patient: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> contract.run_pb2.Run:
    """The run, once it is there or timeout_s has passed; the caller looks which.

    A patient caller, who has seen the control plane alive, outwaits its absence.
    """
    pb = contract.run_pb2
    end = None if timeout_s is None else client.clock.monotonic_s() + timeout_s
    request = pb.WaitRunRequest(
        run=run, project=project, wait_for=pb.WAIT_FOR_SETTLED if settled else pb.WAIT_FOR_FINISHED
    )
    while True:
        left = CALL_S if end is None else min(CALL_S, max(0.0, end - client.clock.monotonic_s()))
        request.timeout.FromNanoseconds(round(left * 1e9))
        try:
            found = client.call(client.runs.WaitRun, request, repeatable=True, deadline_s=left + 10)
        except CliError as error:
            if not patient or error.exit_code != ExitCode.UNAVAILABLE or stopped():
                raise
            client.clock.sleep(RETRY_S)
        else:
            patient = True
            # What @last meant at first is waited for, also when there is a newer run meanwhile.
            request.run, request.project = found.id, found.project_id
            if reached(found, settled=settled) or stopped():
                return found
        if end is not None and client.clock.monotonic_s() >= end:
            get = pb.GetRunRequest(run=request.run, project=request.project)
            return client.call(client.runs.GetRun, get, repeatable=True)
