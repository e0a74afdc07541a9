"""Attempts under a real shim: bytes, steps, spawn failures, and what the exit record says."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from runner_agent.execution.log_reader import STDERR, STDOUT, SYSTEM
from runner_agent.execution.shim_link import Outcome, Progress, Reason, Result, Started, StepEnded
from runner_agent.shim.digest import LogDigest
from tests.integration.shim.host import Host, python, read_all, shell, step

ODD_BYTES = b"\xff\xfe\x00invalid\x80 utf-8\r  5%\r 50%\r100%\r\n\x1b[31mred\x1b[0m\n" * 50


async def test_output_comes_back_byte_for_byte(host: Host, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(ODD_BYTES)
    record, run = await host.run(step("cat", str(tmp_path / "odd")))
    assert run.log(STDOUT) == ODD_BYTES
    assert (record.outcome, record.reason, record.exit_code) == (Outcome.ENDED_WELL, Reason.EXIT_ZERO, 0)
    assert (record.tree_empty, record.kill_confirmed, record.survivors_killed) == (True, True, 0)
    assert record.final_offset == len(ODD_BYTES)


async def test_a_long_line_without_newline_is_kept_whole(host: Host) -> None:
    size = 8 << 20
    record, run = await host.run(python(f"import sys; sys.stdout.buffer.write(bytes(range(256)) * {size // 256})"))
    log = run.log()
    assert len(log) == size == record.final_offset
    assert hashlib.sha256(log).digest() == hashlib.sha256(bytes(range(256)) * (size // 256)).digest()
    expected = LogDigest()
    expected.data(log)
    assert record.digest == expected.hex()


async def test_streams_are_told_apart_or_merged_in_exact_order(host: Host) -> None:
    script = "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done"
    _, apart = await host.run(shell(script))
    assert apart.log(STDOUT) == b"out1\nout2\nout3\nout4\nout5\n"
    assert apart.log(STDERR) == b"err1\nerr2\nerr3\nerr4\nerr5\n"
    _, merged = await host.run(shell(script), merge_output=True)
    assert merged.log(STDOUT) == b"".join(b"out%d\nerr%d\n" % (i, i) for i in range(1, 6))
    assert merged.log(STDERR) == b""


async def test_stdin_is_given_and_closed_or_empty(host: Host) -> None:
    given = os.urandom(1 << 20)
    _, run = await host.run(step("cat", stdin=given))
    assert run.log() == given
    _, empty = await host.run(step("cat"))
    assert empty.log() == b""
    record, _ = await host.run(step("true", stdin=given))  # reads nothing of it
    assert record.exit_code == 0


async def test_the_child_inherits_nothing_but_three_streams_and_its_own_environment(host: Host) -> None:
    program = (
        "import os,json;fds=sorted(int(n) for n in os.listdir('/proc/self/fd'));"
        "links={n:os.readlink(f'/proc/self/fd/{n}') for n in fds[:3]};"
        "print(json.dumps([fds[:3],len(fds),links,dict(os.environ),os.getsid(0)==os.getpid(),os.getcwd()]))"
    )
    _, run = await host.run(python(program, cwd="/tmp", env={"PATH": os.environ["PATH"], "ÄPFEL": "gruen"}))
    fds, count, links, environment, leads_session, cwd = json.loads(run.log())
    assert (fds, count, links["0"]) == ([0, 1, 2], 4, "/dev/null")  # the fourth is the listing itself
    assert links["1"].startswith("pipe:")
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "ÄPFEL", "BANKSMAN_COOKIE", "BANKSMAN_SOCKET"}
    assert leads_session
    assert cwd == "/tmp"


async def test_signals_are_back_to_their_defaults_in_the_child(host: Host) -> None:
    _, run = await host.run(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"))
    # 32 and 33 belong to the C library, which lets nobody set them; whoever started the tests may have ignored them.
    ours = ~(1 << 31 | 1 << 32)
    assert {int(line.split()[1], 16) & ours for line in run.log().splitlines()} == {0}, run.log()


async def test_steps_run_in_order_and_each_record_names_its_step(host: Host) -> None:
    record, run = await host.run(shell("echo one"), shell("echo two"))
    assert [(item.step, item.data) for item in run.items()] == [(0, b"one\n"), (1, b"two\n")]
    assert [(part.index, part.exit_code) for part in record.steps] == [(0, 0), (1, 0)]
    assert [event.step for event in run.events if isinstance(event, Started)] == [0, 1]
    assert [event.record.index for event in run.events if isinstance(event, StepEnded)] == [0, 1]
    assert record.steps[0].started_at_ns <= record.steps[0].ended_at_ns <= record.steps[1].started_at_ns


async def test_the_first_failure_ends_the_attempt_but_for_steps_that_always_run(host: Host) -> None:
    record, run = await host.run(shell("exit 3"), shell("echo skipped"), shell("echo cleaned", always=True))
    assert (record.outcome, record.reason, record.exit_code) == (Outcome.ENDED_BADLY, Reason.EXIT_NONZERO, 3)
    assert [part.index for part in record.steps] == [0, 2]
    assert run.log() == b"cleaned\n"


async def test_success_is_what_the_step_calls_success(host: Host) -> None:
    record, _ = await host.run(shell("exit 3", success_exit_codes=frozenset({0, 3})))
    assert (record.outcome, record.exit_code) == (Outcome.ENDED_WELL, 3)
    record, _ = await host.run(shell("exit 0", success_exit_codes=frozenset({3})))
    assert (record.outcome, record.exit_code) == (Outcome.ENDED_BADLY, 0)


async def test_death_by_signal_is_told(host: Host) -> None:
    record, _ = await host.run(shell("kill -SEGV $$"))
    assert (record.outcome, record.reason, record.signal) == (Outcome.ENDED_BADLY, Reason.SIGNALLED, signal.SIGSEGV)
    assert record.exit_code is None


def _script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("argv", "cwd", "number", "said"),
    [
        (("no-such-program-here",), "/", errno.ENOENT, "program 'no-such-program-here' was not found in PATH"),
        (("/no/such/program",), "/", errno.ENOENT, "program '/no/such/program' was not found"),
        (("{plain}",), "/", errno.EACCES, "no execute permission"),
        (("{lost}",), "/", errno.ENOENT, "the interpreter that it names was not found (/no/such/interpreter)"),
        (("{nothing}",), "/", errno.ENOEXEC, "a script needs a #! line"),
        (("/tmp",), "/", errno.EACCES, "is a directory"),
        (("true",), "/no/such/place", errno.ENOENT, "the working directory '/no/such/place' cannot be entered"),
        (("true", "x" * 200_000), "/", errno.E2BIG, "too long"),
        (("true", "nul\0byte"), "/", errno.EINVAL, "cannot be executed"),
    ],
)
async def test_a_program_that_cannot_start_says_why(
    host: Host, tmp_path: Path, argv: tuple[str, ...], cwd: str, number: int, said: str
) -> None:
    places = {
        "{plain}": _script(tmp_path / "plain", "#!/bin/sh\n", 0o644),
        "{lost}": _script(tmp_path / "lost", "#!/no/such/interpreter\n"),
        "{nothing}": _script(tmp_path / "nothing", "not a program\n"),
    }
    record, run = await host.run(step(*(places.get(part, part) for part in argv), cwd=cwd))
    assert (record.outcome, record.reason) == (Outcome.START_FAILED, Reason.SPAWN_FAILED)
    assert record.steps[0].spawn_errno == number
    assert said in record.message
    assert record.exit_code is None
    assert record.tree_empty
    assert not any(isinstance(event, Started) for event in run.events)
    assert b"banksman: " + record.message.encode()[:100] in run.log(SYSTEM)


async def test_a_later_step_that_cannot_start_ends_the_attempt_badly(host: Host) -> None:
    record, _ = await host.run(shell("exit 0"), step("no-such-program-here"))
    assert (record.outcome, record.reason) == (Outcome.ENDED_BADLY, Reason.SPAWN_FAILED)
    assert record.exit_code is None


async def test_secrets_never_reach_the_disk(host: Host) -> None:
    secret = b"s3cr3t-value-0123456789"
    text = secret.decode()
    record, run = await host.run(
        shell(f"echo $TOKEN; echo {text} >&2; cat; printf %s $TOKEN | base64; sleep 0.01", stdin=secret,
              env={"PATH": os.environ["PATH"], "TOKEN": text}),
        masks=(secret,),
    )  # fmt: skip
    assert run.log(STDOUT).startswith(b"***\n***")
    assert run.log(STDERR) == b"***\n"
    needles = (secret, base64.b64encode(secret)[:-4])
    for path in run.directory.iterdir():
        if path.is_file():
            assert not any(needle in path.read_bytes() for needle in needles), path.name
    assert record.exit_code == 0


async def test_a_run_can_add_masks_and_tell_progress_and_a_result(host: Host) -> None:
    program = """
