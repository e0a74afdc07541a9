"""Files that a run leaves, with the real programs: uploaded, listed, downloaded, whole and once whatever dies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest
from banksman.v1 import artifact_pb2, run_pb2, spec_pb2

from tests.fakes.uploads import Upload
from tests.scenarios.house import House, unshared
from tests.scenarios.specs import script, seconds, spec
from tests.scenarios.wire import labels, played, record
from tests.waiting import wait_for

SUCCEEDED, FAILED = run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED
LARGE_BYTES = 3 << 20

LEAVE = f"""
set -e
mkdir -p dist/deep/er
printf one > dist/a.txt
printf two > dist/deep/er/b.bin
printf '#!/bin/sh\\n' > dist/tool && chmod +x dist/tool
ln -s /etc/passwd dist/link.txt
ln -s /etc outside
head -c {LARGE_BYTES} /dev/zero | tr '\\0' 'x' > large.out
"""


def patterns(*paths: str, required: tuple[str, ...] = ()) -> list[spec_pb2.ArtifactPattern]:
    return [spec_pb2.ArtifactPattern(path=path, required=path in required) for path in (*paths, *required)]


def stored(house: House, run: str) -> dict[str, artifact_pb2.Artifact]:
    found = house.doors.runs.ListArtifacts(artifact_pb2.ListArtifactsRequest(run=run)).artifacts
    assert len({each.name for each in found}) == len(found), found
    return {each.name: each for each in found}


def notes(house: House, run: str) -> str:
    kind = run_pb2.RUN_EVENT_TYPE_EVIDENCE_ADDED
    return " ".join(event.note for event in house.events(run) if event.type == kind)


def kept(house: House, kind: str) -> list[str]:
    return [path.name for path in (house.root / "r0" / kind).glob("*.*")]


def test_what_is_named_is_there_when_the_run_has_settled(shared: House) -> None:
    wanted = patterns("dist", "*.out", "outside/passwd", "none-*.log")
    run = shared.execute(spec(script(LEAVE), artifacts=wanted))
    assert run.state == SUCCEEDED
    found = stored(shared, run.id)
    assert set(found) == {"dist/a.txt", "dist/deep/er/b.bin", "dist/tool", "large.out"}
    assert found["dist/a.txt"].sha256 == hashlib.sha256(b"one").hexdigest()
    assert [found[name].executable for name in ("dist/tool", "dist/a.txt")] == [True, False]
    assert found["large.out"].size_bytes == LARGE_BYTES
    told = notes(shared, run.id)
    assert "nothing matches 'none-*.log'" in told
    assert "dist/link.txt is a symbolic link" in told
    assert "outside is a symbolic link" in told
    events = [event.type for event in shared.events(run.id)]
    assert events.index(run_pb2.RUN_EVENT_TYPE_SUCCEEDED) < events.index(run_pb2.RUN_EVENT_TYPE_SETTLED)

    listed = shared.cli("run", "artifacts", run.id)
    assert (listed.returncode, b"dist/deep/er/b.bin" in listed.stdout) == (0, True), listed
    assert b"artifacts" in shared.cli("run", "get", run.id).stdout
    target = unshared(shared)
    (target / "large.out.part").write_bytes(b"x" * 1000)
    done = shared.cli("run", "download", run.id, "--to", str(target))
    assert done.returncode == 0, done.stderr
    assert (target / "dist/a.txt").read_bytes() == b"one"
    assert (target / "large.out").read_bytes() == b"x" * LARGE_BYTES
    assert os.access(target / "dist/tool", os.X_OK)
    again = shared.cli("run", "download", run.id, "large.out", "--to", str(target))
    assert (again.returncode, b"is there" in again.stderr) == (0, True), again
    unknown = shared.cli("run", "download", run.id, "nothing", "--to", str(target))
    assert unknown.returncode == 3, unknown
    (target / "dist/a.txt").write_bytes(b"mine")
    kept = shared.cli("run", "download", run.id, "dist/a.txt", "--to", str(target))
    assert (kept.returncode, (target / "dist/a.txt").read_bytes()) == (6, b"mine"), kept


def test_what_is_required_and_not_there_fails_a_run_that_went_well(shared: House) -> None:
    run = shared.execute(spec(script("true"), artifacts=patterns(required=("report.xml",))))
    assert (run.state, run.reason) == (FAILED, run_pb2.REASON_VALIDATION_FAILED)
    assert "'report.xml'" in run.error_message
    run = shared.execute(spec(script("echo 1 > report.xml"), artifacts=patterns(required=("report.xml",))))
    assert (run.state, list(stored(shared, run.id))) == (SUCCEEDED, ["report.xml"])


def test_a_workspace_stays_as_its_policy_says(shared: House) -> None:
    policy = spec_pb2.WorkspacePolicy(removal=spec_pb2.WORKSPACE_REMOVAL_ON_SUCCESS, keep=seconds(30 * 86_400))
    bad = shared.execute(spec(script("echo why > note; exit 3"), workspace=policy))
    path = bad.attempts[0].workspace_path
    assert path.encode() in shared.cli("run", "get", bad.id).stdout
    with open(f"{path}/note", encoding="utf-8") as file:
        assert file.read() == "why\n"
    good = shared.execute(spec(script("echo why > note"), workspace=policy))
    assert good.attempts[0].workspace_path == ""
    assert not bad.attempts[0].workspace_kept_until.ToSeconds() < bad.attempts[0].ended_at.ToSeconds() + 29 * 86_400


@pytest.fixture
def own() -> Iterator[House]:
    with House() as house:
        house.agent("r1", labels={"name": "r1"})
        yield house


async def test_it_is_whole_and_there_once_whoever_dies(own: House) -> None:
    """The server dies between two chunks of one run and before the end of another, whose agent dies over its end."""
    agent, hold, data = own.agents["r1"], own.fifo("hold"), bytes(range(256)) * 1_024
    policy = spec_pb2.WorkspacePolicy(removal=spec_pb2.WORKSPACE_REMOVAL_NEVER, keep=seconds(1))
    size = 4 << 20
    text = f"read line < {hold.path}; head -c {size} /dev/zero > big; printf end > small"
    wanted = spec(script(text), artifacts=patterns("big", "small"), workspace=policy, labels={"name": "r1"})
    run = own.submit(wanted).id
    own.wait_state(run, run_pb2.RUN_STATE_RUNNING)
    async with played(own) as wire, wire.runner.session(labels=labels(wire)) as (stream, _):
        other, key = await wire.begun(stream, artifacts=patterns("f"))
        await stream.exited(key, record())
        await wire.until(other, SUCCEEDED)
        upload = Upload(wire.runner)
        await upload.open(key)
        await upload.begin("f", data)
        assert (await upload.chunk(0, data[:100_000]))[1].offset == 100_000
        own.server.kill_dash_nine()
        hold.send()
        exit_file = next((own.root / "r0" / "runs").glob("*.*")) / "exit"
        wait_for(exit_file.exists, what="it has ended")
        agent.kill_dash_nine()
        own.start_server()
        agent.start()
        assert stored(own, other.id) == {}
        upload = Upload(wire.runner)
        await upload.open(key)
        assert (await upload.begin("f", data))[1].offset == 100_000
        assert (await upload.chunk(100_000, data[100_000:]))[0] == "stored"
    done = own.wait(run)
    found = stored(own, run)
    assert done.state == SUCCEEDED
    assert {name: each.size_bytes for name, each in found.items()} == {"big": size, "small": 3}
    assert found["big"].sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert stored(own, other.id)["f"].sha256 == hashlib.sha256(data).hexdigest()
    files = own.server_directory / "artifacts"
    assert len([path for path in files.rglob("*") if path.is_file()]) == 3
    wait_for(lambda: not kept(own, "runs") and not kept(own, "workspaces"), what="the runner has forgotten it")
    own.doors.runs.DeleteRun(run_pb2.DeleteRunRequest(run=run))
    wait_for(lambda: not list(files.rglob(f"*{run}*")), what="its files are gone with it")
