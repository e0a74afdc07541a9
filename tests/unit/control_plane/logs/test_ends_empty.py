"""A run that printed nothing: its log is sealed with its exit record, and only if truly nothing was printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.domain.attempt import AttemptState
from control_plane.domain.case import Case
from control_plane.domain.copies import replace
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogSeal
from control_plane.domain.protocol import judge_exited
from control_plane.domain.run import RunState
from control_plane.domain.session import AttemptExited, ExitRecord, VerdictKind
from control_plane.logs.digest import LogDigest
from control_plane.logs.files import FileLogStore
from control_plane.logs.ingest import Ingest
from control_plane.watch import Watch
from tests.fakes.cases import AT, CLONE, HOLDER, KEY, case
from tests.fakes.cases import exit_record as any_exit
from tests.fakes.log_ledger import MemoryLedger
from tests.fakes.log_store import MemoryLogStore

EMPTY = LogSeal(bytes=0, digest=LogDigest().hex(), complete=True)


def exit_record() -> ExitRecord:
    return any_exit(final_offset=0, digest=EMPTY.digest)


def running() -> Case:
    return case(AttemptState.RUNNING)


def ended(record: ExitRecord, empty: LogSeal | None = EMPTY) -> tuple[VerdictKind, bool, bool]:
    """The verdict, whether the log is sealed, and whether the run is settled."""
    found = judge_exited(AttemptExited(key=KEY, exit=record), HOLDER, running(), AT, empty=empty)
    assert found.verdict is not None
    assert found.case is not None
    attempt = found.case.live
    return found.verdict.kind, attempt.log_sealed_at is not None, found.case.run.settled_at is not None


def test_an_empty_log_is_sealed_with_the_exit_and_the_run_is_settled() -> None:
    found = judge_exited(AttemptExited(key=KEY, exit=exit_record()), HOLDER, running(), AT, empty=EMPTY)
    assert found.case is not None
    assert found.case.run.state is RunState.SUCCEEDED
    assert found.case.live.log_complete
    assert found.case.live.log_digest == EMPTY.digest
    assert ended(exit_record()) == (VerdictKind.RELEASE, True, True)


@pytest.mark.parametrize(
    "record",
    [
        replace(exit_record(), final_offset=1),
        replace(exit_record(), digest="another"),
        replace(exit_record(), log_counted=False),
    ],
)
def test_a_record_that_says_otherwise_waits_for_the_sealer(record: ExitRecord) -> None:
    assert ended(record) == (VerdictKind.KEEP, False, False)


def test_without_a_seal_the_exit_alone_settles_nothing() -> None:
    assert ended(exit_record(), None) == (VerdictKind.KEEP, False, False)


def test_another_runners_record_seals_nothing() -> None:
    found = judge_exited(AttemptExited(key=KEY, exit=exit_record()), CLONE, running(), AT, empty=EMPTY)
    assert found.case is not None
    assert found.case.live.log_sealed_at is None


def test_only_a_log_that_nobody_has_begun_is_blank(tmp_path: Path) -> None:
    store = FileLogStore(tmp_path)
    assert store.is_blank(KEY)
    store.append(KEY, 0, [LogRecord(kind=LogKind.STDOUT, at=AT.now, data=b"x")])
    store.sync([KEY])
    assert not store.is_blank(KEY)
    store.close()
    again = FileLogStore(tmp_path)
    assert not again.is_blank(KEY)
    again.close()


def test_the_seal_is_given_once_at_a_time_and_only_for_no_bytes() -> None:
    store = MemoryLogStore()
    watch = Watch()
    ingest = Ingest(ledger=MemoryLedger(watch), store=store, watch=watch)
    with ingest.ending(KEY, 0) as first, ingest.ending(KEY, 0) as second:
        assert (first, second) == (EMPTY, None)
    with ingest.ending(KEY, 0) as later:
        assert later == EMPTY
    with ingest.ending(KEY, 5) as some:
        assert some is None
    store.append(KEY, 0, [LogRecord(kind=LogKind.STDOUT, at=AT.now, data=b"x")])
    with ingest.ending(KEY, 0) as begun:
        assert begun is None


def test_what_is_no_runs_id_is_left_to_the_verdict(tmp_path: Path) -> None:
    store, watch = FileLogStore(tmp_path), Watch()
    ingest = Ingest(ledger=MemoryLedger(watch), store=store, watch=watch)
    with ingest.ending(AttemptKey(run_id=RunId("../r"), lease_epoch=1), 0) as none:
        assert none is None
    store.close()
