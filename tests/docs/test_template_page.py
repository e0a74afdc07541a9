"""What the page on templates shows is the file that is shipped, and its filter's fields are all there are."""

from __future__ import annotations

import pathlib

from control_plane.domain.filter_fields import TEMPLATE_FIELDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "templates.md").read_text()


def test_the_page_shows_the_example_whole() -> None:
    assert f"```yaml\n{(ROOT / 'deploy' / 'examples' / 'deploy.yaml').read_text()}```" in PAGE


def test_the_page_names_every_field_of_the_filter() -> None:
    named = PAGE.partition("### Filter\n")[2].partition("\n## ")[0]
    for name in TEMPLATE_FIELDS:
        assert f"`{name}" in named, name
