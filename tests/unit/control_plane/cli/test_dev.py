"""The children of `banksman dev`: started, waited for, and stopped whatever they do. Stand-ins play the programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from banksman.v1 import runner_pb2
from google.protobuf import empty_pb2

from control_plane.cli import dev as dev_command
from control_plane.cli import dev_instance
from control_plane.cli.client import Client
from control_plane.cli.clock import SystemClock
from control_plane.cli.dev import Stopping
from control_plane.cli.dev_instance import Child, Programs
from control_plane.cli.errors import CliError
from control_plane.cli.target import Target
from tests.unit.control_plane.cli.console import FakeClock, banksman
from tests.unit.fake_channel import Answer, FakeControlPlane
from tests.waiting import wait_for

SERVER = """
import json, os, signal, sys
directory = sys.argv[sys.argv.index("--state-dir") + 1]
os.makedirs(directory, exist_ok=True)
path = os.path.join(directory, "admin.json")
with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    json.dump({"url": "http://" + sys.argv[sys.argv.index("--listen") + 1], "token": "t", "pid": os.getpid()}, file)
os.rename(path + ".new", path)
signal.sigwait([signal.SIGTERM])
"""
BROKEN = "import sys; sys.exit('the port is taken')"
RUNNER = """
import json, os, signal, sys
base = os.path.dirname(sys.argv[sys.argv.index("--state-dir") + 1])
with open(os.path.join(base, "argv.new"), "w") as file:
    json.dump(sys.argv[1:], file)
