"""What a server cannot do without an extra is refused before anything is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.domain.addresses import networks
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.extras import NO_CHANNELS, NO_PDF, Extras
from control_plane.domain.hooks import HookRules
from control_plane.domain.task import NotificationEvent, NotificationSettings, ReportFormat, ReportSettings
from control_plane.lifecycle import tasks, templates
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

PDF = ReportSettings(enabled=True, formats=(ReportFormat.JSON, ReportFormat.PDF))
EVENTS = (NotificationEvent.FAILED,)
CHANNEL = NotificationSettings(events=EVENTS, secret_ref="CHANNEL")
SIGNED = NotificationSettings(events=EVENTS, secret_ref="KEY", webhook_url="https://hooks.example/")
NONE = Extras(pdf=False, channels=False)


def new_task(stage: Stage, **more: object) -> tasks.NewTask:
    return replace(tasks.NewTask(project_id=stage.default.id, name="told", spec=SPEC), **more)


def new_template(stage: Stage, **more: object) -> templates.NewTemplate:
    return replace(templates.NewTemplate(project_id=stage.default.id, name="told", spec=SPEC), **more)


def named(error: InvalidArgument) -> dict[str, str]:
    return {each.field: each.description for each in error.violations}


async def test_pdf_and_channels_are_refused_where_they_are_not_installed(stage: Stage) -> None:
    await stage.keep("CHANNEL", "KEY")
    stage.house.extras = NONE
    with pytest.raises(InvalidArgument) as caught:
        await tasks.create(stage.house, stage.caller, new_task(stage, report=PDF, notifications=(SIGNED, CHANNEL)))
    assert named(caught.value) == {
        "task.report.formats[1]": NO_PDF,
        "task.notifications[1].secret_ref": NO_CHANNELS,
    }
    with pytest.raises(InvalidArgument) as caught:
        await templates.create(stage.house, stage.caller, new_template(stage, report=PDF, notifications=(CHANNEL,)))
    assert named(caught.value).keys() == {"template.report.formats[1]", "template.notifications[0].secret_ref"}
    assert await stage.house.database.read(lambda conn: reads.find_task(conn, stage.default.id, "told")) is None


async def test_updates_are_held_to_what_they_change(stage: Stage) -> None:
    await stage.keep("CHANNEL")
    made = await tasks.create(stage.house, stage.caller, new_task(stage, report=PDF, notifications=(CHANNEL,)))
    template = await templates.create(stage.house, stage.caller, new_template(stage, report=PDF))
    stage.house.extras = NONE
    change = tasks.TaskChange(description="an older task may still be described")
    assert (await tasks.update(stage.house, made.id, change)).report == PDF
    for asked in (tasks.TaskChange(report=PDF), tasks.TaskChange(notifications=(CHANNEL,))):
        with pytest.raises(InvalidArgument):
            await tasks.update(stage.house, made.id, asked)
    with pytest.raises(InvalidArgument):
        await templates.update(stage.house, stage.caller, template.id, templates.TemplateChange(report=PDF))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "http:// is not allowed: see the setting notify_http"),
        ("https://hooks.example:22/", "port 22 is not allowed: see the setting notify_ports"),
        ("https://10.0.0.1/", "the host's address is not allowed: see the setting notify_networks"),
        ("https://[::ffff:127.0.0.1]:8443/", "the host's address is not allowed: see the setting notify_networks"),
        ("https://169.254.169.254/latest", "the host's address is not allowed: see the setting notify_networks"),
        ("https://hooks.example/", ""),
        ("https://1.1.1.1/", ""),
        ("https://192.168.7.9/", ""),
        ("https://localhost/", ""),
    ],
)
async def test_a_webhook_that_no_delivery_would_reach_is_refused_at_once(stage: Stage, url: str, why: str) -> None:
    stage.house.extras = Extras(hooks=HookRules(networks=networks("192.168.7.0/24")))
    hook = NotificationSettings(events=EVENTS, webhook_url=url)
    for create, new, what in (
        (tasks.create, new_task(stage, notifications=(hook,)), "task"),
        (templates.create, new_template(stage, notifications=(hook,)), "template"),
    ):
        if not why:
            await create(stage.house, stage.caller, new)
            continue
        with pytest.raises(InvalidArgument) as caught:
            await create(stage.house, stage.caller, new)
        assert named(caught.value) == {f"{what}.notifications[0].webhook_url": why}
