"""Builds every room of the control plane and wires them; what is started and stopped when, `app` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TypeVar

from control_plane.api.convert import ProtoSpecCodec
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Gate
from control_plane.api.reception import Reception
from control_plane.api.server import Door
from control_plane.api.services import add_services
from control_plane.api.trouble import Trouble
from control_plane.api.views import Views
from control_plane.api.visits import Visits
from control_plane.api.watching import Watching
from control_plane.artifacts.files import ArtifactFiles
from control_plane.artifacts.housekeeping import ArtifactHousekeeping
from control_plane.artifacts.intake import Intake
from control_plane.auth.audit_key import AuditKey
from control_plane.auth.authenticate import Authenticator
from control_plane.auth.credentials import CredentialPress
from control_plane.auth.keyfile import KEY_BYTES, read_or_make_key
from control_plane.auth.vault import FileVault, VaultKeyError
from control_plane.clock import Clock
from control_plane.config import Settings
from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.dispatch.sessions import Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.domain.artifact import ArtifactLimits
from control_plane.domain.extras import Extras
from control_plane.lifecycle import housekeeping, restores
from control_plane.lifecycle.audit import Witness
from control_plane.lifecycle.audit_chain import SIGN_EVERY_S, Chain
from control_plane.lifecycle.denials import Denials
from control_plane.lifecycle.house import House
from control_plane.logs.excerpts import excerpt
from control_plane.logs.files import FileLogStore
from control_plane.logs.housekeeping import LogHousekeeping, LogRetention
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.logs.purger import Purger
from control_plane.logs.tail import Tail
from control_plane.notifications.courier import Courier
from control_plane.notifications.rules import Rules
from control_plane.notifications.senders import Senders
from control_plane.reports.reporter import Reporter
from control_plane.scheduling.scheduler import Chore, Scheduler
from control_plane.storage.database import CannotOpen, Database
from control_plane.watch import Watch

T = TypeVar("T")

RUNNER_KEY = "runner.key"
SECRET_KEY = "secret.key"
AUDIT_KEY = "audit.key"


class CannotStart(Exception):
    """Why the server cannot serve, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everything that runs while the server serves."""

    house: House
    sessions: Sessions
    dispatcher: Dispatcher
    ingest: Ingest
    tail: Tail
    store: FileLogStore
    scheduler: Scheduler
    purger: Purger
    courier: Courier
    reporter: Reporter
    desk: Desk
    gate: Gate
    door: Door


def open_database(settings: Settings, clock: Clock) -> Database:
    try:
        return Database.open(settings.state_path, clock)
    except CannotOpen as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"the state directory {settings.state_dir} cannot be used: {error.strerror}") from error


async def build(settings: Settings, clock: Clock, database: Database) -> Rooms:
    state, watch, sessions = settings.state_path, Watch(), Sessions(most=settings.max_sessions)
    house = _house(settings, clock, database, watch, sessions)
    instance = await housekeeping.prepare(house)
    key = _keyed(lambda: AuditKey.at(state / AUDIT_KEY, clock.token_bytes(KEY_BYTES)))
    chain = Chain(name=instance.instance_id, database=database, clock=clock, key=key)
    database.witness = Witness(chain.name, clock)
    denials = Denials(database, chain.name, clock)
    ledger, store = HouseLedger(house), FileLogStore(state / "logs", reserve_bytes=settings.disk_reserve_bytes)
    ingest = Ingest(ledger=ledger, store=store, watch=watch)
    tail = Tail(ledger=ledger, store=store, watch=watch, clock=clock)
    dispatcher = Dispatcher(house, sessions)
    press = _keyed(lambda: _press(settings, clock))
    authenticator = Authenticator(house, press)
    sightings = Sightings()
    intake = _intake(settings, house)
    chores = (*_chores(settings, house, ingest, ledger, store), *_artifact_chores(settings, intake))
    views = Views(house, dispatcher.waiting_because, Trouble(house, sessions, sightings), ingest.shown)
    desk = Desk(
        house=house,
        settings=settings,
        sessions=sessions,
        sightings=sightings,
        reception=Reception(house, sessions, ingest, sightings),
        views=views,
        watching=Watching(house, views),
        authenticator=authenticator,
        press=press,
        tail=tail,
        intake=intake,
        chain=chain,
        denials=denials,
        collectors=tuple(chore.run for chore in chores if chore.name in OLD),
        version=version("banksman"),
        instance_id=instance.instance_id,
        started_at=clock.now(),
    )
    gate = Gate(authenticator, clock, Visits(most_each=settings.max_streams_each), denials)
    door = Door(gate)
    add_services(door, desk)
    sign = Chore(name="sign the audit trail", every_s=SIGN_EVERY_S, run=chain.keep_signed)
    return Rooms(
        house=house,
        sessions=sessions,
        dispatcher=dispatcher,
        ingest=ingest,
        tail=tail,
        store=store,
        scheduler=Scheduler(house, (*chores, sign)),
        courier=Courier(house, Senders(_rules(settings), f"banksman/{version('banksman')}")),
        reporter=Reporter(house, partial(excerpt, store), fonts_named=settings.report_fonts),
        purger=_purger(house, store, ingest, intake),
        desk=desk,
        gate=gate,
        door=door,
    )


def _house(settings: Settings, clock: Clock, database: Database, watch: Watch, sessions: Sessions) -> House:
    return House(
        database=database,
        clock=clock,
        watch=watch,
        codec=ProtoSpecCodec(),
        vault=_keyed(lambda: FileVault.at(settings.state_path / SECRET_KEY)),
        timing=settings.timing(),
        post=sessions.post,
        extras=Extras(
            pdf=find_spec("fpdf") is not None, channels=find_spec("apprise") is not None, hooks=_rules(settings)
        ),
    )


def _purger(house: House, store: FileLogStore, ingest: Ingest, intake: Intake) -> Purger:
    give_up = partial(ingest.seal_incomplete, why="the run was deleted")
    return Purger(house=house, store=store, give_up=give_up, removers=(intake.remove_runs,))


OLD = (OLD_ROWS, OLD_LOGS, OLD_ARTIFACTS) = ("remove old rows", "remove old logs", "remove old artifacts")


def _chores(
    settings: Settings, house: House, ingest: Ingest, ledger: HouseLedger, store: FileLogStore
) -> tuple[Chore, ...]:
    """What keeps the state directory from growing for ever."""
    retention = LogRetention(keep_s=settings.log_keep_s, keep_bytes=settings.log_keep_bytes)
    logs = LogHousekeeping(
        ledger=ledger,
        store=store,
        take_sealed=ingest.take_sealed,
        give_up=ingest.seal_incomplete,
        retention=retention,
    )
    keep = housekeeping.Keep(request_ids_s=house.timing.request_id_kept_s, runs_s=settings.run_keep_s)
    return (
        Chore(name="compress logs", every_s=30.0, run=logs.compress),
        Chore(name=OLD_LOGS, every_s=600.0, run=logs.remove_old),
        Chore(name="remember how far the database is", every_s=30.0, run=partial(restores.keep, house)),
        Chore(name=OLD_ROWS, every_s=600.0, run=partial(housekeeping.sweep, house, keep)),
    )


def _intake(settings: Settings, house: House) -> Intake:
    files = ArtifactFiles(settings.state_path / "artifacts", reserve_bytes=settings.disk_reserve_bytes)
    limits = ArtifactLimits(
        file_bytes=settings.artifact_file_bytes,
        total_bytes=settings.artifact_run_bytes,
        files=settings.artifact_files,
    )
    return Intake(house, files, limits)


def _artifact_chores(settings: Settings, intake: Intake) -> tuple[Chore, ...]:
    kept = ArtifactHousekeeping(intake=intake, keep_s=settings.artifact_keep_s)
    return (
        Chore(name=OLD_ARTIFACTS, every_s=600.0, run=kept.remove_old),
        Chore(name="wait for artifacts no longer", every_s=10.0, run=intake.expire),
    )


def _rules(settings: Settings) -> Rules:
    return Rules.of(
        http=settings.notify_http,
        ports_text=settings.notify_ports,
        networks_text=settings.notify_networks,
        channels_text=settings.notify_channels,
        first_wait_s=settings.notify_first_wait_s,
    )


def _keyed(make: Callable[[], T]) -> T:
    """Something that needs a key of the state directory."""
    try:
        return make()
    except (ValueError, VaultKeyError) as error:
        raise CannotStart(str(error)) from error


def _press(settings: Settings, clock: Clock) -> CredentialPress:
    secret = read_or_make_key(settings.state_path / RUNNER_KEY, clock.token_bytes(KEY_BYTES))
    return CredentialPress(secret, lifetime_s=settings.credential_lifetime_s)
