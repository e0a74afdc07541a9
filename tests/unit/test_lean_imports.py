"""What the programs that run all the time do not load, for the memory that it would keep."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("room", ["runner_agent.app", "runner_agent.execution.actor", "control_plane.rooms"])
def test_a_program_that_runs_all_the_time_loads_nothing_that_colours_its_log(room: str) -> None:
    asked = f"import sys, {room}; print('rich' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert (told.stdout, told.stderr) == ("False\n", "")


def test_who_needs_colours_afterwards_still_gets_them() -> None:
    asked = (
        "import runner_agent.telemetry, control_plane.telemetry, rich.console; print(rich.console.Console().width > 0)"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert (told.stdout, told.stderr) == ("True\n", "")
