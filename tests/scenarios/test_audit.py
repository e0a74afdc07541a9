"""Who did what, from the command line: listed, exported, checked, and a cut end found out."""

from __future__ import annotations

import json
import pathlib
import sqlite3
from contextlib import closing

from banksman.v1 import access_pb2

from tests.scenarios.house import House


def shown(house: House, *words: str) -> list[dict[str, object]]:
    done = house.cli("audit", "list", "-o", "json", *words)
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def verified(house: House, *words: str) -> tuple[int, str]:
    done = house.cli("audit", "verify", *words)
    return done.returncode, done.stderr.decode()


def cut_off(path: pathlib.Path, after: int) -> None:
    """As somebody does who can write to the file, and would not be seen."""
    with closing(sqlite3.connect(path)) as connection:
        for table in ("audit_events", "audit_heads"):
            connection.execute(f"DROP TRIGGER {table}_no_delete")
            connection.execute(f"DELETE FROM {table} WHERE seq > {after}")
        connection.commit()


def test_the_trail_of_a_day(house: House) -> None:
    house.agent("r1")
    assert house.cli("run", "exec", "--", "true").returncode == 0
    eve = access_pb2.Principal(kind=access_pb2.PRINCIPAL_KIND_USER, name="eve", project_ids=["default"])
    house.doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=eve))
    token = house.doors.access.CreateToken(access_pb2.CreateTokenRequest(principal="eve")).secret
    assert house.cli("runner", "drain", "r1", extra={"BANKSMAN_TOKEN": token}).returncode == 4
    assert house.server.stop() == 0
    house.start_server()
    deeds = shown(house, "--filter", "code = OK")
    assert [deed["method"] for deed in reversed(deeds)] == [
        "RunnerService/CreateJoinToken",
        "RunnerSessionService/Enroll",
        "RunService/CreateRun",
        "AccessService/CreatePrincipal",
        "AccessService/CreateToken",
    ]
    (denied,) = shown(house, "--filter", "principal = eve")
    assert (denied["method"], denied["code"]) == ("RunnerService/DrainRunner", "NOT_ADMIN")
    assert denied["resources"] == ["runner/r1"]


def test_a_deed_outlives_a_kill_and_a_cut_end_is_found_out(house: House) -> None:
    kept = str(house.root / "kept.jsonl")
    for _ in range(3):
        assert house.cli("run", "exec", "--detach", "--", "true").returncode == 0
    house.server.kill_dash_nine()
    house.start_server()
    assert len(shown(house, "--filter", "method = RunService/CreateRun")) == 3
    assert house.cli("audit", "export", "--to", kept).returncode == 0
    for words in ((), ("--head", kept), ("--file", kept), ("--file", kept, "--head", kept)):
        code, said = verified(house, *words)
        assert (code, "is whole" in said) == (0, True), said
    assert house.server.stop() == 0
    cut_off(house.server_directory / "banksman.db", 2)
    house.start_server()
    assert verified(house)[0] == 0
    code, said = verified(house, "--head", kept)
    assert (code, "its end was cut off" in said) == (6, True), said
    text = (house.root / "kept.jsonl").read_text()
    (house.root / "kept.jsonl").write_text(text.replace("RunService/CreateRun", "RunService/GetRun", 1))
    code, said = verified(house, "--file", kept)
    assert (code, "was changed" in said) == (6, True), said
