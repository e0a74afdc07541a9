"""Every console example in the documentation runs, in order, and says what the page says it says.

A block is left out only behind a comment `<!-- not run: why -->`. In a block, `$ command` is run by bash; the lines
below it, if there are any, are its whole stdout; a trailing `# exits N` names its exit code when that is not 0.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<comment><!-- not run: [^\n]+ -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    command: str
    output: str
    exit_code: int


def examples(page: pathlib.Path) -> Iterator[Example]:
    for block in BLOCK.finditer(page.read_text()):
        if block["comment"]:
            continue
        for part in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            code = re.search(r"# exits (\d+)$", command)
            yield Example(command=command, output=output, exit_code=int(code[1]) if code else 0)


@pytest.fixture
def instance() -> Iterator[dict[str, str]]:
    """A server and a runner of this page's own: pages may come in any order. Yields its environment."""
    with tempfile.TemporaryDirectory(prefix="bnk-docs-") as directory:
        home = pathlib.Path(directory)
        env = {
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": directory,
            "LANG": "C.UTF-8",
            "BANKSMAN_STATE_DIR": str(home / "dev" / "server"),
        }
        with (home / "dev.log").open("wb") as log:
            dev = subprocess.Popen(
                ["banksman", "dev", "--state-dir", str(home / "dev"), "--listen", "127.0.0.1:0"],
                env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(
                lambda: connected(env), what=f"a runner in session; {(home / 'dev.log').read_text()}", timeout_s=60
            )
            yield env
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.wait(timeout=TIMEOUT_S)


def connected(env: dict[str, str]) -> bool:
    answer = subprocess.run(["banksman", "runner", "list", "-o", "json"], env=env, capture_output=True, check=False)
    return answer.returncode == 0 and b'"connected": true' in answer.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if any(examples(page))], ids=lambda page: page.name)
def test_the_examples_of_a_page_do_what_it_says(page: pathlib.Path, instance: dict[str, str]) -> None:
    for example in examples(page):
        done = subprocess.run(
            ["bash", "-c", example.command],
            env=instance, cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        said = f"$ {example.command}\n{done.stdout.decode()}{done.stderr.decode()}"
        assert done.returncode == example.exit_code, said
        if example.output:
            assert done.stdout.decode() == example.output, said
