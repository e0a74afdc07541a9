"""Exports of the audit trail: checked without a server, from nothing but the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.cli.errors import CliError

MOST_FAULTS = 100
HEAD_FIELDS = ("chain", "seq", "hash", "at", "signature", "public_key")

Line = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a file holds: so many entries, these faults, and a head."""

    checked: int = 0
    faults: list[str] = field(default_factory=list)
    head: Line = field(default_factory=dict)
    # None: the library that could tell is not installed.
    signed: bool | None = None

    def found(self, text: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(text)


def read_head(path: str) -> Line:
    """The last head in a file: an export, or a head alone. Raises CliError."""
    head: Line = {}
    for _, line in _lines(path):
        if line.get("kind", "head") == "head" and all(isinstance(line.get(name), str) for name in ("chain", "hash")):
            head = line
    if not isinstance(head.get("seq"), int):
        raise CliError(f"{path} holds no head of an audit trail", next_command=f"banksman audit export --to {path}")
    return head


def check_file(path: str, kept: Line | None = None) -> Checked:
    """Compute every hash of an export anew, and hold it against its own head and one that was kept."""
    result = Checked()
    chain, seq, digest = "", 0, ""
    known: dict[int, str] = {} if kept is None else {int(kept["seq"]): str(kept["hash"])}
    for number, line in _lines(path):
        kind = line.get("kind")
        if result.head:
            result.found(f"line {number}: something stands behind the head")
        elif kind == "start" and number == 1:
            chain, seq, digest = str(line.get("chain")), int(line.get("seq", 0)), str(line.get("hash"))
            _start(result, seq, chain, kept)
        elif kind == "event":
            seq, digest = _event(result, number, line, (chain, seq, digest))
        elif kind == "head":
            result.head = line
        else:
            result.found(f"line {number}: no line of an export")
        if known.get(seq, digest) != digest:
            result.found(f"number {seq}: the head that was kept names another hash: the trail was written anew")
            known.clear()
    _end(result, seq, digest, kept)
    return result


def _start(result: Checked, seq: int, chain: str, kept: Line | None) -> None:
    if kept is not None and kept["chain"] != chain:
        result.found(f"the head that was kept is of another trail: {kept['chain']}")
    if kept is not None and kept["seq"] < seq:
        result.found(f"the file begins behind number {seq}, and the head that was kept names {kept['seq']}")


def _event(result: Checked, number: int, line: Line, before: tuple[str, int, str]) -> tuple[int, str]:
    chain, seq, digest = before
    result.checked += 1
    if line.get("seq") != seq + 1:
        result.found(f"line {number}: number {line.get('seq')} behind {seq}: entries are missing or out of order")
    covered = {name: value for name, value in line.items() if name not in ("kind", "hash")}
    text = json.dumps(covered, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if line.get("chain") != chain or line.get("hash") != hashlib.sha256(f"{digest}\n{text}".encode()).hexdigest():
        result.found(f"line {number}: the hash of number {line.get('seq')} does not fit: it was changed")
    found = line.get("seq")
    return found if isinstance(found, int) else seq + 1, str(line.get("hash"))


def _end(result: Checked, seq: int, digest: str, kept: Line | None) -> None:
    head = result.head
    if not head:
        result.found("the file has no head at its end: it is cut off")
    elif (head.get("seq"), head.get("hash")) != (seq, digest):
        result.found(f"the head names number {head.get('seq')}, the entries end at {seq}, or with another hash")
    else:
        result.signed = is_signed(head)
        if result.signed is False:
            result.found("the signature of the head does not fit its public key")
    if kept is not None and kept["seq"] > seq:
        result.found(f"the head that was kept names number {kept['seq']}, the entries end at {seq}: the end is cut off")
    if kept is not None and head and kept.get("public_key") not in (None, "", head.get("public_key")):
        result.found("the head is signed with another key than the one that was kept")


def is_signed(head: Line) -> bool | None:
    """Whether the head's signature fits its public key; None when the library for it is not there."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    text = f"banksman-audit-head\n{head.get('chain')}\n{head.get('seq')}\n{head.get('hash')}\n{head.get('at')}"
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(head.get("public_key"))))
        key.verify(bytes.fromhex(str(head.get("signature"))), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _lines(path: str) -> Iterable[tuple[int, Line]]:
    """Number and content. Raises CliError for a file that cannot be read, or a line that is no JSON object."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise CliError(f"{path}: line {number} is no line of an export")
                yield number, line
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{path} is no export of an audit trail: {error}") from error
