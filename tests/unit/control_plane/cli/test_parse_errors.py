"""A file that is no task: the place and what it may be, instead of protobuf's own chain of words."""

from __future__ import annotations

from typing import Any

import pytest
from banksman.v1 import task_pb2
from google.protobuf.json_format import ParseDict, ParseError

from control_plane.cli.parse_errors import explained

CASES: list[tuple[dict[str, Any], str]] = [
    ({"spec": {"timeuot": "5s"}}, "spec has no field 'timeuot'; did you mean 'timeout'?"),
    ({"spec": {"slots": "many"}}, "spec.slots: invalid literal for int() with base 10: 'many'"),
    (
        {"spec": {"coding_agent": {"mode": "AGENT_MODE_X"}}},
        "spec.coding_agent.mode: 'agent_mode_x' is not one of background, interactive",
    ),
    ({"spec": {"timeout": "x"}}, 'spec.timeout: Duration must end with letter "s": x'),
    ({"is_public": "yes"}, "is_public: Expected true or false without quotes"),
    ({"name": [1]}, "name: expected string or bytes-like object, got 'list'"),
]


@pytest.mark.parametrize(("data", "said"), CASES)
def test_what_is_wrong_is_said_with_its_place(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ParseError) as caught:
        ParseDict(data, task_pb2.Task())
    assert explained(caught.value) == said
