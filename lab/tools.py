"""The programs the lab needs from the operating system, found or named with their Debian package."""

import hashlib
import re
import shutil
from pathlib import Path

from lab.errors import MissingToolError

JAVA_MIN = 17
JAVA_PACKAGE = "openjdk-17-jre-headless"


def java() -> str:
    """Return the path of a Java of version 17 or newer."""
    path = _find("java", JAVA_PACKAGE)
    version = _java_version(Path(path))
    if version is not None and version < JAVA_MIN:
        raise MissingToolError(f"Java {JAVA_MIN}", JAVA_PACKAGE, f"is needed, {path} is Java {version}")
    return path


def java_fingerprint() -> str:
    """Return what changes when Java does."""
    path = Path(java())
    release = path.resolve().parent.parent / "release"
    return hashlib.sha256(release.read_bytes() if release.exists() else bytes(path)).hexdigest()[:12]


def maven() -> str:
    return _find("mvn", "maven", "Maven (mvn)")


def redis_server() -> str:
    return _find("redis-server", "redis-server")


def _find(program: str, package: str, label: str | None = None) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingToolError(label or program, package)
    return path


def _java_version(path: Path) -> int | None:
    # The release file beside the JVM: `java -version` would cost a JVM start. Unknown layouts pass.
    home = path.resolve().parent.parent
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(found[1]) if found else None
