"""A run executes on the runner, and every byte that it prints can be read again."""

from __future__ import annotations

import hashlib
import pathlib
import random

import pytest
from banksman.v1 import log_pb2, run_pb2

from tests.scenarios.children import PATIENT, PRINT_FILE, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.program import peak_mib
from tests.scenarios.specs import command, env, script, spec

OUT, ERR = log_pb2.LOG_KIND_STDOUT, log_pb2.LOG_KIND_STDERR


def test_a_run_executes_and_says_how_it_ended(shared: House) -> None:
    run = shared.execute(spec(["/bin/echo", "hello"]))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.reason == run_pb2.REASON_EXIT_ZERO
    assert run.exit_code == 0
    assert run.kill_confirmed
    assert [attempt.number for attempt in run.attempts] == [1]
    assert run.attempts[0].runner_name == "r1"
    assert run.started_at.ToDatetime() <= run.completed_at.ToDatetime() <= run.settled_at.ToDatetime()
    assert shared.log(run.id) == b"hello\n"


def test_a_non_zero_exit_fails_the_run_with_its_code(shared: House) -> None:
    run = shared.execute(spec(["/bin/sh", "-c", "echo no >&2; exit 7"]))
    assert (run.state, run.reason, run.exit_code) == (run_pb2.RUN_STATE_FAILED, run_pb2.REASON_EXIT_NONZERO, 7)
    assert "7" in run.error_message
    assert shared.log(run.id, ERR) == b"no\n"


def test_exit_codes_that_count_as_success_succeed(shared: House) -> None:
    run = shared.execute(spec(command(["/bin/sh", "-c", "exit 3"], success_exit_codes=[0, 3])))
    assert (run.state, run.exit_code) == (run_pb2.RUN_STATE_SUCCEEDED, 3)


def test_a_child_that_dies_by_a_signal_says_which(shared: House) -> None:
    run = shared.execute(spec(["/bin/sh", "-c", "kill -SEGV $$"]))
    assert (run.state, run.reason, run.signal) == (run_pb2.RUN_STATE_FAILED, run_pb2.REASON_SIGNALLED, 11)


def awkward() -> dict[str, bytes]:
    noise = random.Random(7)
    return {
        "every byte value": bytes(range(256)) * 300,
        "invalid utf-8 and NUL": b"\x00\xff\xfe\x80abc\xc3\x28\x00" * 999,
        "one long line": b"x" * 5_000_000,
        "progress bars": b"".join(b"\r%3d %%" % (n % 101) for n in range(20_000)),
        "no newline at the end": b"first\nsecond",
        "noise": noise.randbytes(3_000_000),
        "empty": b"",
    }


@pytest.mark.parametrize("name", awkward())
@pytest.mark.parametrize("piece", [65_536, 977])
def test_bytes_come_back_identical(shared: House, here: pathlib.Path, name: str, piece: int) -> None:
    data = awkward()[name]
    file = here / "data"
    file.write_bytes(data)
    run = shared.execute(spec(python(PRINT_FILE, file, str(piece))))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert shared.log(run.id) == data
    end = shared.log_end(run.id)
    assert (end.state, end.bytes, end.complete) == (run_pb2.RUN_STATE_SUCCEEDED, len(data), True)
    assert end.digest == run.attempts[0].log_digest


def test_a_line_of_a_hundred_megabytes_comes_back_identical(shared: House) -> None:
    """Through the command line, whose memory and whose servers' memory do not hold it at once."""
    text = "import os, random\nblock = random.Random(1).randbytes(1_000_000).replace(b'\\n', b'-')\n"
    text += "for n in range(100):\n    data = block\n    while data:\n        data = data[os.write(1, data):]\n"
    run = shared.execute(spec(python(text)))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    block, expected = random.Random(1).randbytes(1_000_000).replace(b"\n", b"-"), hashlib.sha256()
    for _ in range(100):
        expected.update(block)
    log = shared.cli("run", "logs", run.id).stdout
    assert len(log) == 100_000_000
    assert hashlib.sha256(log).digest() == expected.digest()
    assert peak_mib(shared.server.pid) < 300
    assert peak_mib(shared.agents["r1"].pid) < 300


def test_streams_keep_their_tags_and_each_its_exact_order(shared: House) -> None:
    text = "import os\nfor n in range(2000):\n    os.write(1, b'o%d\\n' % n)\n    os.write(2, b'e%d\\n' % n)\n"
    run = shared.execute(spec(python(text)))
    assert shared.log(run.id, OUT) == b"".join(b"o%d\n" % n for n in range(2000))
    assert shared.log(run.id, ERR) == b"".join(b"e%d\n" % n for n in range(2000))


def test_merged_output_keeps_the_order_across_both_streams(shared: House) -> None:
    text = "import os\nfor n in range(2000):\n    os.write(1 + n % 2, b'%d\\n' % n)\n"
    run = shared.execute(spec(python(text), merge_output=True))
    assert shared.log(run.id) == b"".join(b"%d\n" % n for n in range(2000))


def test_reading_from_an_offset_gives_the_rest(shared: House) -> None:
    run = shared.execute(spec(["/bin/sh", "-c", "printf 0123456789"]))
    assert shared.log(run.id, from_offset=4) == b"456789"
    assert shared.log(run.id, from_offset=10) == b""


