"""Runners take what suits them, leave in order, and come back; nobody gets in without a credential."""

from __future__ import annotations

import signal
import sys

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2, run_pb2, runner_pb2, system_pb2, task_pb2

from tests.scenarios.children import PAUSE, STUBBORN, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.program import Program
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

TRUE = ("/bin/true",)


def test_labels_and_names_choose_the_runner(house: House) -> None:
    house.agent("red", labels={"colour": "red", "os": "linux"})
    house.agent("blue", labels={"colour": "blue", "os": "linux"})
    for colour in ("red", "blue", "red"):
        assert house.execute(spec(TRUE, labels={"colour": colour})).attempts[0].runner_name == colour
    for name in ("blue", "red"):
        assert house.execute(spec(TRUE, labels={"os": "linux"}, runner=name)).attempts[0].runner_name == name


def test_a_run_that_suits_nobody_waits_and_says_why(shared: House) -> None:
    run = shared.submit(spec(TRUE, labels={"gpu": "yes"}))
    wait_for(lambda: "gpu" in shared.get(run.id).waiting_because, what="the run says why it waits")
    shared.cancel(run.id)


def test_no_more_runs_at_once_than_slots(house: House) -> None:
    house.agent("r1", slots=2)
    tally, arrived, gate = house.root / "tally", house.fifo("arrived"), house.fifo("gate")
    runs = [house.submit(spec(python(PAUSE, tally, arrived.path, gate.path))).id for _ in range(3)]
    arrived.receive(), arrived.receive()
    states = sorted(house.get(run).state for run in runs)
    assert states == [run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_RUNNING]
    assert len(lines(tally)) == 2
    gate.send()
    arrived.receive()
    gate.send(2)
    assert {house.wait(run).state for run in runs} == {run_pb2.RUN_STATE_SUCCEEDED}


def test_higher_priority_runs_first(house: House) -> None:
    tally = house.root / "tally"
    word = ["/bin/sh", "-c", 'echo "$1" >> "$2"', "sh"]
    low = house.submit(spec([*word, "low", str(tally)], priority=-5))
    high = house.submit(spec([*word, "high", str(tally)], priority=5))
    house.agent("r1", slots=1)
    house.wait(low.id), house.wait(high.id)
    assert lines(tally) == ["high", "low"]


def test_a_drained_runner_takes_nothing_until_it_is_resumed(house: House) -> None:
    house.agent("r1")
    house.doors.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="r1"))
    run = house.submit(spec(TRUE))
    wait_for(lambda: "drain" in house.get(run.id).waiting_because, what="the run says why it waits")
    house.doors.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner="r1"))
    assert house.wait(run.id).state == run_pb2.RUN_STATE_SUCCEEDED


def test_sigterm_finishes_what_runs_takes_no_more_and_exits_well(house: House) -> None:
    agent = house.agent("r1")
    arrived, gate = house.fifo("arrived"), house.fifo("gate")
    first = house.submit(spec(python(PAUSE, house.root / "tally", arrived.path, gate.path)))
    arrived.receive()
    agent.send(signal.SIGTERM)
    wait_for(lambda: (runner := agent.runner()) and runner.draining, what="the server knows that r1 drains")
    second = house.submit(spec(TRUE))
    gate.send()
    assert house.wait(first.id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert agent.wait() == 0
    assert house.get(second.id).state == run_pb2.RUN_STATE_QUEUED
    agent.connect()
    assert house.wait(second.id).state == run_pb2.RUN_STATE_SUCCEEDED


def test_an_idle_agent_exits_at_once_on_sigterm(house: House) -> None:
    agent = house.agent("r1")
    assert agent.stop() == 0
    wait_for(lambda: (runner := agent.runner()) and not runner.connected, what="the server sees that r1 is away")


def test_a_second_sigterm_stops_what_runs(house: House) -> None:
    agent = house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.2)))
    arrived.receive(), arrived.receive()
    agent.send(signal.SIGTERM)
    wait_for(lambda: (runner := agent.runner()) and runner.draining, what="the server knows that r1 drains")
    agent.send(signal.SIGTERM)
    done = house.wait(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_RUNNER_SHUTDOWN)
    assert done.kill_confirmed
    assert not locked(lock)
    agent.wait()


def test_an_agent_finds_its_way_back_when_the_server_was_away(house: House) -> None:
    agent = house.agent("r1")
    house.server.kill_dash_nine()
    house.start_server()
    agent.wait_connected()
    assert house.execute(spec(TRUE)).state == run_pb2.RUN_STATE_SUCCEEDED


