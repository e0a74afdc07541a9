"""What an agent may ask of a live shim: to hear of it, to stop it, to move its loss deadline, to mask a value more."""

from __future__ import annotations

import os
from collections.abc import Callable

from runner_agent.shim import attempt_files, protocol
from runner_agent.shim.codec import BadMessage, JsonObject, from_json
from runner_agent.shim.messages import AttemptStart
from runner_agent.shim.peers import Peer, Peers
from runner_agent.shim.states import Event, Renewed


class Requests:
    """Answers the frames of all agents. What they ask for is heard by the shim's decisions."""

    def __init__(
        self, start: AttemptStart, *, hear: Callable[[Event], None], add_mask: Callable[[bytes], bool],
        offset: Callable[[], int],
    ) -> None:  # fmt: skip
        self._attempt = (start.run_id, start.epoch)
        self._hear = hear
        self._add_mask = add_mask
        self._offset = offset

    def serve(self, peers: Peers, peer: Peer, frame: JsonObject) -> None:
        """Do what one frame asks for. Raises BadMessage."""
        match frame["type"]:
            case "attach":
                self._attach(peers, peer, frame)
            case "stop":
                self._hear(attempt_files.parse_stop(frame))
            case "renew":
                deadline_ns = frame.get("loss_deadline_boottime_ns")
                if deadline_ns is not None and not isinstance(deadline_ns, int):
                    raise BadMessage("loss_deadline_boottime_ns is not a number")
                self._hear(Renewed(loss_deadline_ns=deadline_ns))
            case "add_mask":
                if not self._add_mask(from_json(attempt_files.MaskRequest, frame).value):
                    raise BadMessage("a value of fewer than 8 bytes cannot be masked")
                peers.send(peer, protocol.encode_frame("masked"))
            case _:
                raise BadMessage("unknown request")

    def _attach(self, peers: Peers, peer: Peer, frame: JsonObject) -> None:
        if not protocol.speaks_with(frame):
            message = f"this shim speaks version {protocol.PROTOCOL_VERSION}"
            peers.send(peer, protocol.encode_frame("refused", {"code": "VERSION", "message": message}))
            return
        if (frame.get("run_id"), frame.get("epoch")) != self._attempt:
            raise BadMessage("this shim runs another attempt")
        body: JsonObject = {"version": protocol.PROTOCOL_VERSION, "pid": os.getpid(), "offset": self._offset()}
        peers.send(peer, protocol.encode_frame("attached", body))
        peers.subscribe(peer)
