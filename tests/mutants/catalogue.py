"""The seeded bugs: one line each, against a rule that matters, with the watchers that must notice it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

WIRE = "tests/scenarios/test_rules_on_the_wire.py::test_"
HOST = "tests/scenarios/test_rules_on_the_host.py::test_"
SIMULATION = "tests.simulation --first --seeds 1-3"
# Hours in which runners are silent for longer than a run waits for them.
SILENT_RUNNERS = "tests.simulation --first --seeds 33-38"
RESTORES = "tests/scenarios/test_restores.py::test_"
TIME = "tests/scenarios/test_rules_of_time.py::test_"

_SERVER: Final = (
    Mutant(
        name="ack-before-commit",
        rule="A log byte is acknowledged only when it is on disk.",
        file="control_plane/logs/ingest.py",
        old="            self._streams.hold(stream, records, size, end)\n",
        new="            self._streams.hold(stream, records, size, end)\n"
        "            stream.answer(LogAck(key=stream.key, committed_offset=end, window_bytes=size))\n",
        killers=(WIRE + "nothing_is_acknowledged_that_is_not_stored",),
    ),
    Mutant(
        name="exit-report-not-fenced",
        rule="A state moves only for the current fence and a live attempt.",
        file="control_plane/domain/protocol.py",
        old="    if state_fence(case):\n        return _judge_live(held, case, at)",
        new="    if evidence_fence(case, holder):\n        return _judge_live(held, case, at)",
        killers=(WIRE + "what_is_said_late_of_an_attempt_that_is_over_moves_nothing",),
    ),
    Mutant(
        name="evidence-fenced-by-run",
        rule="The log of an attempt is completed whatever the run's newest fence is.",
        file="control_plane/logs/ingest.py",
        old="            if owner.holder != holder:",
        new="            if owner.holder != holder or key.lease_epoch != owner.current_lease_epoch:",
        killers=(WIRE + "the_log_of_an_attempt_is_completed_while_the_next_one_runs",),
    ),
    Mutant(
        name="cancel-cleared-by-retry",
        rule="A run with a cancel request is never queued again.",
        file="control_plane/domain/run.py",
        old="_E.ENDED: _S.CANCELLED},",
        new="_E.ENDED: _S.QUEUED},",
        killers=(WIRE + "a_run_that_is_being_cancelled_is_never_tried_again",),
    ),
    Mutant(
        name="cancelled-run-returned",
        rule="An attempt that never started because of a cancel was cancelled, not returned.",
        file="control_plane/domain/ends.py",
        old="        case ExitOutcome.NOT_STARTED if case.live.state is not AttemptState.STOPPING:",
        new="        case ExitOutcome.NOT_STARTED:",
        killers=(WIRE + "a_run_that_is_being_cancelled_is_never_tried_again",),
    ),
    Mutant(
        name="terminal-state-overwritten",
        rule="A late report changes no terminal state.",
        file="control_plane/domain/evidence.py",
        old="        case = replace(case, run=replace(case.run, exit_code=record.exit_code, signal=record.signal))",
        new="        case = replace(case, run=replace(case.run, state=type(case.run.state).SUCCEEDED, exit_code=0))",
        killers=(WIRE + "what_is_said_late_of_an_attempt_that_is_over_moves_nothing",),
    ),
    Mutant(
        name="late-evidence-dropped",
        rule="What its host says of an attempt that is over is kept as evidence.",
        file="control_plane/domain/protocol.py",
        old="        case = late_exit(case, held.exit, at.now)",
        new="        case = case",
        killers=(WIRE + "what_is_said_late_of_an_attempt_that_is_over_moves_nothing",),
    ),
    Mutant(
        name="clone-speaks-for-its-original",
        rule="A holder is a runner and its state directory: a copied credential speaks for nobody else's attempts.",
        file="control_plane/domain/protocol.py",
        old="    if case.attempt.holder != holder:",
        new="    if case.attempt.runner_id != holder.runner_id:",
        killers=(WIRE + "a_clone_of_a_host_does_not_speak_for_it",),
    ),
    Mutant(
        name="anybody-writes-the-log",
        rule="Log bytes are taken from the attempt's own holder alone, also while it sends them.",
        file="control_plane/logs/ingest.py",
        old="        if stream.holder != holder:",
        new='        if stream.holder.runner_id == "":',
        killers=(WIRE + "nobody_adds_to_the_log_of_another",),
    ),
    Mutant(
        name="identity-from-the-body",
        rule="Who asks is known by the key that signed, never by the name in a message.",
        file="control_plane/api/entry.py",
        old="is_signed(runner.public_key, request.signature, text)",
        new="(runner.id == request.runner_id)",
        killers=(WIRE + "a_credential_is_renewed_only_for_whoever_has_the_key",),
    ),
    Mutant(
        name="reboot-believed-from-hello",
        rule="A reboot is believed per attempt, never from Hello's boot id.",
        file="control_plane/api/reception.py",
        old="        verdicts = await self._resumed("
        "await reports.inventory(self._house, session.holder, hello.inventory))",
        new="        from control_plane.domain.session import ExitOutcome, ExitRecord\n"
        "        gone = {'phase': HeldPhase.EXITED, 'exit': ExitRecord(outcome=ExitOutcome.HOST_REBOOTED)}\n"
        "        told = tuple(e if e.boot_id == hello.boot_id else replace(e, **gone) for e in hello.inventory)\n"
        "        verdicts = await self._resumed(await reports.inventory(self._house, session.holder, told))",
        killers=(WIRE + "a_boot_id_of_hello_ends_no_attempt",),
    ),
    Mutant(
        name="unproven-tree-retried",
        rule="A run whose shim died is tried again only when its tree is proven empty.",
        file="control_plane/domain/ends.py",
        old="            return lost(case, reason, at, proven=rebooted or exit_record.tree_empty)",
        new="            return lost(case, reason, at, proven=True)",
        killers=(WIRE + "nothing_is_tried_again_while_its_tree_may_live",),
    ),
    Mutant(
        name="not-started-after-started",
        rule="What was started cannot turn out not started: the run is lost, not returned.",
        file="control_plane/domain/ends.py",
        old='        detail = "it was reported as started before, and now as not started"\n'
        "        return lost(case, Reason.PROTOCOL_ERROR, at, proven=record.tree_empty, note=detail)",
        new='        detail = "it was reported as started before, and now as not started"\n'
        "        return _fate(case.advance_attempt(AttemptEvent.LOST), Reason.NOT_STARTED, "
        "_Fate(event=RunEvent.WILL_RETRY, kind=RunEventType.RETURNED, note=detail, retry=True), at)",
        killers=(WIRE + "what_was_started_cannot_turn_out_not_started",),
    ),
    Mutant(
        name="kill-confirmed-without-proof",
        rule="A kill is confirmed only when the kernel said that the tree is empty.",
        file="control_plane/domain/evidence.py",
        old="kill_confirmed=nothing_left(attempt, record),",
        new="kill_confirmed=True,",
        killers=(WIRE + "a_tree_that_is_not_proven_empty_is_not_confirmed",),
    ),
    Mutant(
        name="keep-instead-of-start",
        rule="The verdict on an accepted attempt that has not forked is its Assignment again.",
        file="control_plane/domain/protocol.py",
        old="            return _say(held.key, VerdictKind.START, case, renewed=True)\n"
        "        return _say(held.key, VerdictKind.KEEP, case)",
        new="            return _say(held.key, VerdictKind.KEEP, case, renewed=True)\n"
        "        return _say(held.key, VerdictKind.KEEP, case)",
        killers=(WIRE + "an_acceptance_is_answered_by_its_assignment_until_it_is_heard",),
    ),
    Mutant(
        name="exit-needs-started",
        rule="An end implies the beginning whose report was lost.",
        file="control_plane/domain/ends.py",
        old="            case = started(case, record.pid, record.started_at, at.now)\n        by_host",
        new="            return case\n        by_host",
        killers=(WIRE + "an_end_implies_the_beginning_that_was_lost",),
    ),
    Mutant(
        name="stop-not-told-again",
        rule="A stop that was ordered is told again with every Welcome.",
        file="control_plane/domain/protocol.py",
        old="        return _say(held.key, VerdictKind.STOP, case, renewed=readable, stop=stop_message(case))",
        new="        return _say(held.key, VerdictKind.KEEP, case, renewed=readable)",
        killers=(WIRE + "a_stop_is_told_again_with_the_next_welcome",),
    ),
    Mutant(
        name="older-session-stays",
        rule="A newer Hello supersedes the older session at once.",
        file="control_plane/dispatch/sessions.py",
        old="        if known is not None and known.epoch > session.epoch:",
        new="        if known is not None:",
        killers=(WIRE + "a_newer_session_ends_the_older_one",),
    ),
    Mutant(
        name="overlap-not-trimmed",
        rule="A piece of a log that overlaps what is known is cut.",
        file="control_plane/logs/offsets.py",
        old="            kept.append(_behind(record, max(0, expected - at)))",
        new="            kept.append(record)",
        killers=(WIRE + "what_overlaps_is_cut_and_what_is_missing_is_asked_for",),
    ),
    Mutant(
        name="release-before-the-log-is-whole",
        rule="A runner may forget an attempt only when length and digest of its log match.",
        file="control_plane/domain/protocol.py",
        old="        return _say(key, VerdictKind.KEEP, case, exit_stored=True)",
        new="        return _say(key, VerdictKind.RELEASE, case, exit_stored=True)",
        killers=(WIRE + "a_runner_may_forget_only_what_is_whole",),
    ),
    Mutant(
        name="heartbeat-seals",
        rule="Only Hello's whole inventory seals a log that it does not list; heartbeats never do.",
        file="control_plane/api/reception.py",
        old="        await self._settle_logs(session, beat.held, verdicts)",
        new="        await self._ingest.seal_missing(session.holder, frozenset(entry.key for entry in beat.held))",
        killers=(WIRE + "a_heartbeat_that_does_not_list_an_attempt_seals_nothing",),
    ),
    Mutant(
        name="request-id-not-scoped",
        rule="A request id counts for its own principal.",
        file="control_plane/storage/reads/access.py",
        old='        REQUEST_IDS.c.principal_id == bindparam("principal_id"),',
        new='        bindparam("principal_id") == bindparam("principal_id"),',
        killers=(WIRE + "a_request_id_counts_for_its_principal_alone",),
    ),
    Mutant(
        name="firing-key-dropped",
        rule="An instant of a schedule fires once.",
        file="control_plane/storage/writes/schedules.py",
        old="    if _TAKEN.one(connection, row) is not None:",
        new="    if connection.execute(delete(FIRINGS).where(FIRINGS.c.missed == missed)).rowcount < 0:",
        killers=(TIME + "an_instant_that_comes_again_fires_no_second_time",),
    ),
    Mutant(
        name="mass-expiry-after-a-pause",
        rule="After the server's own pause all loss clocks start anew.",
        file="control_plane/domain/clocks.py",
        old="        if paused:",
        new="        if paused and self.last_tick_s - now_s > 0.0:",
        killers=(TIME + "a_server_that_stood_still_gives_nobody_up",),
    ),
    Mutant(
        name="pause-before-the-first-tick",
        rule="A pause between the server's start and its first tick is a pause too.",
        file="control_plane/domain/clocks.py",
        old="        paused = self.last_tick_s is None or now_s",
        new="        paused = self.last_tick_s is not None and now_s",
        killers=(TIME + "a_server_that_stood_still_gives_nobody_up",),
    ),
    Mutant(
        name="freed-without-grace-and-margin",
        rule="The server frees a silent run only when its runner has certainly ended it.",
        file="control_plane/domain/loss.py",
        old="    return silent_s + max(spec.grace, stop_grace_s) + timing.loss_margin(silent_s)",
        new="    return silent_s",
        killers=(SILENT_RUNNERS,),
    ),
    Mutant(
        name="fence-given-out-again",
        rule="After a restore no fence is given out that the lost time may have given out.",
        file="control_plane/domain/ids.py",
        old="    return max(current, generation << _EPOCH_COUNTER_BITS) + 1",
        new="    return current + 1",
        killers=(RESTORES + "a_server_that_was_restored_by_the_book_runs_nothing_twice",),
    ),
    Mutant(
        name="withheld-run-offered",
        rule="A run that a runner lists under an unknown fence is offered to nobody.",
        file="control_plane/domain/placement.py",
        old="        if run.withheld_by:",
        new='        if run.withheld_by and run.withheld_by == "":',
        killers=(RESTORES + "a_server_that_was_restored_by_the_book_runs_nothing_twice",),
    ),
)

_HOST: Final = (
    Mutant(
        name="killpg-instead-of-the-tree",
        rule="A stop ends the whole tree, not only the group of its leader.",
        file="runner_agent/shim/shim.py",
        old="        clearing.round()\n",
        new="        with contextlib.suppress(OSError): os.killpg(self._state.pid or 1 << 22, signal.SIGKILL)\n",
        killers=(HOST + "a_stop_ends_the_whole_tree",),
    ),
    Mutant(
        name="eof-awaited-for-ever",
        rule="Behind the leader's end the pipes are drained for a bounded time.",
        file="runner_agent/shim/decisions.py",
        old="    drained = not state.pipes_open or _passed(state.drain_until_ns, now)",
        new="    drained = not state.pipes_open",
        killers=(HOST + "a_run_ends_although_somebody_holds_its_pipe",),
    ),
    Mutant(
        name="exit-record-before-the-spool",
        rule="The exit record comes behind every log byte that it counts, also on the disk.",
        file="runner_agent/shim/spool.py",
        old="        self._close_file()\n        self.sync()\n",
        new="        self._close_file()\n",
        killers=(HOST + "the_exit_record_comes_behind_every_byte_that_it_counts",),
    ),
    Mutant(
        name="identity-not-synced",
        rule="Who the child is lies on the disk before it is executed.",
        file="runner_agent/shim/files.py",
        old="        os.fdatasync(descriptor)\n    finally:\n        os.close(descriptor)\n    os.rename(",
        new="        pass\n    finally:\n        os.close(descriptor)\n    os.rename(",
        killers=(HOST + "the_exit_record_comes_behind_every_byte_that_it_counts",),
    ),
    Mutant(
        name="start-barrier-removed",
        rule="A child waits until its identity is stored.",
        file="runner_agent/shim/child.py",
        old='        if os.read(ends.barrier, 1) == b"":',
        new='        if instruction.argv[0] == "":',
        killers=(HOST + "nothing_is_executed_before_it_is_written_down_who_it_is",),
    ),
    Mutant(
        name="loss-deadline-not-looked-at-last",
        rule="Nothing is executed behind the loss deadline: the shim looks at it behind the start barrier.",
        file="runner_agent/shim/decisions.py",
        old="    elif _passed(state.loss_deadline_ns, now):",
        new="    elif _passed(state.loss_deadline_ns, now) and state.step < 0:",
        killers=(HOST + "nothing_is_executed_behind_the_loss_deadline",),
    ),
    Mutant(
        name="tombstone-ignored",
        rule="Nothing starts on a tombstone.",
        file="runner_agent/shim/decisions.py",
        old="    elif event.tombstone:",
        new="    elif event.tombstone and event.used:",
        killers=(HOST + "nothing_starts_on_a_tombstone",),
    ),
    Mutant(
        name="tombstone-without-the-lock",
        rule="Nobody calls an attempt dead without having its lock.",
        file="runner_agent/shim/aftermath.py",
        old='        lock = files.try_lock(os.path.join(self._directory, "lock"))',
        new='        lock = os.open(os.path.join(self._directory, "lock"), os.O_RDWR | os.O_CREAT)',
        killers=(HOST + "whoever_looks_at_a_live_attempt_leaves_it_alone",),
    ),
    Mutant(
        name="lock-inherited",
        rule="A child inherits its three streams and nothing else, above all not the lock.",
        file="runner_agent/shim/child.py",
        old="    os.closerange(3, low)\n",
        new='    [os.set_inheritable(fd, True) for fd in range(3, low) if os.path.exists(f"/proc/self/fd/{fd}")]\n',
        killers=(HOST + "a_child_holds_nothing_but_its_streams_in_any_step",),
    ),
    Mutant(
        name="alive-by-its-number-alone",
        rule="An attempt lives while its lock is held, not while a process has its number.",
        file="runner_agent/shim/aftermath.py",
        old='        lock = files.try_lock(os.path.join(self._directory, "lock"))',
        new="        lock = None if any(files.start_time(each.pid) for each in read_identities(self._directory)) "
        'else files.try_lock(os.path.join(self._directory, "lock"))',
        killers=(HOST + "a_namesake_of_a_dead_child_is_neither_killed_nor_taken_for_it",),
    ),
    Mutant(
        name="killed-by-its-number-alone",
        rule="Before a signal to a stored number the start time is compared.",
        file="runner_agent/shim/tree.py",
        old="        if stat is None or (start is not None and stat.start_time != start):",
        new="        if stat is None:",
        killers=(HOST + "a_namesake_of_a_dead_child_is_neither_killed_nor_taken_for_it",),
    ),
    Mutant(
        name="reboot-not-seen",
        rule="An attempt of another boot is over by that alone.",
        file="runner_agent/shim/aftermath.py",
        old="        rebooted = remains.was_rebooted(boot_ids, files.boot_id())",
        new="        rebooted = False",
        killers=(HOST + "a_reboot_is_seen_by_the_boot_that_the_attempt_has_written_down",),
    ),
    Mutant(
        name="loss-deadline-from-the-receipt",
        rule="A loss deadline counts from when the acknowledged word was sent, not from when the answer came.",
        file="runner_agent/domain/verdicts.py",
        old="    _answer(turn, message.verdicts, sent)",
        new="    _answer(turn, message.verdicts, turn.now)",
        killers=(HOST + "a_loss_deadline_counts_from_what_was_sent",),
    ),
    Mutant(
        name="inventory-after-updates",
        rule="Hello tells the whole inventory before anything else is said.",
        file="runner_agent/domain/greeting.py",
        old="    everything = tuple(turn.held.values())\n",
        new="    everything: tuple[Held, ...] = ()\n",
        killers=(HOST + "an_agent_that_comes_back_says_first_what_it_has",),
    ),
    Mutant(
        name="secret-cut-in-two",
        rule="A secret is masked however its bytes are cut into writes.",
        file="runner_agent/shim/mask.py",
        old="        return self._write(buffer, self._hold_from(buffer))",
        new="        return self._write(buffer, len(buffer))",
        killers=("tests/scenarios/test_secrets.py::test_a_secret_is_masked_however_its_writes_are_cut",),
    ),
)

MUTANTS: Final = (*_SERVER, *_HOST)
