"""Notifications: what was told to whom, and telling it again."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.invocation import Invocation
from control_plane.cli.notice_views import DELIVERY, DELIVERY_STATES


@command("list", examples=("banksman notification list --run @last", "banksman notification list --state failed"))
@click.option("--run", metavar="RUN", help="Only those about this run.")
@click.option("--task", metavar="TASK", help="Only those of this task.")
@click.option("--state", type=click.Choice(DELIVERY_STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_deliveries(inv: Invocation, run: str | None, task: str | None, state: str | None, limit: int | None) -> None:
    """List notifications, newest first; for owners of tasks and admins."""
    wanted = contract.notification_pb2.DeliveryState.Value(f"DELIVERY_STATE_{(state or 'unspecified').upper()}")
    request = contract.notification_pb2.ListDeliveriesRequest(
        project=inv.project, run=run or "", task=task or "", state=wanted
    )
    found = inv.client.pages(
        inv.client.notifications.ListDeliveries, request, lambda page: page.deliveries, limit=limit
    )
    inv.printer.rows(found, DELIVERY)


@command("redeliver", examples=("banksman notification redeliver 0198c2de-…",))
@click.argument("delivery")
def redeliver(inv: Invocation, delivery: str) -> None:
    """Send a notification again, under the same id."""
    request = contract.notification_pb2.RedeliverNotificationRequest(delivery=delivery)
    sent = inv.client.call(inv.client.notifications.RedeliverNotification, request, repeatable=True)
    inv.say(f"notification {sent.id} is sent again")
    if inv.output != "table":
        inv.printer.one(sent, DELIVERY)
