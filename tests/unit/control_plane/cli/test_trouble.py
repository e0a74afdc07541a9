"""What an operator sees and does when a runner is away, and small things that are looked up in a hurry."""

from __future__ import annotations

import grpc
from banksman.v1 import access_pb2, run_pb2, runner_pb2, schedule_pb2, session_pb2, spec_pb2, task_pb2

from control_plane.cli.runners import question_of
from tests.unit.control_plane.cli.console import banksman
from tests.unit.fake_channel import Refusal

RUNNER = runner_pb2.Runner(id="r1", name="host", connected=True)


def test_a_runner_shows_its_disk_and_what_is_wrong_with_it() -> None:
    runner = runner_pb2.Runner(
        name="host", session_epoch=7, state_directory_id="d1", unknown_run_ids=["u1"], warnings=["no cgroup"]
    )
    runner.attempts.add(run_id="a1", state=run_pb2.ATTEMPT_STATE_RUNNING, phase=session_pb2.HELD_PHASE_RUNNING)
    runner.attempts.add(run_id="a2", state=run_pb2.ATTEMPT_STATE_STARTING, missing=True)
    runner.attempts.add(run_id="a3", state=run_pb2.ATTEMPT_STATE_LOST, phase=session_pb2.HELD_PHASE_EXITED)
    quarantined = runner.attempts.add(run_id="a4", state=run_pb2.ATTEMPT_STATE_RUNNING, message="exit: no record")
    quarantined.phase = session_pb2.HELD_PHASE_QUARANTINED
    runner.clone_alarms.add(message="Two hosts use this identity.")
    outcome = banksman("runner", "get", "host", script=[("GetRunner", runner)])
    for line in (
        "state\tdisconnected",
        "session\t7 (over)",
        "state directory id\td1",
        "holds\ta1 RUNNING",
        "holds\ta2 STARTING (not listed by it)",
        "holds\ta3 LOST (the end of its log is still there)",
        "quarantined\ta4 RUNNING: exit: no record",
        "unknown run\tu1: it lists it, and nobody here knows it",
        "alarm\tTwo hosts use this identity.",
    ):
        assert line in outcome.stdout.splitlines()
    assert "warning: no cgroup" in outcome.stderr


def test_marking_a_runner_lost_says_what_became_of_its_runs() -> None:
    runner = runner_pb2.Runner(id="r1", name="host", held_run_ids=["a1", "a2"])
    marked = runner_pb2.MarkRunnerLostResponse(runner=runner, lost_run_ids=["a1"], queued_run_ids=["a2"], sealed_logs=2)
    outcome = banksman(
        *["runner", "mark-lost", "host", "--host-is-dead", "--note", "burned", "--yes"],
        script=[("GetRunner", runner), ("MarkRunnerLost", marked)],
    )
    assert outcome.exit_code == 0
    wanted = runner_pb2.MarkRunnerLostRequest(runner="r1", host_is_dead=True, note="burned")
    assert outcome.calls[1].request == wanted
    assert "host is marked lost: 1 lost, 1 in the queue again; 2 logs closed" in outcome.stderr
    assert outcome.stdout == "lost\ta1\nin the queue again\ta2\n"
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "Runner host is connected.")
    refused = banksman("runner", "mark-lost", "host", script=[("GetRunner", runner), ("MarkRunnerLost", refusal)])
    assert refused.exit_code == 6
    nothing = banksman(
        *["runner", "mark-lost", "host", "-o", "name"],
        script=[("GetRunner", RUNNER), ("MarkRunnerLost", runner_pb2.MarkRunnerLostResponse(runner=RUNNER))],
    )
    assert "it held no live attempt" in nothing.stderr
    assert nothing.stdout == "host\n"


def test_the_question_before_a_mark_names_how_many_it_is_about() -> None:
    runner = runner_pb2.Runner(name="host", held_run_ids=[f"run-{number}" for number in range(7)])
    runner.attempts.add(run_id="run-0")
    runner.attempts.add(run_id="run-1", log_sealed=True)
    away = question_of(runner, host_is_dead=False)
    assert away.startswith("Mark runner host lost? 7 live attempts (run-0, run-1, run-2, run-3, run-4, …): given up")
    assert "1 log closed with what is here" in question_of(runner, host_is_dead=True)
    assert "0 live attempts: given up" in question_of(runner_pb2.Runner(name="host"), host_is_dead=False)


def test_a_cron_line_needs_no_option_to_be_looked_at() -> None:
    answer = schedule_pb2.PreviewScheduleResponse(time_zone="UTC")
    for words in (("0 3 * * 1", "--tz", "Europe/Berlin"), ("--cron", "0 3 * * 1", "--tz", "Europe/Berlin")):
        outcome = banksman("schedule", "next", *words, script=[("PreviewSchedule", answer)])
        assert outcome.calls[0].request.draft.cron == "0 3 * * 1"
        assert outcome.calls[0].request.draft.time_zone == "Europe/Berlin"
    assert banksman("schedule", "next", "@daily", script=[("PreviewSchedule", answer)]).calls[0].request.draft.cron
    named = banksman("schedule", "next", "nightly", script=[("PreviewSchedule", answer)])
    assert named.calls[0].request.schedule == "nightly"


def test_a_task_shows_its_environment_and_what_happens_after_a_bad_end() -> None:
    task = task_pb2.Task(name="build")
    task.spec.env.add(name="STAGE", value="a b")
    task.spec.env.add(name="KEY", secret_ref="DEPLOY")
    task.spec.retry.max_attempts = 3
    task.spec.retry.backoff.FromSeconds(10)
    task.spec.retry.retry_on.append("failed")
    task.spec.loss.on_lost = spec_pb2.ON_LOST_RETRY
    task.spec.loss.lost_after.FromSeconds(600)
    shown = banksman("task", "get", "build", script=[("GetTask", task)]).stdout.splitlines()
    assert "env\tSTAGE='a b' KEY=secret:DEPLOY" in shown
    assert "retry\tup to 3 attempts, after 10s (failed)" in shown
    assert "if its runner is lost\tretry after 10m" in shown


def test_a_principal_is_changed_only_in_what_was_named() -> None:
    made = access_pb2.Principal(id="p9", name="ci")
    script = [("UpdatePrincipal", made)]
    granted = banksman("principal", "update", "ci", "--grant-project", "web", "--no-admin", script=script)
    wanted = access_pb2.UpdatePrincipalRequest(principal=access_pb2.Principal(name="ci", project_ids=["web"]))
    wanted.update_mask.paths.extend(["admin", "project_ids"])
    assert granted.calls[0].request == wanted
    off = banksman("principal", "update", "ci", "--disable", script=script).calls[0].request
    assert off == access_pb2.UpdatePrincipalRequest(principal=access_pb2.Principal(name="ci"), disabled=True)
    renamed = banksman("principal", "update", "ci", "--name", "cd", script=script).calls[0].request
    assert renamed == access_pb2.UpdatePrincipalRequest(principal=access_pb2.Principal(name="ci"), new_name="cd")
    assert banksman("principal", "update", "ci").exit_code == 2
    assert banksman("principal", "update", "ci", "--no-projects", "--grant-project", "web").exit_code == 2
