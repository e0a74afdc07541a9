"""Who sees whose templates: every method that names one, for every kind of caller."""

from __future__ import annotations

import pytest
from banksman.v1 import run_pb2, task_pb2, template_pb2
from google.protobuf import message_factory

from tests.fakes.server import spec
from tests.integration.server.test_access import methods
from tests.integration.server.test_task_visibility import (
    ALLOWED,
    ANYBODY,
    CALLERS,
    NOT_FOUND,
    OK,
    OWNS,
    SEES,
    People,
    named,
    status,
)

NEEDS = {
    "TemplateService/CreateTemplate": ANYBODY,
    "TemplateService/GetTemplate": SEES,
    "TemplateService/UpdateTemplate": OWNS,
    "TemplateService/DeleteTemplate": OWNS,
    "TemplateService/InstantiateTemplate": SEES,
    "RunService/CreateRun": SEES,
}


def about_templates():
    return [method for method in methods() if "template" in method.input_type.fields_by_name]


def test_every_method_about_a_template_is_judged():
    assert {named(method) for method in about_templates()} == set(NEEDS)


def request_for(method, name):
    request = message_factory.GetMessageClass(method.input_type)(project="web")
    match named(method):
        case "TemplateService/CreateTemplate":
            request.template.CopyFrom(template_pb2.Template(name=f"{name} too", spec=spec("true")))
        case "TemplateService/UpdateTemplate":
            request.template.CopyFrom(template_pb2.Template(name=name, description="changed"))
            request.update_mask.paths.append("description")
        case "TemplateService/InstantiateTemplate":
            request.template = name
            request.task.CopyFrom(task_pb2.Task(name=name))
        case "RunService/CreateRun":
            request.template.CopyFrom(run_pb2.TemplateUse(template=name))
        case _:
            request.template = name
    return request


@pytest.mark.parametrize("kind", ["private", "public"])
async def test_every_method_for_every_caller(server, kind):
    people = People(server)
    await people.arrive()
    count = 0
    for method in about_templates():
        needs = NEEDS[named(method)]
        for caller in CALLERS:
            count += 1
            template = template_pb2.Template(name=f"template {count}", spec=spec("true"), is_public=kind == "public")
            create = template_pb2.CreateTemplateRequest(project="web", template=template)
            await people.doors["owner"].templates.CreateTemplate(create)
            got = await status(people.doors[caller], method, request_for(method, template.name))
            allowed = caller != "stranger" if needs == ANYBODY else caller in ALLOWED[kind, needs]
            assert got is (OK if allowed else NOT_FOUND), (named(method), kind, caller)