def test_the_last_lines_can_be_read_alone(shared: House) -> None:
    run = shared.execute(spec(["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done"]))
    assert shared.log(run.id, tail_lines=2) == b"8\n9\n"


def test_the_child_gets_its_environment_directory_and_standard_input(shared: House, here: pathlib.Path) -> None:
    text = 'printf "%s|%s|%s|" "$COLOUR" "$(pwd -P)" "$BANKSMAN_RUN_ID"; cat'
    step = command(["/bin/sh", "-c", text], working_directory=str(here), stdin=b"in\x00put")
    run = shared.execute(spec(step, env=env({"COLOUR": "a b; $(date) 'ü"})))
    log = shared.log(run.id)
    assert log == f"a b; $(date) 'ü|{here}|{run.id}|".encode() + b"in\x00put"


def test_without_standard_input_the_child_reads_nothing(shared: House) -> None:
    run = shared.execute(spec(["/bin/cat"]))
    assert (run.state, shared.log(run.id)) == (run_pb2.RUN_STATE_SUCCEEDED, b"")


def test_arguments_reach_the_child_as_they_are(shared: House) -> None:
    arguments = ["", "a b", "$(id)", "`id`", "'\"\\", "-n", "*", "ünï\n"]
    run = shared.execute(spec(python("import os, sys; os.write(1, ascii(sys.argv[1:]).encode())", *arguments)))
    assert shared.log(run.id).decode() == ascii(arguments)


def test_a_script_reaches_its_interpreter_as_a_file(shared: House) -> None:
    assert shared.log(shared.execute(spec(script("echo one\nfalse\necho two\n"))).id) == b"one\ntwo\n"
    text = "import sys\nprint(len(sys.argv), 1 + 1)\n"
    run = shared.execute(spec(script(text, interpreter=["/usr/bin/env", "python3"])))
    assert shared.log(run.id) == b"1 2\n"


def test_steps_run_in_order_and_the_first_failure_ends_the_attempt(shared: House, here: pathlib.Path) -> None:
    def note(word: str, code: int) -> list[str]:
        return ["/bin/sh", "-c", f'echo {word} >> "$1"; echo {word}; exit {code}', "sh", str(here / "notes")]

    last = command(note("always", 0))
    last.always = True
    run = shared.execute(spec(note("one", 0), note("two", 5), note("three", 0), last))
    assert (run.state, run.exit_code) == (run_pb2.RUN_STATE_FAILED, 5)
    assert lines(here / "notes") == ["one", "two", "always"]
    assert shared.log(run.id) == b"one\ntwo\nalways\n"
    assert shared.log(run.id, step=1) == b"two\n"
    assert [(step.index, step.exit_code) for step in run.attempts[0].steps] == [(0, 0), (1, 5), (3, 0)]


def test_a_program_that_does_not_exist_fails_at_once_in_plain_words(shared: House) -> None:
    many = run_pb2.Run().spec.retry
    many.max_attempts = 5
    run = shared.execute(spec(["no-such-program-here"], retry=many))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_FAILED, run_pb2.REASON_SPAWN_FAILED)
    assert len(run.attempts) == 1, "what cannot heal is not tried again"
    assert "no-such-program-here" in run.error_message


def test_a_working_directory_that_does_not_exist_fails_at_once(shared: House, here: pathlib.Path) -> None:
    run = shared.execute(spec(command(["/bin/true"], working_directory=str(here / "absent"))))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_FAILED, run_pb2.REASON_SPAWN_FAILED)
    assert "absent" in run.error_message


def test_each_attempt_gets_a_directory_of_its_own(shared: House) -> None:
    first, second = (shared.execute(spec(["/bin/sh", "-c", "ls -A; pwd; touch here"])) for _ in range(2))
    assert shared.log(first.id) != shared.log(second.id)
    assert b"here" not in shared.log(second.id)


def test_processes_left_behind_by_a_good_run_are_ended(shared: House, here: pathlib.Path) -> None:
    arrived, gate = shared.fifo(here / "arrived"), shared.fifo(here / "gate")
    text = f"import os, sys\nif os.fork() == 0:\n    os.setsid()\n    exec({PATIENT!r})\n"
    text += "open(sys.argv[3], 'rb', 0).readline()\n"
    run = shared.submit(spec(python(text, here / "lock", arrived.path, gate.path)))
    arrived.receive()
    assert locked(here / "lock")
    gate.send()
    done = shared.wait(run.id)
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, True)
    assert not locked(here / "lock")


def test_the_history_of_a_run_tells_each_move_once(shared: House) -> None:
    run = shared.execute(spec(["/bin/true"]))
    types = [event.type for event in shared.events(run.id)]
    wanted = [
        run_pb2.RUN_EVENT_TYPE_CREATED,
        run_pb2.RUN_EVENT_TYPE_OFFERED,
        run_pb2.RUN_EVENT_TYPE_ACCEPTED,
        run_pb2.RUN_EVENT_TYPE_STARTED,
        run_pb2.RUN_EVENT_TYPE_SUCCEEDED,
        run_pb2.RUN_EVENT_TYPE_SETTLED,
    ]
    assert [kind for kind in types if kind in wanted] == wanted
    numbers = [event.number for event in shared.events(run.id)]
    assert numbers == sorted(set(numbers))
