"""Which element a shell reads as a program."""

from __future__ import annotations

import pytest

from control_plane.domain.shells import program_elements


@pytest.mark.parametrize(
    ("argv", "programs"),
    [
        (["sh", "-c", "X"], {2}),
        (["/bin/bash", "-c", "X", "name", "data"], {2}),
        (["bash", "-euxc", "X", "data"], {2}),
        (["bash", "-e", "-c", "X", "data"], {3}),
        (["bash", "-c", "-e", "X", "data"], {2, 3}),
        (["bash", "-o", "pipefail", "-c", "X"], {4}),
        (["bash", "-c", "--", "X", "data"], {2, 3}),
        (["bash", "+x", "-c", "X"], {3}),
        (["bash", "script.sh", "-c", "data"], set()),
        (["bash", "--", "script.sh", "-c", "data"], set()),
        (["env", "A=1", "dash", "-c", "X"], {4}),
        (["sudo", "-u", "ann", "zsh", "-lc", "X"], {5}),
        (["busybox", "sh", "-c", "X"], {3}),
        (["bash-5.2", "-c", "X"], {2}),
        (["pwsh", "-Command", "X"], {2}),
        (["fish", "--command=X"], {1}),
        (["su", "ann", "-c", "X"], {3}),
        (["flock", "/tmp/lock", "-c", "X"], {3}),
        (["tar", "-c", "data"], set()),
        (["grep", "-c", "data"], set()),
        (["gcc", "-c", "data"], set()),
        (["python3", "-c", "data"], set()),
        (["ssh", "host", "-c", "data"], set()),
        (["bash", "-c"], set()),
        ([], set()),
    ],
)
def test_the_program_of_a_shell(argv: list[str], programs: set[int]) -> None:
    assert program_elements(argv) == programs
