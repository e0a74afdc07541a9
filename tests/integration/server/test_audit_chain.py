"""The audit trail under raw SQL: whatever is changed in the table shows, in the server and in a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from banksman.v1 import audit_pb2
from google.protobuf import json_format

from control_plane.cli.audit_file import check_file, read_head
from control_plane.domain.audit import hash_of
from control_plane.storage.shapes import AUDIT_EVENT
from tests.fakes.server import Server
from tests.integration.server.test_audit import export, stub

COUNT = 6


@pytest.fixture
async def trail(server: Server) -> list[dict]:
    """An export of a trail of six entries; the server has stopped behind it, after a seventh: the export's own."""
    doors = server.doors()
    for _ in range(COUNT):
        await doors.submit()
    lines = await export(server)
    await server.stop()
    return lines


def sql(server: Server, *statements: str) -> None:
    """As somebody would who may write to the file, and knows what is in the way."""
    with closing(sqlite3.connect(server.state / "banksman.db")) as connection:
        for table in ("audit_events", "audit_heads"):
            for deed in ("update", "delete"):
                connection.execute(f"DROP TRIGGER {table}_no_{deed}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def faults(server: Server, head: dict | None = None) -> list[str]:
    request = audit_pb2.VerifyAuditRequest()
    if head is not None:
        request.head.CopyFrom(json_format.ParseDict({k: v for k, v in head.items() if k != "kind"}, request.head))
    found = await stub(server.doors()).VerifyAudit(request)
    assert found.intact is not bool(found.faults)
    return [f"{fault.seq}: {fault.description}" for fault in found.faults]


@pytest.mark.parametrize("table", ["audit_events", "audit_heads"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET hash = ''", "DELETE FROM {}"])
async def test_the_table_only_grows(server, trail, table, statement):
    with (
        closing(sqlite3.connect(server.state / "banksman.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(statement.format(table))


async def test_a_trail_that_nobody_touched_is_whole_also_after_a_restart(server, trail):
    await server.start()
    assert await faults(server) == []
    assert await faults(server, trail[-1]) == []
    await server.doors().submit()
    assert await faults(server, trail[-1]) == []


EVENTS = "UPDATE audit_events SET"
SWAP = (
    f"{EVENTS} seq = 100 WHERE seq = 2",
    f"{EVENTS} seq = 2 WHERE seq = 3",
    f"{EVENTS} seq = 3 WHERE seq = 100",
)


@pytest.mark.parametrize(
    ("statements", "where"),
    [
        ((f"{EVENTS} principal = 'mallory' WHERE seq = 3",), "3: its hash"),
        ((f"{EVENTS} resources = '[]' WHERE seq = 1",), "1: its hash"),
        ((f"{EVENTS} at = at + 1 WHERE seq = 4",), "4: its hash"),
        ((f"{EVENTS} code = 'OK ' WHERE seq = 7",), "7: its hash"),
        ((f"{EVENTS} chain = 'x' WHERE seq = 2",), "3: it stands behind number 1"),
        (("DELETE FROM audit_events WHERE seq = 1",), "2: it stands behind number 0"),
        (("DELETE FROM audit_events WHERE seq = 4",), "5: it stands behind number 3"),
        (SWAP, "2: its hash"),
        # The server has signed where it stood when it stopped.
        (("DELETE FROM audit_events WHERE seq > 5",), "6: a head that was kept names it"),
        (("DELETE FROM audit_events",), "6: a head that was kept names it"),
        (("UPDATE audit_heads SET hash = 'x'",), "6: a head of this number is not signed"),
    ],
)
async def test_an_edit_a_gap_and_another_order_show(server, trail, statements, where):
    sql(server, *statements)
    await server.start()
    found = await faults(server)
    assert any(fault.startswith(where) for fault in found), found


async def test_a_cut_end_shows_against_a_head_that_was_kept(server, trail):
    sql(server, "DELETE FROM audit_events WHERE seq > 4", "DELETE FROM audit_heads")
    await server.start()
    assert await faults(server) == []
    (fault,) = await faults(server, trail[-1])
    assert fault == "6: a head that was kept names it, but the chain ends at 4: its end was cut off"


def written_anew(server: Server) -> None:
    """Another name for who did it, and every hash as it then has to be."""
    sql(server, "DELETE FROM audit_heads")
    with closing(sqlite3.connect(server.state / "banksman.db")) as connection:
        names = ", ".join(column.name for column in AUDIT_EVENT.columns)
        before = ""
        for row in connection.execute(f"SELECT {names} FROM audit_events ORDER BY seq").fetchall():
            event = replace(AUDIT_EVENT.entity(row), principal="mallory")
            before = hash_of(event, before)
            words = ("mallory", before, event.seq)
            connection.execute(f"{EVENTS} principal = ?, hash = ? WHERE seq = ?", words)
        connection.commit()


async def test_a_trail_written_anew_shows_against_a_head_that_was_kept(server, trail):
    written_anew(server)
    await server.start()
    assert await faults(server) == []
    assert any("written anew" in fault for fault in await faults(server, trail[-1]))


async def test_a_head_of_others_and_a_forged_one_are_told_apart(server, trail):
    await server.start()
    head = trail[-1]
    assert any("another chain" in fault for fault in await faults(server, head | {"chain": "x"}))
    assert any("not signed" in fault for fault in await faults(server, head | {"signature": "00" * 64}))
    assert any("not signed" in fault for fault in await faults(server, head | {"at": "2020-01-01T00:00:00Z"}))


def written(path: Path, lines: list[dict]) -> str:
    path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    return str(path)


def cut(lines: list[dict], number: int) -> list[dict]:
    return [*lines[:number], *lines[number + 1 :]]


def edited(lines: list[dict]) -> list[dict]:
    return [*lines[:3], lines[3] | {"code": "NOT_ADMIN"}, *lines[4:]]


def swapped(lines: list[dict]) -> list[dict]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines, []),
        (edited, ["was changed"]),
        (swapped, ["out of order"]),
        (lambda lines: cut(lines, 2), ["entries are missing"]),
        (lambda lines: lines[:-1], ["no head at its end"]),
        (lambda lines: cut(lines, -2), ["the head names number 6, the entries end at 5"]),
        (lambda lines: [*lines, lines[1]], ["something stands behind the head"]),
        (lambda lines: [*lines[:-1], lines[-1] | {"signature": "00" * 64}], ["signature of the head does not fit"]),
    ],
)
async def test_a_file_is_checked_without_a_server(
    tmp_path, trail, change: Callable[[list[dict]], list[dict]], said: list[str]
):
    result = check_file(written(tmp_path / "export.jsonl", change(trail)))
    assert bool(result.faults) is bool(said), result.faults
    assert all(any(word in fault for fault in result.faults) for word in said), result.faults
    if not said:
        assert (result.checked, result.head["seq"], result.signed) == (COUNT, COUNT, True)


async def test_a_file_is_held_against_a_head_that_was_kept(tmp_path, server, trail):
    kept = written(tmp_path / "kept.jsonl", trail)
    await server.start()
    await server.doors().submit()
    longer = await export(server)
    assert check_file(written(tmp_path / "now.jsonl", longer), read_head(kept)).faults == []
    tail = await export(server, after_seq=COUNT)
    assert check_file(written(tmp_path / "tail.jsonl", tail), read_head(kept)).faults == []
    (fault,) = check_file(kept, longer[-1]).faults
    assert "the end is cut off" in fault
    await server.stop()
    written_anew(server)
    await server.start()
    anew = check_file(written(tmp_path / "anew.jsonl", await export(server)), read_head(kept))
    assert any("written anew" in fault for fault in anew.faults)
