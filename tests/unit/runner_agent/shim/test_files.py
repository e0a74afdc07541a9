"""Files that are whole or not there, locks, and what the kernel says of processes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runner_agent.shim import files, tree
from runner_agent.shim.codec import BadMessage


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_once(str(tmp_path), "identity", b"one")
    assert (tmp_path / "identity").read_bytes() == b"one"

    def fails(*_: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="input/output"):
        files.write_once(str(tmp_path), "identity", b"two")
    assert (tmp_path / "identity").read_bytes() == b"one"
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600


def test_the_exit_record_goes_into_blocks_that_were_set_aside(tmp_path: Path) -> None:
    files.reserve(str(tmp_path))
    reserved = (tmp_path / files.RESERVE).stat()
    assert reserved.st_blocks * 512 >= files.RESERVE_BYTES
    files.write_exit(str(tmp_path), b"x" * 600_000)
    written = (tmp_path / "exit").stat()
    assert (written.st_ino, written.st_size) == (reserved.st_ino, 600_000)
    assert not (tmp_path / files.RESERVE).exists()


def test_a_lock_is_held_once_and_goes_with_its_descriptor(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = files.try_lock(path)
    assert held is not None
    assert files.try_lock(path) is None
    os.close(held)
    again = files.try_lock(path)
    assert again is not None
    os.close(again)


def test_json_files_are_read_or_refused(tmp_path: Path) -> None:
    assert files.read_json(str(tmp_path), "none") is None
    (tmp_path / "good").write_text('{"a": 1}')
    assert files.read_json(str(tmp_path), "good") == {"a": 1}
    for content in ("", "{", "[]", "[" * 100_000, '{"a": "' + "x" * 100 + '"}'):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(BadMessage):
            files.read_json(str(tmp_path), "bad", limit_bytes=100)


def test_a_process_is_read_whatever_its_name() -> None:
    name = b"a) S 1 (b\n"
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
    stat = files.process_stat(os.getpid())
    ctypes.CDLL(None).prctl(15, b"python", 0, 0, 0)
    assert stat is not None
    assert (stat.parent, stat.state) == (os.getppid(), "R")
    assert stat.start_time == files.start_time(os.getpid())


def test_no_signal_reaches_a_later_namesake() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    start = files.start_time(sleeper.pid)
    assert start is not None
    assert not tree.send(sleeper.pid, 9, start + 1)
    assert sleeper.poll() is None
    assert tree.send(sleeper.pid, 9, start)
    assert sleeper.wait() == -9
    assert files.process_stat(sleeper.pid) is None
    assert not tree.send(sleeper.pid, 9, start)
    assert not tree.send(1, 0, None)
    assert not tree.send(0, 0, None)


def test_the_rehearsal_and_the_whole_room_need_only_the_standard_library() -> None:
    root = Path(files.__file__).parents[2]
    program = (
        f"import sys; sys.path.append({str(root)!r}); import runner_agent.shim.fork_server; "
        "from runner_agent.shim.rehearsal import rehearse; rehearse(); "
        "unwanted = {'asyncio', 'threading', 'grpc', 'site', 'random'}; "
        "print([name for name in sys.modules if name.split('.')[0] in unwanted])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["mountinfo", "limits", "oom_score_adj"])
def test_a_file_of_the_kernel_is_read_to_its_end(name: str) -> None:
    assert files.read_kernel(f"/proc/self/{name}") == Path(f"/proc/self/{name}").read_bytes()


def test_a_file_of_the_kernel_that_ends_in_mid_read_is_read_on() -> None:
    # One read of /proc gives a page at most; a pipe gives what is there.
    read_end, write_end = os.pipe()
    os.write(write_end, b"first ")
    reading = threading.Thread(target=lambda: found.append(files.read_kernel(f"/proc/self/fd/{read_end}")))
    found: list[bytes] = []
    reading.start()
    os.write(write_end, b"second")
    os.close(write_end)
    reading.join(10)
    os.close(read_end)
    assert found == [b"first second"]
