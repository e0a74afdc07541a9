"""Kinds of columns that the tables share."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    text,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column that is spelled INTEGER.
SERIAL = BigInteger().with_variant(Integer(), "sqlite")


def id_(name: str = "id") -> Column[str]:
    return Column(name, Text, primary_key=True)


def text_(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def when_(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def number_(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def flag_(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False)


def project_() -> Column[str]:
    return Column("project_id", Text, ForeignKey("projects.id"), nullable=False)


def partial_(name: str, *columns: ColumnElement[Any], where: str, unique: bool = False) -> Index:
    """An index of some rows only; both databases know them, each under its own option."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))
