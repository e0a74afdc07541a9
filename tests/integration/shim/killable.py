"""An agent in another process, from the outside: it has started one attempt, and is there to be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import runner_agent
from runner_agent.execution.shim_link import AttemptStart
from runner_agent.shim import codec

ROOT = Path(runner_agent.__file__).parent.parent


class Agent:
    """A killable agent process that has started one attempt."""

    def __init__(self, path: Path, start: AttemptStart, **environment: str) -> None:
        spec = path.parent / "start.json"
        spec.write_text(json.dumps(codec.to_json(start)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.shim.agent", str(path), str(spec)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.fork_server, self.shim = map(int, self.process.stdout.readline().split())

    def says(self, word: str) -> None:
        """Wait until it prints a line that begins with this."""
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith(word):
            assert line, f"it ended without saying {word}"

    def hears(self, deadline_boottime_ns: int) -> None:
        """Have it move the loss deadline."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{deadline_boottime_ns}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