def test_a_revoked_runner_is_shut_out(house: House) -> None:
    agent = house.agent("r1")
    house.doors.runners.RevokeRunner(runner_pb2.RevokeRunnerRequest(runner="r1"))
    wait_for(lambda: (runner := agent.runner()) and not runner.connected, what="its session is closed")
    run = house.submit(spec(TRUE))
    house.agent("r2")
    assert house.wait(run.id).attempts[0].runner_name == "r2"
    runner = agent.runner()
    assert runner is not None
    assert runner.HasField("revoked_at")
    assert not runner.connected


def test_a_join_token_works_once(house: House) -> None:
    first = house.agent("r1")
    token = first.argv[first.argv.index("--join-token-file") + 1]
    argv = [sys.executable, "-m", "runner_agent", "run", "--state-dir", str(house.root / "other")]
    argv += ["--server", house.admin.url, "--join-token-file", token, "--name", "r2"]
    thief = Program("thief", argv, house.root)
    thief.start()
    assert thief.wait() != 0
    assert "join token" in thief.said()


def test_labels_outside_the_grant_are_refused(house: House) -> None:
    token = house.join_token(granted_labels={"os": "linux"})
    argv = [sys.executable, "-m", "runner_agent", "run", "--state-dir", str(house.root / "other")]
    argv += ["--server", house.admin.url, "--join-token-file", str(token), "--name", "r2", "--label", "secure=yes"]
    claimant = Program("claimant", argv, house.root)
    claimant.start()
    assert claimant.wait() != 0
    assert "secure" in claimant.said()


def test_a_call_without_a_token_or_with_a_wrong_one_is_unauthenticated(shared: House) -> None:
    for token in (None, "bnk_user_wrong", "x"):
        client = shared.client(token)
        with pytest.raises(grpc.RpcError) as refused:
            client.system.GetStatus(system_pb2.GetStatusRequest())
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_revoked_token_stops_working(shared: House) -> None:
    made = shared.doors.access.CreateToken(access_pb2.CreateTokenRequest(note="short"))
    client = shared.client(made.secret)
    assert client.access.WhoAmI(access_pb2.WhoAmIRequest()).admin
    shared.doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=made.token.id))
    with pytest.raises(grpc.RpcError) as refused:
        client.access.WhoAmI(access_pb2.WhoAmIRequest())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_principal_reaches_only_its_projects(shared: House) -> None:
    shared.doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="theirs")))
    wanted = access_pb2.Principal(name="them", kind=access_pb2.PRINCIPAL_KIND_SERVICE, project_ids=["theirs"])
    shared.doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=wanted))
    secret = shared.doors.access.CreateToken(access_pb2.CreateTokenRequest(principal="them")).secret
    client = shared.client(secret)
    ours = shared.execute(spec(TRUE))
    for call in (
        lambda: client.runs.GetRun(run_pb2.GetRunRequest(run=ours.id)),
        lambda: client.runs.CancelRun(run_pb2.CancelRunRequest(run=ours.id)),
        lambda: client.tasks.ListTasks(task_pb2.ListTasksRequest(project="default")),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
    theirs = client.runs.CreateRun(run_pb2.CreateRunRequest(project="theirs", spec=spec(TRUE)))
    assert theirs.trigger_type == run_pb2.TRIGGER_TYPE_API
    assert shared.wait(theirs.id).state == run_pb2.RUN_STATE_SUCCEEDED


def test_two_instances_side_by_side_do_not_meet(house: House) -> None:
    with House() as other:
        house.agent("r1"), other.agent("r1")
        mine, theirs = house.execute(spec(["/bin/echo", "mine"])), other.execute(spec(["/bin/echo", "theirs"]))
        assert house.log(mine.id) == b"mine\n"
        assert other.log(theirs.id) == b"theirs\n"
        with pytest.raises(grpc.RpcError) as refused:
            house.get(theirs.id)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_state_directory_serves_one_server_at_a_time(house: House) -> None:
    second = Program("second", [*house.server.argv[:-1], "127.0.0.1:0"], house.root)
    second.start()
    assert second.wait() != 0
    assert str(house.server_directory) in second.said()
    assert house.doors.system.GetStatus(system_pb2.GetStatusRequest()).runs_active == 0


def test_signals_that_come_while_an_agent_leaves_do_not_kill_it(house: House) -> None:
    agent = house.agent("r1")

    def left() -> bool:
        for _ in range(200):
            agent.send(signal.SIGTERM)
        return not agent.running

    wait_for(left, what="the agent leaves")
    assert agent.wait() == 0


def test_signals_that_come_while_the_server_stops_do_not_kill_it(house: House) -> None:
    house.server.send(signal.SIGTERM)

    def left() -> bool:
        for _ in range(200):
            house.server.send(signal.SIGTERM)
        return not house.server.running

    wait_for(left, what="the server stops")
    assert house.server.wait() == 0
