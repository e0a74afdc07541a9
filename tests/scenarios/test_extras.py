"""A server without the extras says which one is missing, before a task is stored that could not do what it says."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from tests.scenarios.house import House
from tests.scenarios.program import REPOSITORY

WITHOUT = "import sys\nsys.modules.update(fpdf=None, apprise=None)\n"


class Bare(House):
    """Its programs find neither fpdf2 nor Apprise."""

    def prepare(self, root: pathlib.Path) -> Mapping[str, str]:
        place = root / "without"
        place.mkdir()
        (place / "sitecustomize.py").write_text(WITHOUT)
        return {**super().prepare(root), "PYTHONPATH": f"{place}:{REPOSITORY}:{REPOSITORY / 'gen'}"}


def test_what_needs_an_extra_is_refused_with_its_name() -> None:
    with Bare() as house:
        assert house.cli("secret", "set", "CHANNEL", input=b"slack://a/b/c").returncode == 0
        words = ("--report", "json", "--report", "pdf", "--notify", "failed=secret:CHANNEL", "--", "true")
        refused = house.cli("task", "create", "wants more", *words)
        said = refused.stderr.decode()
        assert refused.returncode == 2, said
        assert "install banksman[pdf]" in said, said
        assert "install banksman[notify]" in said, said
        assert house.cli("task", "create", "wants less", "--report", "html", "--", "true").returncode == 0
        assert house.cli("task", "update", "wants less", "--report", "pdf").returncode == 2
        assert house.cli("task", "list", "-o", "name").stdout == b"wants less\n"
