"""Variables: one pass, no evaluation, nothing expanded twice, and every literal can be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.variables import (
    Placeholder,
    environment,
    escape,
    parse,
    placeholders,
    render,
    substitute,
    unparse,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
# Texts in which braces, names and blanks meet in every way.
TEXTS = st.lists(
    st.sampled_from(
        ["{", "}", "{{", "}}", "{{{{", "a", "b", " ", "\t", "\n", "{{ a }}", "{{b}}", "{{c }}", "$", "%s", "€"]
    )
).map("".join)
VALUES = st.dictionaries(st.sampled_from(["a", "b", "c"]), TEXTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ who }}", "ann"),
        ("{{who}}!", "ann!"),
        ("a{{ \twho}}b", "aannb"),
        ("{who}", "{who}"),
        ("{{{who}}}", "{ann}"),
        ("{{ unknown }} {{ who }}", "{{ unknown }} ann"),
        ("{{{{ who }}", "{{ who }}"),
        ("{{{{{{ who }}", "{{ann"),
        ("{{.Names}} {{ who.name }} {{ 1a }} {{}}", "{{.Names}} {{ who.name }} {{ 1a }} {{}}"),
        ("{{ who\n}}", "{{ who\n}}"),
        ("$who ${who} %(who)s", "$who ${who} %(who)s"),
        ("{{ " + "n" * 65 + " }}", "{{ " + "n" * 65 + " }}"),
        ("{{ " + "n" * 64 + " }}", "long"),
    ],
)
def test_only_the_exact_shape_is_replaced(text: str, expected: str) -> None:
    assert render(text, {"who": "ann", "n" * 64: "long"}) == expected


@given(NAMES, TEXTS)
def test_a_value_arrives_as_it_is(name: str, value: str) -> None:
    """Whatever it holds: braces, placeholders, its own name."""
    assert render(f"<{{{{ {name} }}}}>", {name: value, "a": "x", "b": "y"} | {name: value}) == f"<{value}>"


@given(TEXTS, VALUES)
def test_an_escaped_text_is_itself(text: str, values: dict[str, str]) -> None:
    assert render(escape(text), values) == text


@given(TEXTS)
def test_a_text_is_what_it_parses_into(text: str) -> None:
    assert parse(unparse(parse(text))) == parse(text)


@given(TEXTS, VALUES)
def test_rendering_replaces_the_known_parts_and_no_other(text: str, values: dict[str, str]) -> None:
    parts = parse(text)
    whole = [part if isinstance(part, str) else values.get(part.name, part.written) for part in parts]
    assert render(text, values) == "".join(whole)


@given(TEXTS, VALUES, VALUES)
def test_what_is_substituted_stays_a_template_of_its_unknown_placeholders_only(
    text: str, first: dict[str, str], second: dict[str, str]
) -> None:
    """Two stages: values of the first are data in the second, even where they touch braces of the text."""
    parts = parse(text)
    expected = "".join(
        part if isinstance(part, str) else first.get(part.name, second.get(part.name, part.written)) for part in parts
    )
    between = substitute(text, first)
    assert {part for part in parse(between) if isinstance(part, Placeholder)} == {
        part for part in parts if isinstance(part, Placeholder) and part.name not in first
    }
    assert render(between, second) == expected


@given(TEXTS)
def test_what_a_text_mentions_is_what_it_has_placeholders_of(text: str) -> None:
    assert placeholders(text) == tuple(part.name for part in parse(text) if isinstance(part, Placeholder))


def test_programs_read_variables_in_capitals() -> None:
    assert environment({"branch": "main", "N": "1"}) == {"BANKSMAN_VAR_BRANCH": "main", "BANKSMAN_VAR_N": "1"}
