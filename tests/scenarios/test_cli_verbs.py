"""The verbs of an operator, each against a real server: what they print, what they change, how they end."""

from __future__ import annotations

import json
import platform
from typing import Any

import pytest
import yaml
from banksman.v1 import run_pb2

from tests.scenarios.house import House
from tests.scenarios.specs import spec


def ok(house: House, *arguments: str, input: bytes = b"", **extra: str) -> str:
    """What the command printed to stdout; it must end with 0."""
    done = house.cli(*arguments, input=input, extra=extra)
    assert done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout.decode()


def data(house: House, *arguments: str) -> Any:
    return json.loads(ok(house, *arguments, "-o", "json"))


def named(house: House, *arguments: str) -> dict[str, Any]:
    """A list's objects by their names."""
    return {
        item["name"]: item for line in ok(house, *arguments, "-o", "jsonl").splitlines() if (item := json.loads(line))
    }


def test_runners(shared: House) -> None:
    assert named(shared, "runner", "list")["r1"]["connected"]
    shown = data(shared, "runner", "get", "r1")
    assert (shown["slots"], shown["labels"]) == (8, {"os": "linux", "arch": platform.machine()})
    ok(shared, "runner", "drain", "r1")
    assert data(shared, "runner", "get", "r1")["draining"]
    ok(shared, "runner", "resume", "r1")
    assert not data(shared, "runner", "get", "r1").get("draining")
    assert shared.cli("runner", "get", "nobody").returncode == 3


def test_join_tokens(shared: House) -> None:
    secret = ok(shared, "runner", "join-token", "create", "--grant", "os=linux").strip()
    assert secret.startswith("bnk_")
    listed = [json.loads(line) for line in ok(shared, "runner", "join-token", "list", "-o", "jsonl").splitlines()]
    mine = next(token for token in listed if token.get("granted_labels") == {"os": "linux"})
    assert secret not in json.dumps(listed)
    ok(shared, "runner", "join-token", "rm", mine["id"])


def test_projects_keep_things_apart(shared: House) -> None:
    ok(shared, "project", "create", "elsewhere", "--description", "for a test")
    assert "elsewhere" in named(shared, "project", "list")
    ok(shared, "task", "create", "apart", "--project", "elsewhere", "--", "/bin/echo", "apart")
    assert shared.cli("task", "get", "apart").returncode == 3
    assert shared.cli("project", "delete", "elsewhere", "--yes").returncode == 6, "it is not empty"
    assert ok(shared, "task", "run", "apart", "--project", "elsewhere", "--follow") == "apart\n"
    assert ok(shared, "task", "get", "apart", BANKSMAN_PROJECT="elsewhere")


def test_tokens(shared: House) -> None:
    secret = ok(shared, "token", "create", "--note", "for a test", "--lifetime", "1h").strip().splitlines()[-1]
    assert ok(shared, "whoami", BANKSMAN_TOKEN=secret)
    listed = [json.loads(line) for line in ok(shared, "token", "list", "-o", "jsonl").splitlines()]
    mine = next(token for token in listed if token.get("note") == "for a test")
    assert secret not in json.dumps(listed)
    ok(shared, "token", "revoke", mine["id"])
    assert shared.cli("whoami", extra={"BANKSMAN_TOKEN": secret}).returncode == 4


def test_schedules(shared: House) -> None:
    ok(shared, "task", "create", "clockwork", "--", "/bin/echo", "tick")
    ok(shared, "schedule", "create", "yearly", "--task", "clockwork", "--cron", "@yearly", "--tz", "Europe/Berlin")
    shown = data(shared, "schedule", "get", "yearly")
    assert shown["time_zone"] == "Europe/Berlin"
    assert shown["next_fire_at"].endswith("-12-31T23:00:00Z")
    assert len(ok(shared, "schedule", "next", "yearly").strip().splitlines()) >= 5
    assert ok(shared, "schedule", "trigger", "yearly", "--follow") == "tick\n"
    ok(shared, "schedule", "pause", "yearly")
    assert data(shared, "schedule", "get", "yearly")["paused"]
    ok(shared, "schedule", "resume", "yearly")
    bad = shared.cli("schedule", "create", "never", "--task", "clockwork", "--cron", "61 * * * *")
    assert bad.returncode == 2
    assert b"cron" in bad.stderr
    ok(shared, "schedule", "delete", "yearly", "--yes")
    assert shared.cli("schedule", "get", "yearly").returncode == 3


