"""A shim's first moments: the run directory is made ready, the start comes, it is decided to begin; then its life.

An agent that has accepted an attempt may ask for its shim before it knows what is to be started: that one waits here
for the start, with all done that needs none. If the agent goes, or says nothing for too long, it leaves.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from runner_agent.shim import attempt_files, protocol
from runner_agent.shim.codec import BadMessage, JsonObject, from_json
from runner_agent.shim.ground import Ground
from runner_agent.shim.loop import Loop
from runner_agent.shim.messages import AttemptStart
from runner_agent.shim.peers import refuse
from runner_agent.shim.records import replace
from runner_agent.shim.rehearsal import rehearse
from runner_agent.shim.shim import Shim
from runner_agent.shim.starter import Starter

START_TIMEOUT_S = 30.0
_DESCRIPTOR = struct.Struct("i")


def wait_and_serve(channel: socket.socket, place: attempt_files.Place, starter: Starter) -> None:
    """The life of a shim that was forked ahead: it gets ready, then waits for its run directory and its agent."""
    if not select.select([channel], [], [], 0)[0]:  # else its attempt waits already
        rehearse()
    name, ancillary, _, _ = channel.recvmsg(4096, socket.CMSG_LEN(_DESCRIPTOR.size))
    channel.close()
    if not ancillary:
        starter.abandon()  # the fork server has no use for us any more
        return
    (descriptor,) = _DESCRIPTOR.unpack(ancillary[0][2])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=descriptor)
    serve(connection, replace(place, name=name.decode()), starter)


def serve(connection: socket.socket, place: attempt_files.Place, starter: Starter) -> None:
    """The life of a shim, in a process of its own that is a subreaper; its first child waits in `starter`."""
    try:
        os.chdir(f"{place.state_directory}/{attempt_files.RUNS}/{place.name}")
        ground = Ground(place)
    except OSError as error:
        starter.abandon()
        refuse(connection, "NO_GROUND", f"the run directory cannot be taken: {error}")
        return
    body: JsonObject = {"version": protocol.PROTOCOL_VERSION, "pid": os.getpid()}
    connection.setblocking(True)
    connection.settimeout(START_TIMEOUT_S)
    try:
        connection.sendall(protocol.encode_frame("ready", body))
        frames = protocol.FrameBuffer(protocol.MAX_FRAME_BYTES)
        start = _receive_start(connection, frames)
    except (OSError, BadMessage) as error:
        starter.abandon()
        ground.give_back()  # first: whoever hears of it finds the lock free
        refuse(connection, "BAD_START", f"no usable start came: {error}")
        return
    shim = Shim(place, ground, starter, start, Loop())
    agent = shim.peers.add(connection, frames)
    if shim.begin(agent):
        shim.run()
    else:
        shim.abandon()


def _receive_start(connection: socket.socket, frames: protocol.FrameBuffer) -> AttemptStart:
    while (frame := frames.next_frame()) is None:
        data = connection.recv(256 << 10)
        if not data:
            raise BadMessage("the agent has gone")
        frames.feed(data)
    frames.limit_bytes = protocol.SMALL_FRAME_BYTES
    if frame["type"] != "start":
        raise BadMessage("expected a start")
    start = from_json(AttemptStart, frame.get("start"))
    attempt_files.check_start(start)
    return start
