"""Debian's PostgreSQL 15 with pgaudit, which the embedded one lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.port_base import free_ports

PROGRAMS = artifacts.older_postgres_bins()[15]
SETTINGS = (
    ("shared_preload_libraries", "pgaudit"),
    ("logging_collector", "on"),
    ("log_destination", "jsonlog"),
    ("log_timezone", "Europe/Berlin"),
    ("log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"),
)


def audited_postgres(folder: Path) -> EmbeddedPostgres:
    """A server with pgaudit loaded, not yet started."""
    if not (PROGRAMS.parent / "lib" / "pgaudit.so").exists():
        # `make test` installs it: a machine without it lacks a step, and must not pass.
        pytest.fail("pgaudit is not installed; `make test` installs postgresql-15-pgaudit")
    return EmbeddedPostgres(
        folder,
        free_ports(1)[0],
        folder.with_suffix(".log"),
        password="owner-secret",
        listener_password="listener-secret",
        databases=("shop",),
        settings=SETTINGS,
        programs=PROGRAMS,
    )
