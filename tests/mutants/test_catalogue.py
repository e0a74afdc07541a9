"""The catalogue stays true to the code, and the tool that tries it cannot be talked into believing a wrong killer."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.mutants.__main__ import main
from tests.mutants.catalogue import MUTANTS
from tests.mutants.copies import REPOSITORY
from tests.mutants.mutant import WATCHERS, Mutant, Unfit
from tests.mutants.trial import Outcome, try_mutant

PRODUCT = ("control_plane/", "runner_agent/")
ENOUGH = 26


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_every_seeded_bug_fits_the_code(mutant: Mutant) -> None:
    assert mutant.file.startswith(PRODUCT)
    changed = mutant.applied_to((REPOSITORY / mutant.file).read_text())
    assert changed.count("\n") <= (REPOSITORY / mutant.file).read_text().count("\n") + 3, "one line, or nearly"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_every_watcher_is_there_and_watches_from_outside(mutant: Mutant) -> None:
    assert mutant.killers
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert path.startswith(WATCHERS), f"{path} may mirror the line"
        function = re.escape(name.partition("[")[0])
        assert re.search(rf"def {function}\(", (REPOSITORY / path).read_text()), f"there is no {test}"
    for command in mutant.commands:
        package = command.split()[0].replace(".", "/")
        assert (REPOSITORY / package / "__main__.py").exists(), f"there is no {command}"


def test_there_are_enough_and_each_has_a_name_and_a_rule_of_its_own() -> None:
    assert len(MUTANTS) >= ENOUGH
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.rule for mutant in MUTANTS}) == len(MUTANTS)


# -- the tool, on a project of four lines

WATCHER = """
import pytest
from product.thing import double

def test_it_doubles():
    assert double(2) == 4, "two times two is four"

def test_it_exists():
    assert double

@pytest.fixture
def broken():
    assert double(2) == 4
    yield

def test_it_is_made_ready(broken):
    pass

def test_it_is_imported_late():
    if double(2) != 4:
        import product.nothing
"""


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "project"
    for name, text in {
        "product/__init__.py": "",
        "product/thing.py": "def double(number):\n    return 2 * number\n",
        "tests/scenarios/test_thing.py": WATCHER,
        "tests/unit/test_thing.py": WATCHER,
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def bug(new: str, *killers: str, old: str = "    return 2 * number") -> Mutant:
    return Mutant(name="bug", rule="", file="product/thing.py", old=old, new=new, killers=killers)


IT = "tests/scenarios/test_thing.py::test_it_"


def test_a_bug_that_a_watcher_notices_is_killed_by_its_own_words(project: pathlib.Path) -> None:
    verdict = try_mutant(project, bug("    return 3 * number", IT + "exists", IT + "doubles"))
    assert (verdict.outcome, verdict.killer) == (Outcome.KILLED, IT + "doubles")
    assert "two times two is four" in verdict.line
    assert "2 *" in (project / "product/thing.py").read_text(), "the tree itself is left alone"


def test_a_bug_that_nobody_notices_survives(project: pathlib.Path) -> None:
    assert try_mutant(project, bug("    return 3 * number", IT + "exists")).outcome is Outcome.SURVIVED


@pytest.mark.parametrize(
    ("mutant", "why"),
    [
        (bug("    return (", IT + "doubles"), "does not compile"),
        (bug("    return 4\nimport nowhere", IT + "doubles"), "cannot be imported"),
        (bug("    import nowhere", IT + "doubles"), "for another reason"),
        (bug("    return 3 * number", IT + "is_imported_late"), "for another reason"),
        (bug("    return 3 * number", IT + "is_made_ready"), "for another reason"),
        (bug("    return 3 * number", "tests/unit/test_thing.py::test_it_doubles"), "for another reason"),
        (bug("    return 3 * number", IT + "is_not_there"), "pytest ended with 4"),
        (bug("    return 3", IT + "doubles", old="    return 5"), "0 times"),
        (bug("m", IT + "doubles", old="n"), "times in product/thing.py, not once"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_proves_nothing_is_refused(project: pathlib.Path, mutant: Mutant, why: str) -> None:
    verdict = try_mutant(project, mutant)
    assert verdict.outcome is Outcome.UNFIT
    assert why in verdict.line


def test_a_change_that_changes_nothing_is_refused() -> None:
    with pytest.raises(Unfit, match="changes nothing"):
        bug("x", old="x").applied_to("x")


def test_the_list_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(mutant.name in listed for mutant in MUTANTS)
    assert main(["--only", "no-such-bug"]) == 2
