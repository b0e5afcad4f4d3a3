"""Configuration files of losses: JSON, or YAML if PyYAML is installed."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from agnoreg.files import as_path, write_whole
from agnoreg.messages import named, one_line, shown
from agnoreg.objects.build import build_loss, check_extent, found_at, shortest
from agnoreg.objects.loss import Loss
from agnoreg.objects.weighted import SECTIONS

__all__ = ["load_loss", "save_loss"]

#: A number such as 1e-5 or 1.0e5, without a point or without a sign of the exponent: a number in YAML 1.2 and JSON, a
#: string to PyYAML.
EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")

#: Maximum size of a file in bytes.
LARGEST = 1 << 18


def load_loss(path: str | os.PathLike[str]) -> Loss:
    """Build a loss from its configuration in a file.

    Parameters
    ----------
    path
        A file that ends in ``.json``, ``.yaml`` or ``.yml`` (which need PyYAML) and holds what `build_loss` takes; or
        has that under the key ``loss``, or under ``train: loss:`` as DeepReg's files do. Other keys are ignored then.

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
        If the file's name ends in something else, if it is not what its name says, if a key occurs twice, if it is
        larger than 256 KiB or holds more than 20 000 entries with all aliases written out, or as `build_loss` does; the
        message begins with the file's name.
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
    path = as_path(path)
    read, _ = _format(path)
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"{named(path)} is larger than {LARGEST} bytes, which no loss's configuration is.")
    try:
        config = read(content)
    except RecursionError:
        raise ValueError(f"{named(path)} cannot be read as {_kind(path)}: it is nested too deeply.") from None
    except Exception as error:
        # For a wrong tag PyYAML may raise any error of its constructors, such as a KeyError.
        raise ValueError(f"{named(path)} cannot be read as {_kind(path)}: {one_line(error)}") from error
    try:
        return build_loss(_loss_in(config))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{named(path)}: {one_line(error)}") from error


def _loss_in(config: Any) -> Any:
    """Return the loss's part of a file's content."""
    if not isinstance(config, Mapping) or {"name", "class", *SECTIONS} & set(config):
        return config
    places = [keys for keys in (("loss",), ("train", "loss")) if keys[-1] in _mapping_at(config, *keys[:-1])]
    if len(places) > 1:
        raise ValueError("There is a loss under 'loss' and another one under 'train': it must be one.")
    return found_at(config, *places[0]) if places else config


def _mapping_at(config: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found = found_at(config, *keys)
    return found if isinstance(found, Mapping) else {}


def save_loss(loss: Loss, path: str | os.PathLike[str]) -> None:
    """Write a loss's configuration to a file from which `load_loss` makes an equal loss.

    Names, weights and reductions are kept; arguments with their default values are left out. The write is atomic: to a
    temporary file in the same folder, which then replaces the file.

    Parameters
    ----------
    loss
        A loss of a class of agnoreg or one registered with `agnoreg.register_loss`; or an
        `agnoreg.loss.WeightedLoss` or `agnoreg.loss.RegistrationLoss` of such losses.
    path
        The file; its suffix chooses the format: ``.json``, or ``.yaml`` or ``.yml``, which need PyYAML.

    Raises
    ------
    OSError
        If the file cannot be written.
    ImportError
        If the file is to be YAML and PyYAML is not installed.
    ValueError
        If the file's name ends in something else, or if `load_loss` would not make an equal loss of it: the loss's
        class is not registered, or an argument cannot be represented in the file.
    TypeError
        If ``loss`` is not a loss.

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
    path = as_path(path)
    if not isinstance(loss, Loss):
        raise TypeError(f"save_loss takes a loss object, such as agnoreg.build_loss makes, got {shown(loss)}.")
    read, write = _format(path)
    try:
        content = write(shortest(loss)).encode()
        if len(content) > LARGEST:
            raise ValueError(f"it would have more than {LARGEST} bytes.")
        if build_loss(read(content)) != loss:
            raise ValueError("an argument, or the class of that name, would be another.")
    except Exception as error:
        raise ValueError(
            f"{named(path)} cannot be written, for {named(loss.name)} would not be read back: {one_line(error)} (A "
            "class of your own must be registered by agnoreg.register_loss, and its arguments be numbers, strings or "
            "lists.)"
        ) from error
    try:
        write_whole({path: content})
    except OSError as error:
        # The error names the requested file, not the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error


# --- formats ----------------------------------------------------------------------------------------------------------

Format = tuple[Callable[[bytes], Any], Callable[[Any], str]]


def _kind(path: Path) -> str:
    """Return the format for a file's suffix, in any case; an empty string if it is unknown."""
    return {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}.get(path.suffix.lower(), "")


def _format(path: Path) -> Format:
    """Return the reader and the writer for a file of this name."""
    kind = _kind(path)
    if kind == "JSON":
        return _read_json, _write_json
    if kind == "YAML":
        try:
            return _yaml()
        except ImportError as error:
            raise ImportError(
                f"{named(path)} is YAML, which needs PyYAML: pip install agnoreg[yaml] ({error})"
            ) from error
    raise ValueError(
        f"{named(path)} ends in none of the known suffixes .json, .yaml, .yml, which say how it is written."
    )


def _read_json(content: bytes) -> Any:
    return json.loads(content, object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once([key for key, _ in pairs])
    return dict(pairs)


def _write_json(config: Any) -> str:
    return json.dumps(config, indent=2, allow_nan=False) + "\n"


@lru_cache(maxsize=1)
def _yaml() -> Format:
    """Return the reader and the writer of YAML, with the numbers of YAML 1.2."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            # Checked here, not when the mapping is constructed: there, merge keys (<<) may legitimately repeat a key.
            node = super().compose_mapping_node(anchor)
            _check_once([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return node

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represented(dumper: Any, text: str) -> Any:
        # Double quotes escape unprintable characters, some of which YAML would read as line breaks.
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')

    Dumper.add_representer(str, represented)
    for kind in (Loader, Dumper):
        kind.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))

    def within(node: Any) -> list[Any]:
        pairs = node.value if isinstance(node, yaml.CollectionNode) else []
        return [part for pair in pairs for part in pair] if isinstance(node, yaml.MappingNode) else pairs

    def read(content: bytes) -> Any:
        loader = Loader(content)
        try:
            node = loader.get_single_node()
            # Checked before construction: merge keys expand aliases, which may grow exponentially.
            check_extent(node, within)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()

    def write(config: Any) -> str:
        return yaml.dump(config, Dumper=Dumper, sort_keys=False, allow_unicode=True)

    return read, write


def _check_once(keys: list[str]) -> None:
    """Raise ValueError if a key occurs twice: the parser would silently drop the first."""
    twice = sorted(key for key, count in Counter(keys).items() if count > 1)
    if twice:
        raise ValueError(f"the key {', '.join(map(shown, twice[:20]))} occurs twice.")
