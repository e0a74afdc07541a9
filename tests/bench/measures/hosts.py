"""What an operator meets: an agent that is started again among live runs, the CLI's own start, and bytes on disk."""

from __future__ import annotations

import asyncio
import os
import pathlib
import resource
import sqlite3
import statistics
import time

from banksman.v1 import runner_pb2, session_pb2

from control_plane.storage.sqlite import DATABASE_NAME
from tests.bench.measures.children import printing
from tests.bench.measures.loads import product
from tests.bench.measures.throughput import submit_all
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Product, Setup
from tests.scenarios.house import Agent, House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

LIVE = 100
LINES_BYTES = 100_000


@measurement(
    "re-attach",
    says="an agent is killed and started again while its runs go on",
    figures=(
        Figure(name="re-attach 100", label=f"agent start → all {LIVE} live attempts held again", unit="s"),
        Figure(name="re-attach cpu", label="… CPU of the agent for it", unit="s"),
    ),
    limits=Limits(full=60),
)
async def reattach(round: Round) -> None:
    house = await asyncio.to_thread(House)
    try:
        agent = await asyncio.to_thread(house.agent, "many", slots=LIVE)
        took_s, cpu_s = await asyncio.to_thread(_restarted, house, agent, round.pick(full=LIVE, quick=10, tiny=2))
        round.record("re-attach 100", took_s)
        round.record("re-attach cpu", cpu_s)
    finally:
        await asyncio.to_thread(house.close)


def _restarted(house: House, agent: Agent, count: int) -> tuple[float, float]:
    """Seconds, and the new agent's CPU seconds, from its start until all its runs are attached."""
    runs = {house.submit(spec(["sleep", "1000"], grace=seconds(1))).id for _ in range(count)}
    before = wait_for(lambda: _holding(house, agent, runs, 0), what=f"{count} runs are live", timeout_s=60)
    agent.kill_dash_nine()
    begin = time.monotonic()
    agent.start()
    # The control plane is told in the next heartbeat, which is seconds away: the agent itself says when it has them.
    wait_for(lambda: _newer(house, agent, before) and "all_found_again" in agent.said(), what="all are held again")
    took_s = time.monotonic() - begin
    used_s = _used_s(agent.pid)
    wait_for(lambda: _holding(house, agent, runs, before), what=f"{count} runs run on", timeout_s=60)
    return took_s, used_s


def _newer(house: House, agent: Agent, epoch: int) -> bool:
    """Whether the runner has a session that began after this one."""
    now = house.doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner=agent.name))
    return now.connected and now.session_epoch > epoch


def _holding(house: House, agent: Agent, runs: set[str], newer_than: int) -> int:
    """The session's epoch, once it is newer and the runner lists all these runs in it as running; else 0."""
    agent.expect_running()
    now = house.doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner=agent.name))
    if not now.connected or now.session_epoch <= newer_than:
        return 0
    listed = {each.run_id for each in now.attempts if each.phase == session_pb2.HELD_PHASE_RUNNING}
    return now.session_epoch if runs <= listed else 0


def _used_s(pid: int) -> float:
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@measurement(
    "cli",
    says="the program `banksman` from its start to its end, one after another",
    figures=(
        Figure(name="cli help", label="banksman --help", unit="ms"),
        Figure(name="cli help cpu", label="… CPU", unit="ms"),
        Figure(name="cli list", label="banksman run list (20 runs)", unit="ms"),
        Figure(name="cli list cpu", label="… CPU", unit="ms"),
    ),
    limits=Limits(full=40, quick=10),
    setup=Setup(floor=False),
)
async def cli(round: Round) -> None:
    house = product(round).house
    await submit_all(round, 20)
    await round.system.idle()
    for name, words in (("help", ("--help",)), ("list", ("run", "list"))):
        found = [await asyncio.to_thread(_called, house, words) for _ in range(round.pick(full=15, quick=5, tiny=1))]
        round.record(f"cli {name}", statistics.median(took for took, _ in found) * 1000)
        round.record(f"cli {name} cpu", statistics.median(cpu for _, cpu in found) * 1000)


def _called(house: House, words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds and CPU seconds of one call."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    assert house.cli(*words).returncode == 0
    took_s, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@measurement(
    "bytes",
    says="what runs leave on the control plane's disk; the logs are those of runs that print 100-byte lines",
    figures=(
        Figure(name="bytes database", label="database bytes a no-op run", unit="B"),
        Figure(
            name="bytes log live", label="log bytes on disk for each byte printed, before it is compressed", unit="B"
        ),
    ),
    limits=Limits(full=35),
    setup=Setup(floor=False),
)
async def kept(round: Round) -> None:
    system = product(round)
    runs, printers = round.pick(full=400, quick=100, tiny=4), round.pick(full=10, quick=5, tiny=1)
    before = await asyncio.to_thread(_database_bytes, system)
    await submit_all(round, runs)
    await round.system.idle()
    round.record("bytes database", (await asyncio.to_thread(_database_bytes, system) - before) / runs)
    logs = system.house.server_directory / "logs"
    before = _bytes_under(logs)
    for _ in range(printers):
        await system.wait(await system.submit(printing(LINES_BYTES)))
    round.record("bytes log live", (_bytes_under(logs) - before) / (printers * LINES_BYTES))


def _database_bytes(system: Product) -> int:
    """Pages in use, once what waits in the write-ahead log has been moved into the file."""
    connection = sqlite3.connect(system.house.server_directory / DATABASE_NAME, timeout=10, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        size, free, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((size - free) * page)
    finally:
        connection.close()


def _bytes_under(directory: pathlib.Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())
