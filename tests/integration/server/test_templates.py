"""Templates: their versions, what is made of them, and what is refused."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import notification_pb2, project_pb2, run_pb2, schedule_pb2, secret_pb2, task_pb2, template_pb2
from google.protobuf.struct_pb2 import Struct, Value

from tests.fakes.server import spec
from tests.integration.server.test_access import member
from tests.integration.server.test_bad_tasks import offending

NOT_FOUND = grpc.StatusCode.NOT_FOUND


def text(value):
    return Value(string_value=value)


def number(value):
    return Value(number_value=value)


def parameter(name, **fields):
    return template_pb2.TemplateParameter(name=name, **fields)


async def made(doors, name="t", *argv, **fields):
    template = template_pb2.Template(name=name, spec=spec(*(argv or ("echo", "{{ who }}"))), **fields)
    return await doors.templates.CreateTemplate(template_pb2.CreateTemplateRequest(template=template))


async def instance(doors, template="t", task=None, **fields):
    task = task or task_pb2.Task(name="made")
    request = template_pb2.InstantiateTemplateRequest(template=template, task=task, **fields)
    return await doors.templates.InstantiateTemplate(request)


async def run_of(doors, template="t", version=0, options=None, **parameters):
    use = run_pb2.TemplateUse(template=template, version=version, parameters=parameters)
    return await doors.runs.CreateRun(run_pb2.CreateRunRequest(template=use, options=options))


async def refused(call):
    """The fields that the answer names."""
    return set(await offending(call))


def argv(spec):
    return list(spec.steps[0].command.argv)


async def test_each_update_is_a_version_that_can_be_read(server):
    doors = server.doors()
    first = await made(doors, description="one")
    assert (first.version, first.updated_by) == (1, first.created_by)
    change = template_pb2.Template(id=first.id, description="two", spec=spec("other"), etag=first.etag)
    request = template_pb2.UpdateTemplateRequest(template=change)
    request.update_mask.paths.extend(["description", "spec"])
    second = await doors.templates.UpdateTemplate(request)
    assert (second.version, second.description, argv(second.spec)) == (2, "two", ["other"])
    for version, wanted in ((0, second), (2, second), (1, first)):
        asked = template_pb2.GetTemplateRequest(template="t", version=version)
        assert await doors.templates.GetTemplate(asked) == wanted
    for version in (3, -1):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doors.templates.GetTemplate(template_pb2.GetTemplateRequest(template="t", version=version))
        assert caught.value.code() is NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.templates.UpdateTemplate(request)
    assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_a_deleted_one_is_gone_and_its_name_is_free(server):
    doors = server.doors()
    old = await made(doors, "t", "true")
    task = await instance(doors)
    await doors.templates.DeleteTemplate(template_pb2.DeleteTemplateRequest(template="t"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.templates.GetTemplate(template_pb2.GetTemplateRequest(template=old.id))
    assert caught.value.code() is NOT_FOUND
    assert (await made(doors)).version == 1
    kept = await doors.tasks.GetTask(task_pb2.GetTaskRequest(task=task.id))
    assert (kept.template_id, kept.template_version) == (old.id, 1)


async def test_a_task_has_the_parameters_filled_in_and_its_variables_left(server):
    doors = server.doors()
    template = await made(
        doors, "t", "deploy", "{{ stage }}", "{{ count }}", "{{ branch }}", "{{{{ stage }}", "{{ none }}",
        parameters=[parameter("stage", required=True), parameter("count", type=2, default_value=number(3)),
                    parameter("none")],
        variables=[task_pb2.Variable(name="branch", default_value=text("main"))],
        tags=["a"], labels={"k": "v"}, description="what",
    )  # fmt: skip
    task = task_pb2.Task(name="made", tags=["b", "a"], schedules=[schedule_pb2.Schedule(cron="@yearly")])
    evil = "x {{ branch }} {{{{ $(id)"
    done = await instance(doors, task=task, parameters={"stage": text(evil)})
    assert (done.template_id, done.template_name, done.template_version) == (template.id, "t", 1)
    assert (list(done.tags), dict(done.labels), done.description) == (["a", "b"], {"k": "v"}, "what")
    assert done.schedules[0].cron == "@yearly"
    run = await doors.tasks.RunTask(task_pb2.RunTaskRequest(task="made"))
    assert (run.template_id, run.template_version, run.task_name) == (template.id, 1, "made")
    assert list(run.rendered_commands[0].argv) == ["deploy", evil, "3", "main", "{{ stage }}", "{{ none }}"]


async def test_one_is_run_directly(server):
    doors = server.doors()
    template = await made(
        doors, "t", "echo", "{{ who }}", "{{ branch }}", "{{ password }}",
        parameters=[parameter("who", default_value=text("me")), parameter("password", sensitive=True, required=True)],
        variables=[task_pb2.Variable(name="branch", default_value=text("main"))], tags=["a"],
    )  # fmt: skip
    options = run_pb2.RunOptions(variables={"branch": text("dev")})
    run = await run_of(doors, options=options, password=text("long enough"))
    assert (run.template_id, run.template_name, run.template_version, run.task_id) == (template.id, "t", 1, "")
    assert list(run.rendered_commands[0].argv) == ["echo", "me", "dev", "{{ password }}"]
    assert {each.name: (each.value, each.sensitive) for each in run.variables} == {
        "branch": ("dev", False),
        "password": ("", True),
    }
    assert b"long enough" not in run.SerializeToString()
    assert await refused(run_of(doors, who=text("x"))) == {"template.parameters[password]"}
    again = await doors.runs.ListRuns(run_pb2.ListRunsRequest(filter='tag : "a"'))
    assert [each.template_name for each in again.runs] == ["t"]


async def test_a_direct_run_is_told_of_and_reported_as_the_template_says_and_can_be_tried_again(server):
    doors = server.doors()
    template = await made(
        doors, "t", "echo", "{{ who }}", parameters=[parameter("who")], tags=["a"],
        report=task_pb2.ReportSettings(enabled=True, formats=[task_pb2.REPORT_FORMAT_JSON]),
        notifications=[task_pb2.NotificationSettings(events=[1, 6], webhook_url="https://hooks.example/")],
    )  # fmt: skip
    run = await run_of(doors, who=text("{{ me }}"))
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
    sent = await doors.notifications.ListDeliveries(notification_pb2.ListDeliveriesRequest(run=run.id))
    assert sorted(each.event for each in sent.deliveries) == [1, 6]
    again = await doors.runs.RetryRun(run_pb2.RetryRunRequest(run=run.id))
    assert (again.template_id, again.template_version) == (template.id, 1)
    assert list(again.rendered_commands[0].argv) == list(run.rendered_commands[0].argv) == ["echo", "{{ me }}"]
    assert len((await doors.runs.ListRuns(run_pb2.ListRunsRequest(filter='tag : "a"'))).runs) == 2


async def test_an_older_version_is_used_when_it_is_named(server):
    doors = server.doors()
    first = await made(doors, "t", "one")
    change = template_pb2.UpdateTemplateRequest(template=template_pb2.Template(id=first.id, spec=spec("two")))
    change.update_mask.paths.append("spec")
    await doors.templates.UpdateTemplate(change)
    assert argv((await run_of(doors)).spec) == ["two"]
    old = await run_of(doors, version=1)
    assert (argv(old.spec), old.template_version) == (["one"], 1)
    assert argv((await instance(doors, version=1)).spec) == ["one"]


async def test_a_sensitive_parameter_of_a_task_is_a_secret_or_comes_with_each_run(server):
    doors = server.doors()
    await doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="PASSWORD", value=b"long enough"))
    await made(doors, "t", "echo", "{{ a }}", "{{ b }}",
               parameters=[parameter("a", sensitive=True), parameter("b", sensitive=True, required=True)])  # fmt: skip
    task = await instance(doors, secret_parameters={"a": "PASSWORD"})
    assert [(each.name, each.secret_ref, each.required) for each in task.variables] == [
        ("a", "PASSWORD", False),
        ("b", "", True),
    ]
    wrong = await refused(instance(doors, parameters={"a": text("long enough")}, secret_parameters={"x": "P", "b": ""}))
    assert wrong == {"parameters[a]", "secret_parameters[x]", "secret_parameters[b]"}


@pytest.mark.parametrize(
    ("declared", "given", "good"),
    [
        ({"type": 2}, number(-3), True),
        ({"type": 2}, text("12"), True),
        ({"type": 2}, number(1.5), False),
        ({"type": 2}, text("1x"), False),
        ({"type": 3}, number(1.5), True),
        ({"type": 3}, text("-1e5"), True),
        ({"type": 3}, text("NaN"), False),
        ({"type": 4}, Value(bool_value=True), True),
        ({"type": 4}, text("yes"), False),
        ({}, text(""), True),
        ({"allowed_values": [text("a"), number(1)]}, number(1), True),
        ({"allowed_values": [text("a"), number(1)]}, text("b"), False),
        ({}, text("x" * (64 << 10)), True),
        ({}, text("x" * (64 << 10) + "x"), False),
        ({}, text("\0"), False),
        ({}, Value(struct_value=Struct()), False),
    ],
)
async def test_values_are_what_the_template_declares(server, declared, given, good):
    doors = server.doors()
    await made(doors, "t", "echo", "{{ p }}", parameters=[parameter("p", **declared)])
    if good:
        await run_of(doors, p=given)
        await instance(doors, parameters={"p": given})
        return
    assert await refused(run_of(doors, p=given)) == {"template.parameters[p]"}
    assert await refused(instance(doors, parameters={"p": given})) == {"parameters[p]"}


async def test_all_that_is_wrong_is_named_and_nothing_is_made(server):
    doors = server.doors()
    await made(doors, "t", "echo", "{{ a }}", parameters=[parameter("a", required=True), parameter("n", type=2)])
    task = task_pb2.Task(name="x/y", spec=spec("true"), variables=[task_pb2.Variable(name="v")],
                         schedules=[schedule_pb2.Schedule(name="s", cron="61 * * * *")])  # fmt: skip
    wrong = await refused(instance(doors, task=task, parameters={"n": text("x"), "other": text("y")}))
    assert wrong == {
        *("task.name", "task.spec", "task.variables", "task.schedules[0].cron"),
        *("parameters[a]", "parameters[n]", "parameters[other]"),
    }
    assert not (await doors.tasks.ListTasks(task_pb2.ListTasksRequest())).tasks


async def test_declarations_are_checked_at_their_limits(server):
    doors = server.doors()
    many = [parameter(f"p{index}") for index in range(65)]
    await made(doors, "at the limit", parameters=many[:64])
    assert await refused(made(doors, parameters=many)) == {"template.parameters"}
    values = [text(str(index)) for index in range(65)]
    await made(doors, "values", parameters=[parameter("p", allowed_values=values[:64])])
    assert await refused(made(doors, parameters=[parameter("p", allowed_values=values)])) == {
        "template.parameters[0].allowed_values"
    }
    wrong = await refused(
        made(
            doors, "", "sh", "-c", "echo {{ p }}",
            parameters=[parameter("1"), parameter("a"), parameter("A"), parameter("v"),
                        parameter("s", sensitive=True, default_value=text("long enough")),
                        parameter("n", type=2, default_value=text("x")),
                        parameter("e", allowed_values=[text("x"), text("x")], default_value=text("y"))],
            variables=[task_pb2.Variable(name="V")],
        )
    )  # fmt: skip
    path = "template.parameters"
    assert wrong == {
        *("template.name", "template.spec.steps[0].command.argv[2]", f"{path}[0].name", f"{path}[2].name"),
        *(f"{path}[3].name", f"{path}[4].default_value", f"{path}[5].default_value"),
        *(f"{path}[6].allowed_values[1]", f"{path}[6].default_value"),
    }


async def test_no_value_can_become_the_program_of_a_shell(server):
    doors = server.doors()
    await made(doors, "t", "{{ program }}", "-c", "{{ code }}", parameters=[parameter("program"), parameter("code")])
    given = {"program": text("sh"), "code": text("touch /tmp/x")}
    assert await refused(run_of(doors, **given)) == {"spec.steps[0].command.argv[2]"}
    assert await refused(instance(doors, parameters=given)) == {"task.spec.steps[0].command.argv[2]"}


async def test_what_comes_out_is_as_long_as_an_argument_may_be(server):
    doors = server.doors()
    await made(doors, "t", "echo", "{{ a }}{{ a }}{{ b }}", parameters=[parameter("a"), parameter("b")])
    longest = {"a": text("x" * 65_535), "b": text("y")}
    await run_of(doors, **longest)
    assert await refused(run_of(doors, **longest | {"b": text("yy")})) == {"spec.steps[0].command.argv[1]"}


async def test_the_same_request_makes_one_task(server):
    doors = server.doors()
    first = await made(doors, "t", "one")
    task = await instance(doors, request_id="r")
    change = template_pb2.UpdateTemplateRequest(template=template_pb2.Template(id=first.id, spec=spec("two")))
    change.update_mask.paths.append("spec")
    await doors.templates.UpdateTemplate(change)
    assert (await instance(doors, request_id="r")).id == task.id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await instance(doors, request_id="r", parameters={}, version=2)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_lists_are_filtered_and_paged(server):
    doors = server.doors()
    for name, tags in (("a", ["x"]), ("b", []), ("c", ["x"])):
        await made(doors, name, tags=tags, is_public=name == "c")
    found = await doors.templates.ListTemplates(
        template_pb2.ListTemplatesRequest(page_size=1, filter="tag : x", include_total_size=True)
    )
    assert ([each.name for each in found.templates], found.total_size) == (["a"], 2)
    more = template_pb2.ListTemplatesRequest(page_size=1, filter="tag : x", page_token=found.next_page_token)
    assert [each.name for each in (await doors.templates.ListTemplates(more)).templates] == ["c"]
    member_doors = server.doors(await member(doors, "ann", "default"))
    seen = await member_doors.templates.ListTemplates(template_pb2.ListTemplatesRequest())
    assert [each.name for each in seen.templates] == ["c"]


async def test_a_project_with_a_template_is_not_empty(server):
    doors = server.doors()
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="web")))
    template = template_pb2.Template(name="t", spec=spec("true"))
    await doors.templates.CreateTemplate(template_pb2.CreateTemplateRequest(project="web", template=template))
    gone = project_pb2.DeleteProjectRequest(project="web")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.projects.DeleteProject(gone)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await doors.templates.DeleteTemplate(template_pb2.DeleteTemplateRequest(project="web", template="t"))
    await doors.projects.DeleteProject(gone)
