"""A coding agent as a spec names it: stored and checked here, run by a launcher of its own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import check_text, violation


class AgentType(StrEnum):
    CLAUDE_CODE = "CLAUDE_CODE"
    CODEX = "CODEX"
    OPENCODE = "OPENCODE"
    GEMINI = "GEMINI"
    CUSTOM = "CUSTOM"


class AgentMode(StrEnum):
    BACKGROUND = "BACKGROUND"
    INTERACTIVE = "INTERACTIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingAgent:
    """What the agent is to do, where, and within which bounds. Its prompt is a template of variables."""

    prompt: str = ""
    type: AgentType | None = None
    repository: str = ""
    base_branch: str = ""
    title: str = ""
    context: str = ""
    docs_paths: tuple[str, ...] = ()
    mode: AgentMode | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    model: str = ""
    max_turns: int = 0
    permission_mode: str = ""
    output_schema: str = ""
    max_cost_usd: float | None = None
    command: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


_REPOSITORY_STARTS = ("https://", "http://", "ssh://", "git://", "file:///", "git@", "/")


def check_coding_agent(agent: CodingAgent, path: str) -> Iterator[FieldViolation]:
    """Every offending field."""
    if not agent.prompt.strip():
        yield violation(f"{path}.prompt", "must not be empty")
    yield from check_text(agent.prompt, f"{path}.prompt", limits.PROMPT_BYTES)
    yield from check_text(agent.context, f"{path}.context", limits.PROMPT_BYTES)
    if agent.type is None:
        yield violation(f"{path}.type", "must be given")
    if agent.type is AgentType.CUSTOM and not agent.command:
        yield violation(f"{path}.command", "must be given for AGENT_TYPE_CUSTOM")
    yield from _where(agent, path)
    yield from _bounds(agent, path)
    yield from _tools(agent, path)


def _where(agent: CodingAgent, path: str) -> Iterator[FieldViolation]:
    for name, text in (("repository", agent.repository), ("base_branch", agent.base_branch), ("title", agent.title)):
        yield from check_text(text, f"{path}.{name}", limits.URL_BYTES)
        if text and not text.isprintable():
            yield violation(f"{path}.{name}", "must hold printable characters only")
    if agent.repository and not agent.repository.startswith(_REPOSITORY_STARTS):
        yield violation(f"{path}.repository", "must be a URL, git@host:path or an absolute path")
    if agent.base_branch.startswith("-"):
        yield violation(f"{path}.base_branch", 'must not begin with "-"')
    if agent.base_branch and not agent.repository:
        yield violation(f"{path}.base_branch", "is only for a repository")
    if len(agent.docs_paths) > limits.DOCS_PATHS:
        yield violation(f"{path}.docs_paths", f"at most {limits.DOCS_PATHS}, are {len(agent.docs_paths)}")
    for index, each in enumerate(agent.docs_paths[: limits.DOCS_PATHS]):
        here = f"{path}.docs_paths[{index}]"
        yield from check_text(each, here, limits.PATH_BYTES)
        if not each or each.startswith("/") or ".." in each.split("/"):
            yield violation(here, 'must be a relative path without ".."')


def _bounds(agent: CodingAgent, path: str) -> Iterator[FieldViolation]:
    for name, text in (("model", agent.model), ("permission_mode", agent.permission_mode)):
        if len(text) > limits.NAME_CHARACTERS or (text and not text.isprintable()):
            yield violation(f"{path}.{name}", f"must be at most {limits.NAME_CHARACTERS} printable characters")
    if not 0 <= agent.max_turns <= limits.MAX_TURNS:
        yield violation(f"{path}.max_turns", f"must be 0 to {limits.MAX_TURNS}, is {agent.max_turns}")
    if agent.max_cost_usd is not None and not 0 < agent.max_cost_usd <= limits.MAX_COST_USD:
        yield violation(f"{path}.max_cost_usd", f"must be above 0 and at most {limits.MAX_COST_USD}")
    yield from _schema(agent.output_schema, f"{path}.output_schema")
    size = sum(len(element.encode()) + 1 for element in agent.command)
    if size > limits.ARGV_AND_ENV_BYTES or any("\0" in element for element in agent.command):
        yield violation(f"{path}.command", f"must have at most {limits.ARGV_AND_ENV_BYTES} bytes and no NUL")
    if len(agent.options) > limits.AGENT_OPTIONS:
        yield violation(f"{path}.options", f"at most {limits.AGENT_OPTIONS}, are {len(agent.options)}")
    for key, value in agent.options.items():
        yield from check_text(key + value, f"{path}.options[{key[:80]}]", limits.PATH_BYTES)
        if not key:
            yield violation(f"{path}.options", "an option must have a name")


def _schema(text: str, field: str) -> Iterator[FieldViolation]:
    if not text:
        return
    if len(text.encode()) > limits.RESULT_BYTES:
        yield violation(field, f"must have at most {limits.RESULT_BYTES} bytes")
        return
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield violation(field, f"is not JSON: {error}")
        return
    if not isinstance(schema, dict | bool):
        yield violation(field, "must be a JSON Schema: an object")


def _tools(agent: CodingAgent, path: str) -> Iterator[FieldViolation]:
    for name, tools in (("allowed_tools", agent.allowed_tools), ("disallowed_tools", agent.disallowed_tools)):
        if len(tools) > limits.AGENT_TOOLS:
            yield violation(f"{path}.{name}", f"at most {limits.AGENT_TOOLS}, are {len(tools)}")
        for index, tool in enumerate(tools[: limits.AGENT_TOOLS]):
            if not 1 <= len(tool) <= limits.NAME_CHARACTERS or not tool.isprintable():
                most = limits.NAME_CHARACTERS
                yield violation(f"{path}.{name}[{index}]", f"must be 1 to {most} printable characters")
    for tool in sorted(set(agent.allowed_tools) & set(agent.disallowed_tools)):
        yield violation(f"{path}.disallowed_tools", f"{tool[:80]!r} is allowed as well")
