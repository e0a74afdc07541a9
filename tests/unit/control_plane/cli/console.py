"""Run the CLI in this process, against a scripted control plane, with a clock and an environment of its own."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from click.testing import CliRunner

from control_plane.cli.invocation import Invocation
from control_plane.cli.main import cli
from tests.unit.fake_channel import Answer, Call, FakeControlPlane

TOKEN = "bnk_user_000000000000000000000000000000abcdef"
ENVIRON = {"BANKSMAN_URL": "http://127.0.0.1:1", "BANKSMAN_TOKEN": TOKEN, "HOME": "/nonexistent"}
NOW = datetime.datetime(2026, 1, 2, 12, 0, tzinfo=datetime.UTC)


@dataclass
class FakeClock:
    """Time passes only by sleeping."""

    at: datetime.datetime = NOW
    slept_s: float = 0.0

    def now(self) -> datetime.datetime:
        return self.at + datetime.timedelta(seconds=self.slept_s)

    def monotonic_s(self) -> float:
        return self.slept_s

    def sleep(self, duration_s: float) -> None:
        self.slept_s += duration_s


@dataclass(frozen=True)
class Outcome:
    """What a call of the program left behind."""

    exit_code: int
    stdout: str
    stdout_bytes: bytes
    stderr: str
    calls: list[Call]


def banksman(
    *args: str,
    script: Sequence[tuple[str, Answer]] = (),
    environ: Mapping[str, str] = ENVIRON,
    given: bytes | None = None,
) -> Outcome:
    """Call the program; the script must be used up, and nothing else called."""
    plane = FakeControlPlane(script)
    inv = Invocation(environ=environ, clock=FakeClock(), connect=lambda target: plane.channel)  # type: ignore[return-value,arg-type]
    result = CliRunner().invoke(cli, list(args), obj=inv, input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    plane.finish()
    return Outcome(result.exit_code, result.stdout, result.stdout_bytes, result.stderr, plane.calls)
