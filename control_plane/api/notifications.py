"""NotificationService."""

from __future__ import annotations

from functools import partial

from banksman.v1 import notification_pb2, notification_pb2_grpc

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import BadFields, Plan, enum_turns, within
from control_plane.api.pages import page_answer, page_request
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import invalid_fields
from control_plane.domain.ids import RunId, TaskId
from control_plane.domain.notification import Delivery, DeliveryState
from control_plane.lifecycle import notifications
from control_plane.storage import reads

DELIVERY = Plan(Delivery, notification_pb2.Delivery, stored=True)
_, _state = enum_turns(DeliveryState, notification_pb2.DeliveryState.DESCRIPTOR)


class NotificationServicer(notification_pb2_grpc.NotificationServiceServicer):
    """What owners of tasks were told."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ListDeliveries(
        self, request: notification_pb2.ListDeliveriesRequest, context: Context
    ) -> notification_pb2.ListDeliveriesResponse:
        project = await self._desk.project(request.project)
        wanted = await self._wanted(request)
        query = partial(reads.list_deliveries, project_id=project.id, request=page_request(request), wanted=wanted)
        page = await self._desk.read(query)
        return page_answer(notification_pb2.ListDeliveriesResponse, "deliveries", page, DELIVERY.encode)

    async def RedeliverNotification(
        self, request: notification_pb2.RedeliverNotificationRequest, context: Context
    ) -> notification_pb2.Delivery:
        house = self._desk.house
        known = await notifications.the_delivery(house, self._desk.caller(), request.delivery)
        return DELIVERY.encode(await notifications.redeliver(house, known.id))

    async def _wanted(self, request: notification_pb2.ListDeliveriesRequest) -> reads.DeliveryFilter:
        """Raises NotFound, InvalidArgument."""
        state = decode_state(request.state)
        run_id: RunId | None = None
        task_id: TaskId | None = None
        if request.run:
            run_id = (await self._desk.run(request.project, request.run)).id
        if request.task:
            task_id = (await self._desk.own_task(request.project, request.task)).id
        owner = tasks_of(self._desk.caller())
        return reads.DeliveryFilter(run_id=run_id, task_id=task_id, state=state, owner=owner)


def decode_state(number: int) -> DeliveryState | None:
    """None for unspecified. Raises InvalidArgument."""
    try:
        found = _state(number)
    except BadFields as bad:
        raise invalid_fields(*(within("state", each) for each in bad.violations)) from bad
    return found if isinstance(found, DeliveryState) else None