import json, os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["BANKSMAN_SOCKET"]); f = s.makefile("rw")
def ask(**m):
    f.write(json.dumps(m) + "\\n"); f.flush(); return json.loads(f.readline())
print("found-at-run-time", flush=True)
assert ask(type="add_mask", value="found-at-run-time") == {"ok": True}
print("found-at-run-time", flush=True)
assert ask(type="progress", fraction=0.5, text="half, found-at-run-time") == {"ok": True}
assert ask(type="progress", percent=30, stage="less") == {"ok": True}
assert ask(type="result", value={"made": [1, 2]}) == {"ok": True}
assert not ask(type="add_mask", value="short")["ok"]
assert not ask(type="progress", fraction=7)["ok"]
assert not ask(type="result", value="x" * 300_000)["ok"]
assert not ask(type="launch")["ok"]
"""
    record, run = await host.run(python(program))
    assert run.log() == b"found-at-run-time\n***\n"
    told = [event for event in run.events if isinstance(event, Progress)]
    assert (told[0].fraction, told[0].stage, told[0].text) == (0.5, "", "half, ***")
    assert record.progress is not None
    assert (record.progress.fraction, record.progress.stage, record.progress.text) == (0.5, "less", "")
    assert told == sorted(told, key=lambda progress: progress.at_ns)
    assert Result(json='{"made":[1,2]}') in run.events
    assert record.result_json == '{"made":[1,2]}'
    assert record.exit_code == 0


async def test_the_agent_can_add_a_mask_to_a_live_run(host: Host, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = await host.start(shell(f"echo before-the-mask; read line < {fifo}; echo before-the-mask"))
    await run.bytes_below(len("before-the-mask\n"))
    await run.link.add_mask(b"before-the-mask")
    fifo.write_text("go\n")
    await run.end()
    assert run.log() == b"before-the-mask\n***\n"


async def test_the_middle_of_an_overlong_log_is_a_gap_and_the_run_is_not_blocked(host: Host) -> None:
    size, limit = 4 << 20, 1 << 20
    record, run = await host.run(
        python(f"import sys; sys.stdout.buffer.write(b''.join(b'%07d\\n' % i for i in range({size // 8})))"),
        log_limit_bytes=limit,
    )
    whole = b"".join(b"%07d\n" % i for i in range(size // 8))
    assert record.final_offset == size
    ((start, end),) = record.gaps
    assert limit // 2 < start < limit
    assert size - limit // 2 < end < size
    expected = LogDigest()
    items = read_all(run.directory, record.final_offset)
    for item in items:
        if hasattr(item, "data"):
            assert item.data == whole[item.offset : item.offset + len(item.data)]
            expected.data(item.data)
        else:
            assert (item.start, item.end) == (start, end)
            expected.gap(item.end)
    assert expected.offset == size
    assert record.digest == expected.hex()


async def test_usage_and_times_are_told(any_host: Host) -> None:
    record, _ = await any_host.run(python("sum(i * i for i in range(1_000_000))"))
    assert record.usage.source in ("cgroup", "wait4")
    assert record.usage.cpu_user_s + record.usage.cpu_system_s > 0
    assert record.usage.max_rss_bytes > 1 << 20
    assert record.started_at_ns is not None
    assert record.ended_at_ns is not None
    assert record.started_at_ns <= record.ended_at_ns


async def test_the_lock_is_not_inherited_by_the_child(host: Host) -> None:
    run = await host.start(step("sleep", "1000"))
    await run.until(Started)
    inode = (run.directory / "lock").stat().st_ino
    open_files = [os.stat(f"/proc/{pid}/fd/{name}") for pid in run.pids() for name in os.listdir(f"/proc/{pid}/fd")]
    assert len(open_files) >= 3
    assert inode not in [file.st_ino for file in open_files]
