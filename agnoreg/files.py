"""Files that are written whole or not at all, and errors in one line."""

import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def write_whole(contents: Mapping[Path, str | bytes]) -> None:
    """Write files, text as UTF-8, each to a temporary file beside it first, which then takes its place.

    Raises
    ------
    OSError
        If one cannot be written; files that exist are as they were.
    """
    temporary: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            target = path.resolve()
            # Of a name that no other writer has.
            beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
            temporary[beside] = target
            with open(beside, "xb") as file:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for beside, target in temporary.items():
            os.replace(beside, target)
    finally:
        for beside in temporary:
            beside.unlink(missing_ok=True)


def target_of(path: Path) -> str:
    """Return the name of the file that a temporary file of `write_whole` was to become; empty for any other file."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}\.tmp", path.name, re.DOTALL)
    return found[1] if found else ""
