"""What a run says of itself, with the real programs: progress, a result, more to mask, and what it has used."""

from __future__ import annotations

import json
import sys

import pytest
from banksman.v1 import run_pb2

from tests.scenarios.children import python
from tests.scenarios.house import House
from tests.scenarios.specs import script, spec
from tests.waiting import wait_for

SUCCEEDED, FAILED = run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED

TALK = """
set -e
banksman-run progress 40 compiling --note 'file 4 of 10'
banksman-run progress 30
echo what-nobody-may-read | banksman-run add-mask -
echo what-nobody-may-read
read line < {hold}
banksman-run progress 100% done
echo 1 | banksman-run result -
! banksman-run progress 200 2>/dev/null
! banksman-run result /nowhere 2>/dev/null
! banksman-run nonsense 2>/dev/null
echo '{{"made": ["a", "b"], "key": "what-nobody-may-read"}}' > "$BANKSMAN_RESULT"
"""

# A child that its parent does not wait for burns the time; its own parent, the shim, reaps it.
BURN = """
import os, sys, time
end = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3:
            pass
        os.close(end[1])
        os._exit(0)
    os._exit(0)
os.wait()
os.close(end[1])
os.read(end[0], 1)
"""


def words(told: run_pb2.Progress) -> tuple[float, str, str]:
    return told.percent, told.stage, told.note


def test_a_run_tells_progress_and_a_result_and_masks_what_it_found(shared: House) -> None:
    hold = shared.fifo("talk")
    run = shared.submit(spec(script(TALK.format(hold=hold.path))))
    expected = (40, "compiling", "")
    wait_for(lambda: words(shared.get(run.id).progress) == expected, what="its progress is seen while it runs")
    first = shared.get(run.id)
    assert words(first.attempts[0].progress) == expected
    hold.send()
    done = shared.wait(run.id)
    assert done.state == SUCCEEDED, (done, shared.log(run.id))
    assert words(done.progress) == (100, "done", "")
    assert json.loads(done.result_data) == {"made": ["a", "b"], "key": "***"}
    assert done.result_error == ""
    assert shared.log(run.id) == b"***\n"
    shown = shared.cli("run", "get", run.id).stdout.decode()
    assert "100 %, done" in shown
    assert '{"made":["a","b"],"key":"***"}' in shown


@pytest.mark.parametrize("strict", [False, True])
def test_a_result_that_is_no_json_is_said_and_fails_only_who_wants_that(shared: House, strict: bool) -> None:
    text = "echo '{\"half\": ' > $BANKSMAN_RESULT"
    run = shared.execute(spec(["/bin/sh", "-c", text], fail_on_invalid_result=strict))
    wanted = (FAILED, run_pb2.REASON_VALIDATION_FAILED) if strict else (SUCCEEDED, run_pb2.REASON_EXIT_ZERO)
    assert (run.state, run.reason, run.exit_code) == (*wanted, 0)
    assert "not JSON" in run.result_error
    assert run.result_data == ""
    last = b"".join(
        record.data for item in shared.batches(run.id) for record in item.batch.records if b"banksman" in record.data
    )
    assert b"the result file is not JSON" in last


def test_what_orphans_used_is_counted_and_each_figure_has_its_source(shared: House) -> None:
    run = shared.execute(spec(python(BURN)))
    usage = run.attempts[0].usage
    assert run.state == SUCCEEDED
    assert 0.3 <= usage.cpu_s < 30
    assert usage.max_rss_bytes > 1 << 20
    assert {usage.cpu_source, usage.max_rss_source, usage.io_source} <= {"cgroup", "wait4"}
    assert usage.HasField("read_bytes")
    assert usage.HasField("written_bytes")
    assert f"({usage.cpu_source})" in shared.cli("run", "get", run.id).stdout.decode()


def test_what_is_told_while_the_agent_is_away_is_told_when_it_is_back(house: House) -> None:
    hold, said = house.fifo("hold"), house.fifo("said")
    agent = house.agent("r1")
    text = f"banksman-run progress 10 begun; read line < {hold.path}; banksman-run progress 90 later; "
    text += f"echo 7 | banksman-run result -; echo > {said.path}; read line < {hold.path}"
    run = house.submit(spec(["/bin/sh", "-c", text]))
    wait_for(lambda: words(house.get(run.id).progress) == (10, "begun", ""), what="its first progress is seen")
    agent.kill_dash_nine()
    hold.send()
    said.receive()
    assert words(house.get(run.id).progress) == (10, "begun", "")
    agent.connect()
    wait_for(lambda: words(house.get(run.id).progress) == (90, "later", ""), what="the progress of meanwhile is seen")
    agent.kill_dash_nine()
    hold.send()
    agent.connect()
    done = house.wait(run.id)
    assert (words(done.progress), done.result_data) == ((90, "later", ""), "7")


def test_outside_a_run_there_is_nobody_to_tell(shared: House) -> None:
    import subprocess

    argv = [sys.executable, "-m", "runner_agent.shim.inside", "progress", "40"]
    done = subprocess.run(argv, capture_output=True, env={}, timeout=30, check=False)
    assert (done.returncode, b"not inside a run" in done.stderr) == (1, True)
