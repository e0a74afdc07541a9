"""What a read costs: so many statements, however many rows it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from banksman.v1 import access_pb2, log_pb2, project_pb2, run_pb2, runner_pb2, schedule_pb2, secret_pb2, task_pb2

from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.shape.house import CountingHouse

FEW, MANY = 3, 12
# The most that each call may take; the others take one.
STATEMENTS = {
    "ListRuns by task": 3,
    "ListRuns by filter": 5,
    "ListRunEvents": 2,
    "ListRunners": 2,
    "GetRun": 4,
    "GetTask": 3,
    "ReadLogs": 3,
}

Call = Callable[[House, int], Any]
LISTS: dict[str, Call] = {
    "ListRuns": lambda house, size: house.doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=size)),
    "ListRuns by state": lambda house, size: house.doors.runs.ListRuns(
        run_pb2.ListRunsRequest(page_size=size, states=[run_pb2.RUN_STATE_SUCCEEDED])
    ),
    "ListRuns by task": lambda house, size: house.doors.runs.ListRuns(
        run_pb2.ListRunsRequest(page_size=size, task="task 0")
    ),
    "ListRuns by filter": lambda house, size: house.doors.runs.ListRuns(
        run_pb2.ListRunsRequest(
            page_size=size, filter='state = SUCCEEDED AND label.kind = "x"', include_total_size=True
        )
    ),
    "ListRunEvents": lambda house, size: house.doors.runs.ListRunEvents(
        run_pb2.ListRunEventsRequest(run=newest(house), page_size=size)
    ),
    "ListTasks": lambda house, size: house.doors.tasks.ListTasks(task_pb2.ListTasksRequest(page_size=size)),
    "ListSchedules": lambda house, size: house.doors.schedules.ListSchedules(
        schedule_pb2.ListSchedulesRequest(page_size=size)
    ),
    "ListSecrets": lambda house, size: house.doors.secrets.ListSecrets(secret_pb2.ListSecretsRequest(page_size=size)),
    "ListProjects": lambda house, size: house.doors.projects.ListProjects(
        project_pb2.ListProjectsRequest(page_size=size)
    ),
    "ListTokens": lambda house, size: house.doors.access.ListTokens(access_pb2.ListTokensRequest(page_size=size)),
    "ListRunners": lambda house, size: house.doors.runners.ListRunners(
        runner_pb2.ListRunnersRequest(page_size=size, include_revoked=True)
    ),
    "ListJoinTokens": lambda house, size: house.doors.runners.ListJoinTokens(
        runner_pb2.ListJoinTokensRequest(page_size=size)
    ),
}
GETS: dict[str, Callable[[House], Any]] = {
    "GetRun": lambda house: house.get(newest(house)),
    "GetTask": lambda house: house.doors.tasks.GetTask(task_pb2.GetTaskRequest(task="task 1")),
    "ReadLogs": lambda house: list(house.doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=newest(house)))),
}
NEWEST: dict[House, str] = {}


def newest(house: House) -> str:
    return NEWEST[house]


@pytest.fixture(scope="module")
def house() -> Iterator[CountingHouse]:
    """Twelve of each thing."""
    with CountingHouse() as made:
        made.agent("a", slots=4)
        for number in range(MANY):
            task = task_pb2.Task(name=f"task {number}", spec=spec(["/bin/true"]))
            made.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))
            schedule = schedule_pb2.Schedule(name=f"s {number}", task_id=f"task {number}", every=seconds(86_400))
            made.doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=schedule))
            made.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name=f"S{number}", value=b"a secret value"))
            project = project_pb2.Project(name=f"p{number}")
            made.doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project))
            made.doors.access.CreateToken(access_pb2.CreateTokenRequest(note="one more"))
            made.join_token()
        runs = [made.doors.runs.CreateRun(run_pb2.CreateRunRequest(task="task 0")).id for _ in range(MANY)]
        runs += [made.submit(spec(["/bin/true"])).id for _ in range(MANY)]
        for run in runs:
            made.wait(run)
        NEWEST[made] = runs[-1]
        yield made


def statements(house: CountingHouse, call: Callable[[], Any]) -> dict[str, int]:
    """By the call that asked, the least of three: what is due once a minute may come with one of them."""
    tries = []
    for _ in range(3):
        with house.counting() as found:
            call()
        tries.append({name: number for name, number in found.items() if name.startswith("query ")})
    return min(tries, key=lambda found: sum(found.values()))


@pytest.mark.parametrize("name", LISTS)
def test_a_list_takes_as_many_statements_for_few_rows_as_for_many(house: CountingHouse, name: str) -> None:
    few = statements(house, lambda: LISTS[name](house, FEW))
    many = statements(house, lambda: LISTS[name](house, MANY))
    method = f"query {name.partition(' ')[0]}"
    assert 1 <= many[method] <= STATEMENTS.get(name, 1)
    assert many == few


@pytest.mark.parametrize("name", GETS)
def test_a_get_takes_few_statements(house: CountingHouse, name: str) -> None:
    found = statements(house, lambda: GETS[name](house))
    assert 1 <= found[f"query {name}"] <= STATEMENTS[name]
