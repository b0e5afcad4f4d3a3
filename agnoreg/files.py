"""Files that are written whole or not at all."""

import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnoreg.messages import named, one_line, shown

__all__ = ["as_path", "hidden", "one_line", "target_of", "write_whole"]

#: Bytes of a file's name that are taken over into the temporary one's: with its own part, names have 255 at most.
TAKEN_OVER = 200


def as_path(path: Any) -> Path:
    """Return a file's path; raise TypeError or ValueError where it is none."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"A file's path is a string or a pathlib.Path, got {shown(path)}.")
    path = Path(path)
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(f"{named(path)} has characters that no file's name has.") from None
    if b"\0" in encoded:
        raise ValueError(f"{named(path)} has a NUL, which no file's name has.")
    return path


def hidden(path: Path) -> str:
    """Return why nobody can say whether there is such a file, as of a name that is too long, or an empty string."""
    try:
        as_path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return error.strerror or one_line(error)
    except ValueError as error:
        return one_line(error)
    return ""


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
            name = os.fsencode(target.name)[:TAKEN_OVER].decode("utf-8", "ignore")
            beside = target.with_name(f".{name}.{uuid.uuid4().hex}.tmp")
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