os.rename(os.path.join(base, "argv.new"), os.path.join(base, "argv"))
signal.sigwait([signal.SIGTERM])
"""
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


def stand_in(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_server_is_there_once_it_has_said_where(tmp_path: Path) -> None:
    programs = Programs(server=stand_in(SERVER))
    child, local = dev_instance.start_server(tmp_path, "127.0.0.1:1", SystemClock(), programs)
    try:
        assert local.url == "http://127.0.0.1:1"
        assert local.pid == child.process.pid
        assert os.getsid(child.process.pid) == child.process.pid, "Ctrl-C of the terminal does not reach it"
    finally:
        dev_instance.stop_server(child)
    assert not child.running()


def test_what_an_earlier_life_left_is_not_taken_for_the_new_server(tmp_path: Path) -> None:
    stale = tmp_path / "server" / "admin.json"
    stale.parent.mkdir()
    stale.write_text(json.dumps({"url": "http://127.0.0.1:9", "token": "old", "pid": 1}))
    stale.chmod(0o600)
    with pytest.raises(CliError) as caught:
        dev_instance.start_server(tmp_path, "127.0.0.1:1", SystemClock(), Programs(server=stand_in(BROKEN)))
    assert caught.value.exit_code == 5
    assert "the port is taken" in caught.value.details
    assert "old" in stale.read_text(), "its token is there for the next server, which would make another one"
    child, local = dev_instance.start_server(tmp_path, "127.0.0.1:1", SystemClock(), Programs(server=stand_in(SERVER)))
    dev_instance.stop_server(child)
    assert local.url == "http://127.0.0.1:1"


@pytest.mark.parametrize(("end", "says"), [("exit 3", "with exit code 3"), ("kill -9 $$", "by signal 9 (SIGKILL)")])
def test_a_program_that_ends_by_itself_is_told_in_words(tmp_path: Path, end: str, says: str) -> None:
    child = dev_instance.launch("server", ["sh", "-c", end], tmp_path)
    child.process.wait()
    with pytest.raises(CliError, match="ended by itself") as caught:
        Stopping().wait((child,))
    assert says in caught.value.message


def test_one_instance_a_directory(tmp_path: Path) -> None:
    with dev_instance.claimed(tmp_path), pytest.raises(CliError) as caught, dev_instance.claimed(tmp_path):
        pass
    assert caught.value.exit_code == 6
    assert "running already" in caught.value.message
    with dev_instance.claimed(tmp_path / "other"):
        assert (tmp_path / "other").stat().st_mode & 0o777 == 0o700


def test_a_server_that_outlived_its_dev_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        admin = tmp_path / "server" / "admin.json"
        admin.parent.mkdir()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        admin.write_text(json.dumps({"url": url, "token": "t", "pid": os.getpid()}))
        admin.chmod(0o600)
        with pytest.raises(CliError, match=url), dev_instance.claimed(tmp_path):
            pass


def test_a_taken_port_gives_way_to_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(dev_instance, "DEFAULT_PORT", taken.getsockname()[1])
        assert dev_instance.free_address() == "127.0.0.1:0"


def answers(*states: bool, taken: tuple[str, ...] = ()) -> list[tuple[str, Answer]]:
    def listed(*runners: runner_pb2.Runner) -> tuple[str, Answer]:
        return ("ListRunners", runner_pb2.ListRunnersResponse(runners=runners))

    made = runner_pb2.CreateJoinTokenResponse(secret="bnk_join_x", join_token=runner_pb2.JoinToken(id="j1"))
    name = "dev-3" if taken else "dev"
    return [
        listed(*(runner_pb2.Runner(name=other) for other in taken)),
        ("CreateJoinToken", made),
        *(listed(runner_pb2.Runner(name=name, connected=connected)) for connected in states),
        ("DeleteJoinToken", empty_pb2.Empty()),
    ]


def client_of(plane: FakeControlPlane) -> Client:
    url = "http://127.0.0.1:1"
    target = Target(url=url, token="t", address="127.0.0.1:1", tls=False, project="", source="test")
    return Client(plane.channel, target, FakeClock())  # type: ignore[arg-type]


def test_the_runner_is_there_once_the_control_plane_sees_it(tmp_path: Path) -> None:
    plane = FakeControlPlane(answers(False, True, taken=("dev", "dev-2")))
    programs = Programs(runner=stand_in(RUNNER))
    child, name = dev_instance.start_runner(
        tmp_path, client_of(plane), FakeClock(), programs, slots=3, labels=("a=b", "c=d")
    )
    try:
        plane.finish()
        assert name == "dev-3"
        assert not (tmp_path / "join.token").exists()
        argv = json.loads(
            wait_for(lambda: (tmp_path / "argv").exists(), what="its argv") and (tmp_path / "argv").read_text()
        )
        assert argv[0] == "run"
        options = dict(zip(argv[1::2], argv[2::2], strict=True))
        assert (options["--name"], options["--slots"], options["--server"]) == ("dev-3", "3", "http://127.0.0.1:1")
        assert [argv[at + 1] for at, word in enumerate(argv) if word == "--label"] == ["a=b", "c=d"]
        assert "bnk_join_x" not in argv
    finally:
        dev_instance.stop_runner(child)
    (tmp_path / "runner").mkdir()
    assert dev_instance.runner_name(tmp_path, client_of(FakeControlPlane([]))) == "dev-3", "it keeps its name"


def test_a_runner_that_does_not_come_up_is_told_with_its_words(tmp_path: Path) -> None:
    plane = FakeControlPlane([*answers()[:2], ("DeleteJoinToken", empty_pb2.Empty())])
    child = Programs(runner=stand_in("import sys; sys.exit('no fork server')"))
    launched = dev_instance.launch

    def ended(name: str, argv: list[str], base: Path) -> Child:
        started = launched(name, argv, base)
        started.process.wait()
        return started

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dev_instance, "launch", ended)
        with pytest.raises(CliError) as caught:
            dev_instance.start_runner(tmp_path, client_of(plane), FakeClock(), child, slots=1, labels=())
    assert "no fork server" in caught.value.details
    plane.finish()


def test_a_runner_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_instance, "RUNNER_PATIENCE_S", (0.05, 0.05))
    child = dev_instance.launch("runner", stand_in(STUBBORN), tmp_path)
    wait_for(lambda: "ready" in child.log.read_text(), what="it ignores SIGTERM")
    dev_instance.stop_runner(child)
    assert child.process.returncode == -signal.SIGKILL


def test_a_program_that_ends_by_itself_ends_the_wait(tmp_path: Path) -> None:
    child = dev_instance.launch("server", stand_in(BROKEN), tmp_path)
    child.process.wait()
    with pytest.raises(CliError) as caught:
        Stopping().wait((child,))
    assert caught.value.exit_code == 5
    assert "the port is taken" in caught.value.details


def test_a_signal_breaks_off_then_ends_the_wait_then_hastens() -> None:
    stopping = Stopping()
    with pytest.raises(KeyboardInterrupt):
        stopping.take(signal.SIGINT)
    stopping._waiting = True
    stopping.take(signal.SIGTERM)
    stopping.wait(())
    hastened: list[str] = []
    stopping.hasten = lambda: hastened.append("now")
    stopping.take(signal.SIGINT)
    assert hastened == ["now"]


def test_without_the_extras_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dev_command, "NEEDED", ("no_such_module",))
    outcome = banksman("dev", "--state-dir", str(tmp_path))
    assert outcome.exit_code == 2
    assert "pip install 'banksman[server,runner]'" in outcome.stderr
