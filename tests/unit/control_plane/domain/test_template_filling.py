"""Parameters are filled in once: what was given is never looked at again, and variables are left for the run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.spec import Command, EnvVar, RunSpec, Step
from control_plane.domain.template import ParameterType, TemplateParameter
from control_plane.domain.template_rules import filled, filled_values, fitting, remaining
from control_plane.domain.variable_rules import render_spec
from control_plane.domain.variables import render

PIECES = st.sampled_from(["{{", "}}", "{{ p }}", "{{q}}", "{{ v }}", "{{{{", "{", "}", " ", "p", "x", "{{ other }}"])
TEXT = st.lists(PIECES, max_size=7).map("".join)


def spec_of(text: str) -> RunSpec:
    step = Step(command=Command(argv=("echo", text)), env=(EnvVar(name="E", value=text),))
    return RunSpec(steps=(step,), env=(EnvVar(name="S", value=text), EnvVar(name="K", secret_ref="SECRET")))


@given(text=TEXT, p=TEXT, q=TEXT, v=TEXT)
def test_filling_in_and_then_rendering_is_as_doing_both_at_once(text: str, p: str, q: str, v: str) -> None:
    once = render(text, {"p": p, "q": q, "v": v})
    made = render_spec(filled(spec_of(text), {"p": p, "q": q}), {"v": v})
    assert made.steps[0].command.argv == ("echo", once)
    assert [each.value for each in (*made.env, *made.steps[0].env)] == [once, None, once]


@given(text=TEXT)
def test_what_mentions_no_parameter_stays_as_it_is_written(text: str) -> None:
    assert filled(spec_of(text), {"unused": "x"}) == spec_of(text)


def test_defaults_are_taken_and_sensitive_ones_never() -> None:
    parameters = (
        TemplateParameter(name="a", default_value="1"),
        TemplateParameter(name="b", type=ParameterType.INTEGER, default_value="2"),
        TemplateParameter(name="c"),
        TemplateParameter(name="s", sensitive=True, required=True, description="d"),
    )
    assert filled_values(parameters, {"a": "x", "s": "secret value"}) == {"a": "x", "b": "2"}
    assert fitting(parameters, {"a": "x", "b": "x", "s": "short", "z": "x"}) == {"a": "x"}
    (variable,) = remaining(parameters, {"s": "SECRET"})
    assert (variable.name, variable.secret_ref, variable.sensitive, variable.required) == ("s", "SECRET", True, True)
