"""The value of a secret reaches the child, and shows nowhere else."""

from __future__ import annotations

import os
import pathlib

import grpc
import pytest
from banksman.v1 import run_pb2, secret_pb2, spec_pb2

from tests.scenarios.children import python
from tests.scenarios.house import House
from tests.scenarios.specs import env, spec


def keep(house: House, name: str, value: bytes) -> None:
    house.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name=name, value=value))


def files_with(root: pathlib.Path, value: bytes) -> list[pathlib.Path]:
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(directory, name)
            if path.is_file() and not path.is_symlink() and value in path.read_bytes():
                found.append(path)
    return found


# Each piece is waited for until it was read: otherwise the pipe would put them together again.
PRINT_IN_PIECES = """
import fcntl, os, sys, termios, time
value = os.environb[b"TOKEN"]
size = int(sys.argv[1])
def put(fd, data):
    os.write(fd, data)
    while any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4))):
        time.sleep(0.0005)
for fd in (1, 2):
    put(fd, b"<")
    for at in range(0, len(value), size):
        put(fd, value[at:at + size])
    put(fd, b">\\n")
"""


@pytest.mark.parametrize("piece", [1, 3, 7, 4096])
@pytest.mark.parametrize("merged", [False, True])
def test_a_secret_is_masked_however_its_writes_are_cut(shared: House, piece: int, merged: bool) -> None:
    value = b"hunter2-%d-%d-aaaaaaab" % (piece, merged)
    name = f"PIECES_{piece}_{merged}"
    keep(shared, name, value)
    run = shared.execute(
        spec(python(PRINT_IN_PIECES, str(piece)), env=env(secrets=[("TOKEN", name)]), merge_output=merged)
    )
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    log = shared.log(run.id)
    assert value not in log
    assert value[:12] not in log, "not even a part"
    assert log.count(b"<") == log.count(b">") == 2, "what stands around it is there"


def test_the_child_itself_gets_the_value(shared: House) -> None:
    keep(shared, "EXACT", b"exactly this value")
    text = "import os, sys\nsys.exit(os.environb[b'TOKEN'] != b'exactly this value')\n"
    assert shared.execute(spec(python(text), env=env(secrets=[("TOKEN", "EXACT")]))).exit_code == 0


def test_lines_of_a_secret_are_masked_each_by_itself(shared: House) -> None:
    keep(shared, "PEM", b"-----BEGIN-----\nfirst-secret-line\nother-secret-line\n-----END-----\n")
    text = "import os\nfor line in reversed(os.environ['TOKEN'].splitlines()):\n    print('>', line, flush=True)\n"
    log = shared.log(shared.execute(spec(python(text), env=env(secrets=[("TOKEN", "PEM")]))).id)
    assert log.count(b">") == 4
    assert b"secret-line" not in log


def test_a_secret_lies_in_clear_in_no_file_and_no_answer(house: House) -> None:
    agent = house.agent("r1")
    value = b"correct-horse-battery-staple"
    keep(house, "TOKEN_OF_US", value)
    arrived, gate = house.fifo("arrived"), house.fifo("gate")
    text = (
        "import os, sys\nprint('before', os.environ['TOKEN'], flush=True)\n"
        "open(sys.argv[1], 'wb', 0).write(b'here\\n')\nopen(sys.argv[2], 'rb', 0).readline()\n"
        "print('after', os.environ['TOKEN'], flush=True)\nsys.exit(1)\n"
    )
    run = house.submit(spec(python(text, arrived.path, gate.path), env=env(secrets=[("TOKEN", "TOKEN_OF_US")])))
    arrived.receive()
    assert files_with(house.root, value) == []
    agent.kill_dash_nine()  # the masks live on in the shim
    agent.connect()
    gate.send()
    done = house.wait(run.id)
    assert files_with(house.root, value) == []
    log = house.log(run.id)
    assert value not in log
    assert log.startswith(b"before ")
    assert b"\nafter " in log
    assert value not in done.SerializeToString()
    assert all(value not in event.SerializeToString() for event in house.events(run.id))
    listed = house.doors.secrets.ListSecrets(secret_pb2.ListSecretsRequest())
    assert [secret.name for secret in listed.secrets] == ["TOKEN_OF_US"]
    assert value not in listed.SerializeToString()


def test_an_unknown_secret_is_refused_when_it_is_asked_for(shared: House) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        shared.submit(spec(["/bin/true"], env=[spec_pb2.EnvVar(name="A", secret_ref="NO_SUCH_SECRET")]))
    assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    assert "NO_SUCH_SECRET" in (refused.value.details() or "")


def test_a_secret_that_is_gone_by_then_fails_the_run(house: House) -> None:
    keep(house, "SHORT_LIVED", b"short lived value")
    run = house.submit(spec(["/bin/true"], env=env(secrets=[("A", "SHORT_LIVED")])))
    house.doors.secrets.DeleteSecret(secret_pb2.DeleteSecretRequest(name="SHORT_LIVED"))
    house.agent("r1")
    done = house.wait(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_FAILED, run_pb2.REASON_SECRET_UNAVAILABLE)
    assert "SHORT_LIVED" in done.error_message
