"""What is made for an attempt before its fork, and what is left of it when it is not to be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner_agent.domain.assignment import Assignment, Command, EnvVar, Step, WorkspaceRemoval
from runner_agent.domain.exit_report import Outcome
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.execution.afterwards import judged
from runner_agent.execution.journal import Notes
from runner_agent.execution.preparation import prepare
from runner_agent.workspace.workspaces import Workspaces

KEY = AttemptKey(run_id=RunId("run"), lease_epoch=1)
NOTES = Notes(workspace_removal=WorkspaceRemoval.NEVER, workspace_keep_s=60)
UNKNOWN_SECRET = Assignment(
    key=KEY, steps=(Step(command=Command(argv=("true",))),), env=(EnvVar(name="TOKEN", secret_ref="gone"),)
)
UNKNOWN_SIGNAL = Assignment(key=KEY, steps=(Step(command=Command(argv=("true",))),), stop_signal="SIGNONE")


@pytest.mark.parametrize("assignment", [UNKNOWN_SECRET, UNKNOWN_SIGNAL], ids=["secret", "signal"])
@pytest.mark.parametrize("ahead", [True, False], ids=["by this agent", "by an earlier one"])
def test_a_workspace_that_was_made_ahead_is_not_kept_for_a_run_that_could_not_be_prepared(
    tmp_path: Path, assignment: Assignment, *, ahead: bool
) -> None:
    workspaces, directory = Workspaces(tmp_path), tmp_path / "runs" / "run.1"
    directory.mkdir(parents=True)
    workspaces.open()
    workspaces.make("run.1")
    report = prepare(directory, workspaces, assignment, NOTES, made=ahead)
    assert report is not None
    assert report.outcome is Outcome.START_FAILED
    told = judged(report, NOTES, workspaces.place("run.1").work)
    assert (told.workspace_path, told.workspace_kept_until_ns) == ("", None)
    assert list(workspaces.root.iterdir()) == []
