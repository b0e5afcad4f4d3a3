"""A loss's configuration in a file: JSON, or YAML where PyYAML is installed."""

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from agnoreg.files import one_line, write_whole
from agnoreg.loss.base import Loss
from agnoreg.loss.composite import described
from agnoreg.registry import build_loss

__all__ = ["load_loss", "save_loss"]

#: A number with an exponent and without a point, or whose exponent has no sign: YAML 1.2 and JSON know it, PyYAML takes
#: it for a word.
EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


def load_loss(path: str | os.PathLike[str]) -> Loss:
    """Build a loss from its configuration in a file.

    Parameters
    ----------
    path
        A file that ends in ``.json``, ``.yaml`` or ``.yml`` (which need PyYAML) and holds what `build_loss` takes, or
        one key ``loss`` with that under it.

    Returns
    -------
    Loss
        What `build_loss` makes of it.

    Raises
    ------
    OSError
        If the file cannot be read; a FileNotFoundError if there is none.
    ImportError
        If the file is YAML and PyYAML is not installed.
    ValueError
        If the file's name ends in something else, if it is not what its name says, if a key occurs twice, or as
        `build_loss` does; the message begins with the file's name.
    TypeError
        As `build_loss` does, with the file's name.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "loss.json")
    ...     _ = path.write_text('{"loss": {"name": "lncc", "kernel_size": 7}}')
    ...     load_loss(path).kernel_size
    7
    """
    path = Path(path)
    read, _ = _format(path)
    content = path.read_bytes()
    try:
        config = read(content)
    except Exception as error:
        # Of a wrong tag PyYAML raises what its constructors stumble over, such as a KeyError.
        raise ValueError(f"{path} cannot be read as {_kind(path)}: {one_line(error)}") from error
    if isinstance(config, Mapping) and list(config) == ["loss"]:
        config = config["loss"]
    try:
        return build_loss(config)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{path}: {error}") from error


def save_loss(loss: Loss, path: str | os.PathLike[str]) -> None:
    """Write a loss's configuration to a file, from which `load_loss` makes an equal loss.

    Names, weights and reductions are kept. The file is written whole or not at all: to a temporary file beside it
    first, which then takes its place.

    Parameters
    ----------
    loss
        A loss of agnoreg's own classes, or of those of `agnoreg.register_loss`; a `WeightedLoss` or a
        `RegistrationLoss` of them, as `build_loss` makes.
    path
        The file; ``.json``, ``.yaml`` or ``.yml`` (which need PyYAML) says what is written.

    Raises
    ------
    OSError
        If the file cannot be written.
    ImportError
        If the file is to be YAML and PyYAML is not installed.
    ValueError
        If the file's name ends in something else, or if `load_loss` would not make an equal loss of it: the loss's
        class is not registered, or an argument is nothing that the file can hold.
    TypeError
        If it is no loss.

    Examples
    --------
    >>> import agnoreg, tempfile
    >>> from pathlib import Path
    >>> loss = agnoreg.build_loss([{"name": "lncc", "weight": 2.0}, {"name": "ssd"}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "loss.json")
    ...     save_loss(loss, path)
    ...     load_loss(path) == loss
    True
    """
    path = Path(path)
    if not isinstance(loss, Loss):
        raise TypeError(f"save_loss takes a loss object, such as agnoreg.build_loss makes, got {loss!r}.")
    read, write = _format(path)
    try:
        text = write(described(loss))
        if build_loss(read(text.encode())) != loss:
            raise ValueError("an argument, or the class of that name, would be another.")
    except Exception as error:
        raise ValueError(
            f"{path} cannot be written, for {loss.name} would not be read back: {one_line(error)} (A class of your "
            "own must be registered by agnoreg.register_loss, and its arguments be numbers, strings or lists.)"
        ) from error
    try:
        write_whole({path: text})
    except OSError as error:
        # Of the file that was asked for, not of the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error


# --- formats ----------------------------------------------------------------------------------------------------------

Format = tuple[Callable[[bytes], Any], Callable[[Any], str]]


def _kind(path: Path) -> str:
    """Return the format that a file's name says: a suffix is the same in capitals."""
    return {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}.get(path.suffix.lower(), "")


def _format(path: Path) -> Format:
    """Return what reads and what writes a file of this name."""
    kind = _kind(path)
    if kind == "JSON":
        return _read_json, _write_json
    if kind == "YAML":
        try:
            return _yaml()
        except ImportError as error:
            raise ImportError(f"{path} is YAML, which needs PyYAML: pip install agnoreg[yaml] ({error})") from error
    raise ValueError(f"{path} ends in none of the known suffixes .json, .yaml, .yml, which say how it is written.")


def _read_json(content: bytes) -> Any:
    return json.loads(content, object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once([key for key, _ in pairs])
    return dict(pairs)


def _write_json(config: Any) -> str:
    return json.dumps(config, indent=2, allow_nan=False) + "\n"


@lru_cache(maxsize=1)
def _yaml() -> Format:
    """Return what reads and what writes YAML, with the numbers of YAML 1.2."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            # Here, and not where the mapping is made: there a key may also have come from another by <<.
            node = super().compose_mapping_node(anchor)
            _check_once([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return node

    class Dumper(yaml.SafeDumper):
        pass

    for kind in (Loader, Dumper):
        kind.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))

    def read(content: bytes) -> Any:
        return yaml.load(content, Loader)

    def write(config: Any) -> str:
        return yaml.dump(config, Dumper=Dumper, sort_keys=False, allow_unicode=True)

    return read, write


def _check_once(keys: list[str]) -> None:
    """Raise ValueError where a key occurs twice, of which the first would go unseen."""
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"the key {', '.join(map(repr, twice))} occurs twice.")
