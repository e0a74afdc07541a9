"""Log in, and change what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2

from control_plane.cli.contexts import config_path, read_contexts
from tests.unit.control_plane.cli.console import TOKEN, Outcome, banksman
from tests.unit.fake_channel import Answer, Refusal

ME = access_pb2.Principal(id="1", name="me", kind=access_pb2.PRINCIPAL_KIND_USER, admin=True)
URL = "http://127.0.0.1:7070"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def login(environ: dict[str, str], *more: str, answer: Answer = ME) -> Outcome:
    line = ["login", "--url", URL, "--token-stdin", *more]
    return banksman(*line, script=[("WhoAmI", answer)], environ=environ, given=TOKEN.encode() + b"\n")


def test_a_login_is_verified_and_kept_for_its_owner_alone(environ: dict[str, str]) -> None:
    outcome = login(environ)
    assert outcome.exit_code == 0
    assert outcome.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"
    path = config_path(environ)
    assert path.stat().st_mode & 0o777 == 0o600
    file = read_contexts(path)
    assert file.current == "127.0.0.1:7070"
    assert file.get(file.current).token == TOKEN
    assert TOKEN not in outcome.stdout + outcome.stderr
    whoami = banksman("whoami", script=[("WhoAmI", ME)], environ=environ)
    assert whoami.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"
    assert "admin\tyes" in whoami.stdout


def some() -> access_pb2.Principal:
    return access_pb2.Principal(name="bob", project_ids=["1", "2"])


def test_whoami_and_the_list_of_principals_name_projects() -> None:
    projects = project_pb2.ListProjectsResponse(projects=[project_pb2.Project(id="2", name="web")])
    page = access_pb2.ListPrincipalsResponse(principals=[ME, some()])
    whoami = banksman("whoami", script=[("WhoAmI", some()), ("ListProjects", projects)])
    assert "projects\t1,web\n" in whoami.stdout, "what the caller does not see keeps its id"
    listed = banksman("principal", "list", script=[("ListPrincipals", page), ("ListProjects", projects)])
    assert "\t1,web\t" in listed.stdout
    away = Refusal(grpc.StatusCode.PERMISSION_DENIED, "no")
    assert "projects\t1,2\n" in banksman("whoami", script=[("WhoAmI", some()), ("ListProjects", away)]).stdout
    as_it_is = banksman("whoami", "-o", "json", script=[("WhoAmI", some())])
    assert json.loads(as_it_is.stdout)["project_ids"] == ["1", "2"]


def test_a_login_with_a_wrong_token_keeps_nothing(environ: dict[str, str]) -> None:
    outcome = login(environ, answer=Refusal(grpc.StatusCode.UNAUTHENTICATED, "unknown token"))
    assert outcome.exit_code == 4
    assert not config_path(environ).exists()
    assert TOKEN not in outcome.stdout + outcome.stderr


def test_login_refuses_plaintext_before_it_reads_the_token(environ: dict[str, str]) -> None:
    outcome = banksman("login", "--url", "http://10.0.0.1:7070", "--token-stdin", environ=environ, given=b"x")
    assert outcome.exit_code == 2
    assert "in clear" in outcome.stderr


def test_contexts_are_listed_switched_changed_and_forgotten(environ: dict[str, str]) -> None:
    login(environ, "--name", "one")
    login(environ, "--name", "two")

    def listed() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(banksman("context", "list", "-o", "json", environ=environ).stdout)
        return rows

    assert [(row["name"], row["current"]) for row in listed()] == [("one", False), ("two", True)]
    assert all(set(row) == {"name", "url", "project", "insecure", "has_token", "current"} for row in listed())
    assert banksman("context", "use", "one", environ=environ).exit_code == 0
    assert banksman("context", "set", "one", "--default-project", "web", environ=environ).exit_code == 0
    assert (listed()[0]["current"], listed()[0]["project"]) == (True, "web")
    assert banksman("context", "rm", "one", environ=environ).exit_code == 0
    assert banksman("context", "use", "one", environ=environ).exit_code == 3
    assert banksman("context", "list", "-o", "name", environ=environ).stdout == "two\n"


def test_a_context_that_moves_to_another_url_loses_its_token(environ: dict[str, str]) -> None:
    login(environ, "--name", "one")
    banksman("context", "set", "one", "--url", URL, environ=environ)
    assert read_contexts(config_path(environ)).get("one").token == TOKEN
    banksman("context", "set", "one", "--url", "http://127.0.0.1:9", environ=environ)
    assert read_contexts(config_path(environ)).get("one").token == ""


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 101, "ü"])
def test_a_context_has_a_plain_name(environ: dict[str, str], name: str) -> None:
    assert banksman("context", "set", name, "--url", URL, environ=environ).exit_code == 2