def test_a_task_is_changed_only_where_it_was_said(shared: House) -> None:
    ok(shared, "task", "create", "steady", "--label", "os=linux", "--timeout", "5m", "--", "/bin/echo", "one")
    ok(shared, "task", "update", "steady", "--", "/bin/echo", "two")
    shown = data(shared, "task", "get", "steady")
    assert shown["spec"]["steps"][0]["command"]["argv"] == ["/bin/echo", "two"]
    assert shown["spec"]["timeout"] == "300s"
    assert shown["spec"]["selectors"][0]["values"] == ["linux"]
    ok(shared, "task", "update", "steady", "--inactive")
    refused = shared.cli("task", "run", "steady", "--follow")
    assert refused.returncode == 6, refused.stderr


@pytest.mark.parametrize("command", [("status",), ("whoami",), ("version",), ("runner", "list"), ("run", "list")])
@pytest.mark.parametrize("form", ["table", "json", "yaml", "jsonl"])
def test_what_is_shown_comes_in_every_form(shared: House, command: tuple[str, ...], form: str) -> None:
    shared.execute(spec(["/bin/true"]))
    told = ok(shared, *command, "-o", form)
    match form:
        case "json":
            json.loads(told)
        case "yaml":
            assert yaml.safe_load(told)
        case "jsonl":
            assert all(json.loads(line) for line in told.splitlines())
        case _:
            assert told.strip()


def test_a_watch_prints_each_change(shared: House) -> None:
    run = shared.submit(spec(["/bin/true"])).id
    process = shared.start_cli("run", "watch", run)
    out, err = process.communicate(timeout=60)
    assert b"SUCCEEDED" in out, err
    assert shared.get(run).state == run_pb2.RUN_STATE_SUCCEEDED


def lines_of(house: House, count: int, *words: str) -> list[Any]:
    """The first lines of a watch, which is ended then."""
    process = house.start_cli("run", "watch", *words, "-o", "jsonl")
    try:
        return [json.loads(process.stdout.readline()) for _ in range(count)]  # type: ignore[union-attr]
    finally:
        process.kill()
        process.communicate()


def test_a_watch_goes_on_behind_a_token(shared: House) -> None:
    ok(shared, "task", "create", "watched", "--", "true")
    run = ok(shared, "task", "run", "watched", "--not-before", "1h").strip()
    (now,) = lines_of(shared, 1, "--task", "watched")
    assert (now["run"]["id"], now["run"]["state"]) == (run, "RUN_STATE_QUEUED")
    ok(shared, "run", "cancel", run)
    ok(shared, "task", "run", "watched", "--not-before", "1h")
    behind = lines_of(shared, 4, "--task", "watched", "--resume", now["resume_token"])
    types = [line["event"]["type"].removeprefix("RUN_EVENT_TYPE_") for line in behind]
    assert types == ["STOP_REQUESTED", "CANCELLED", "SETTLED", "CREATED"]
    again = lines_of(shared, 3, "--task", "watched", "--resume", behind[0]["resume_token"])
    assert [line["event"] for line in again] == [line["event"] for line in behind[1:]]
    for wrong in ((run, "--resume", "x"), ("--task", "watched", "--resume", "x")):
        assert shared.cli("run", "watch", *wrong).returncode == 2


def test_completion_knows_values_too(shared: House) -> None:
    assert "banksman" in ok(shared, "completion", "bash")
    found = shared.cli(
        extra={"_BANKSMAN_COMPLETE": "bash_complete", "COMP_WORDS": "banksman runner get ", "COMP_CWORD": "3"}
    )
    assert b"r1" in found.stdout, found.stderr


def test_logging_in_stores_a_context(shared: House) -> None:
    token = shared.admin.token
    extra = {"BANKSMAN_URL": ""}
    done = shared.cli(
        "login", "--url", shared.admin.url, "--token-stdin", "--name", "mine", input=token.encode(), extra=extra
    )
    assert done.returncode == 0, done.stderr
    assert token.encode() not in done.stdout + done.stderr
    assert shared.cli("whoami", "--context", "mine", extra=extra).returncode == 0
    assert b"mine" in shared.cli("context", "list", extra=extra).stdout
