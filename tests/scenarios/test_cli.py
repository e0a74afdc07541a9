"""What a user does with `banksman`, from the shell to the runner and back."""

from __future__ import annotations

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading

import pytest
from banksman.v1 import run_pb2

from tests.scenarios.children import FLAKY, NOISE, PATIENT, PAUSE, PYTHON, STUBBORN, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.specs import spec


def newest(house: House) -> run_pb2.Run:
    return house.get("@last")


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_exec_shows_the_output_where_it_belongs_and_says_how_it_ended(shared: House) -> None:
    done = shared.cli("run", "exec", "--label", "os=linux", "--", "/bin/sh", "-c", "echo out; echo err >&2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"out\n"
    *theirs, last = done.stderr.decode().splitlines()
    assert "err" in theirs
    run_id = re.search("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", last)
    assert run_id is not None, "it names the run"
    assert "SUCCEEDED" in last
    assert shared.get(run_id[0]).state == run_pb2.RUN_STATE_SUCCEEDED


def test_exec_sends_piped_input_and_returns_bytes_as_they_are(shared: House) -> None:
    data = random.Random(3).randbytes(700_000)
    done = shared.cli("run", "exec", "--", "/bin/cat", input=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_exec_gives_environment_and_directory(shared: House, here: pathlib.Path) -> None:
    arguments = ("-e", "COLOUR=a b", "-e", "TAKEN", "--cwd", str(here), "--runner", "r1")
    child = ("/bin/sh", "-c", 'printf "%s|%s|%s" "$COLOUR" "$TAKEN" "$(pwd -P)"')
    done = shared.cli("run", "exec", *arguments, "--", *child, extra={"TAKEN": "from here"})
    assert done.stdout.decode() == f"a b|from here|{here}", done.stderr


def test_exec_detached_prints_only_the_id(shared: House) -> None:
    done = shared.cli("run", "exec", "-d", "--", "/bin/echo", "later")
    assert done.returncode == 0, done.stderr
    run = done.stdout.decode().strip()
    assert shared.wait(run).state == run_pb2.RUN_STATE_SUCCEEDED
    assert shared.cli("run", "logs", run[-8:]).stdout == b"later\n"


def test_exit_codes_of_runs(shared: House, here: pathlib.Path) -> None:
    def code(*arguments: str) -> int:
        return shared.cli("run", "exec", *arguments).returncode

    assert code("--", "/bin/true") == 0
    assert code("--", "/bin/sh", "-c", "exit 42") == 1
    assert code("--propagate-exit-code", "--", "/bin/sh", "-c", "exit 42") == 42
    assert code("--", "no-such-program") == 1
    assert code("--timeout", "1s", "--", *PYTHON, "import signal; signal.pause()") == 8
    assert code("--label", "os=plan9", "--queue-timeout", "1s", "--", "/bin/true") == 9
    assert code("--wait-timeout", "1s", "--label", "os=plan9", "--", "/bin/true") == 124
    assert shared.cli("run", "cancel", "@last").returncode == 0
    assert code("--success-exit-code", "3", "--", "/bin/sh", "-c", "exit 3") == 0
    assert code("--retry", "2", "--retry-backoff", "1s", "--", *python(FLAKY, here / "tally", "3")) == 0


def test_exit_codes_of_calls(shared: House) -> None:
    def code(*arguments: str, **extra: str) -> int:
        return shared.cli(*arguments, extra=extra).returncode

    assert code("run", "get", "00000000-0000-7000-8000-000000000000") == 3
    assert code("run", "exec") == 2
    assert code("no-such-noun") == 2
    assert code("whoami") == 0
    assert code("whoami", BANKSMAN_TOKEN="bnk_user_wrong") == 4
    assert code("whoami", BANKSMAN_URL="http://127.0.0.1:1") == 5
    done = shared.execute(spec(["/bin/true"]))
    assert code("run", "cancel", done.id) == 6


def test_an_error_is_a_sentence_with_a_next_step(shared: House) -> None:
    done = shared.cli("run", "get", "deadbeef")
    assert done.stdout == b""
    assert b"deadbeef" in done.stderr
    assert b"Traceback" not in done.stderr


def test_cancelling_a_stubborn_tree_leaves_no_process(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    process = shared.start_cli("run", "exec", "--grace", "300ms", "--", *python(STUBBORN, lock, arrived.path))
    who = [arrived.receive(), arrived.receive()]
    assert sorted(word.split()[0] for word in who) == ["child", "grandchild"]
    assert shared.cli("run", "cancel", newest(shared).id, "--note", "enough").returncode in (0, 7)
    code, out, err = finish(process)
    assert code == 7, err
    assert out == b"ready\n"
    assert not locked(lock)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_off_a_terminal_an_interrupt_cancels_and_waits(
    shared: House, here: pathlib.Path, number: signal.Signals
) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    process = shared.start_cli("run", "exec", "--", *python(PATIENT, lock, arrived.path))
    arrived.receive()
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 7, err
    assert b"CANCELLED" in err
    assert not locked(lock)


def test_a_second_interrupt_detaches(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    process = shared.start_cli("run", "exec", "--grace", "30s", "--", *python(STUBBORN, lock, arrived.path))
    arrived.receive(), arrived.receive()
    run = newest(shared)
    process.send_signal(signal.SIGINT)
    shared.wait_state(run.id, run_pb2.RUN_STATE_CANCELLING)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    shared.cancel(run.id, force=True)


def test_following_a_log_survives_a_restart_of_the_server_byte_for_byte(house: House) -> None:
    house.agent("r1")
    arrived, gate = house.fifo("arrived"), house.fifo("gate")
    run = house.submit(spec(python(NOISE, "5", "1000000", arrived.path, gate.path)))
    arrived.receive()
    process = house.start_cli("run", "logs", "-f", run.id)
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100_000)
    house.server.kill_dash_nine()
    house.start_server()
    gate.send()
    code, out, err = finish(process)
    noise = random.Random(5).randbytes(1_000_000)
    assert first + out == noise, err
    assert code in (0, 1), err
    assert house.cli("run", "logs", run.id, "--from-offset", "999000").stdout == noise[999_000:]


def test_exec_survives_a_restart_of_the_server(house: House) -> None:
    house.agent("r1")
    arrived, gate = house.fifo("arrived"), house.fifo("gate")
    process = house.start_cli("run", "exec", "--", *python(PAUSE, house.root / "tally", arrived.path, gate.path))
    arrived.receive()
    house.server.kill_dash_nine()
    house.start_server()
    gate.send()
    code, out, err = finish(process)
    assert (code, out) == (0, b"before\nafter\n"), err
    assert len(lines(house.root / "tally")) == 1


def test_while_it_is_queued_one_line_says_why(house: House) -> None:
    process = house.start_cli("run", "exec", "--label", "os=plan9", "--", "/bin/true")
    assert process.stderr is not None
    told = process.stderr.readline().decode()
    assert "queued" in told
    run = newest(house)
    house.cancel(run.id)
    assert finish(process)[0] == 7


def test_streams_tails_and_offsets_of_a_log(shared: House) -> None:
    text = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done"
    run = shared.execute(spec(["/bin/sh", "-c", text])).id
    assert shared.cli("run", "logs", run, "--stream", "stdout").stdout == b"o1\no2\no3\no4\no5\n"
    errors = shared.cli("run", "logs", run, "--stream", "stderr")
    assert b"e1\ne2\ne3\ne4\ne5\n" in (errors.stdout, errors.stderr)
    tail = shared.cli("run", "logs", run, "--tail", "1", "--stream", "stdout")
    assert tail.stdout == b"o5\n"


def test_a_failure_explains_itself(shared: House) -> None:
    run = shared.execute(spec(["/bin/sh", "-c", "for i in $(seq 80); do echo line $i; done; exit 9"])).id
    told = shared.cli("run", "get", run).stdout.decode()
    assert "FAILED" in told
    assert "9" in told
    assert "line 80" in told
    assert "line 31" in told
    assert "line 30\n" not in told, "the last 50 lines only"


def test_last_and_short_ids_and_formats(shared: House) -> None:
    run = shared.execute(spec(["/bin/true"]))
    for name in (run.id, run.id[-8:]):
        told = json.loads(shared.cli("run", "get", name, "-o", "json").stdout)
        assert told["id"] == run.id
        assert told["state"] in ("SUCCEEDED", "RUN_STATE_SUCCEEDED")
    assert shared.cli("run", "get", "@last").returncode == 0
    listed = shared.cli("run", "list", "-o", "jsonl").stdout.splitlines()
    assert len(listed) <= 20
    assert run.id in {json.loads(line)["id"] for line in listed}
    assert run.id in shared.cli("run", "list", "-o", "name").stdout.decode()


def test_a_task_from_its_creation_to_its_run(shared: House) -> None:
    assert shared.cli("task", "create", "greet", "--", "/bin/echo", "hello").returncode == 0
    done = shared.cli("task", "run", "greet", "--follow")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
    assert shared.cli("task", "create", "greet", "--", "/bin/echo").returncode == 6
    again = shared.cli("run", "retry", "@last", "--follow")
    assert (again.returncode, again.stdout) == (0, b"hello\n"), again.stderr
    assert b"greet" in shared.cli("task", "list").stdout
    assert shared.cli("task", "delete", "greet", "--yes").returncode == 0
    assert shared.cli("task", "get", "greet").returncode == 3


def test_a_secret_from_standard_input_is_masked(shared: House) -> None:
    assert shared.cli("secret", "set", "CLI_SECRET", input=b"pretty-secret-value").returncode == 0
    child = ("/bin/sh", "-c", 'echo [$CLI_SECRET]; test "$CLI_SECRET" = pretty-secret-value')
    done = shared.cli("run", "exec", "--secret", "CLI_SECRET", "--", *child)
    assert done.returncode == 0, done.stderr
    assert b"pretty-secret-value" not in done.stdout + done.stderr
    assert done.stdout.startswith(b"[")
    assert b"CLI_SECRET" in shared.cli("secret", "list").stdout


def test_the_cli_finds_the_server_on_its_own_host(house: House) -> None:
    """Without any setting: through the 0600 file in the default state directory."""
    default = house.root / "state" / "banksman"
    default.mkdir(parents=True)
    default.joinpath("server").symlink_to(house.server_directory)
    argv, env = house.banksman()
    bare = {key: value for key, value in env.items() if not key.startswith("BANKSMAN_")}
    done = subprocess.run([*argv, "whoami"], env=bare, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_waiting_for_a_run(shared: House, here: pathlib.Path) -> None:
    arrived, gate = shared.fifo(here / "arrived"), shared.fifo(here / "gate")
    run = shared.submit(spec(python(PAUSE, here / "tally", arrived.path, gate.path, "5"))).id
    arrived.receive()
    ended: list[int] = []
    waiter = threading.Thread(target=lambda: ended.append(shared.cli("run", "wait", run).returncode), name="waiter")
    waiter.start()
    gate.send()
    waiter.join(60)
    assert ended == [1]


def test_help_names_every_noun() -> None:
    program = pathlib.Path(sys.executable).parent / "banksman"
    told = subprocess.run([program, "--help"], capture_output=True, timeout=30, check=False)
    assert told.returncode == 0
    for noun in ("run", "task", "schedule", "runner", "project", "secret", "token", "dev", "login", "status"):
        assert noun in told.stdout.decode()
