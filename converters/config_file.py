"""Reading the file that ``--config`` names: constructor arguments, or a bundle's configuration.

MONAI's bundles describe a network as ``{"_target_": "UNet", "channels": [16, 32], …}``. Values may
refer to others (``"@spatial_dims"``) or be expressions (``"$2 * 16"``): references are followed,
expressions are never evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.store.files import require_content
from jaxsal.store.parsing import parsed_json
from jaxsal_converters.checkpoint_file import shown

NETWORK = ("network_def", "network")  # entries that describe the network
_MOST_VALUES = 10_000  # in a network's arguments; references can make them endless
_MOST_DEEP = 20


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The JSON object, or YAML mapping, that a file holds.

    Raises:
        InputError: the file is missing or holds none.
    """
    path = Path(path)
    require_content(path)
    if not path.is_file():
        raise InputError(
            f"{path} is not a file; a JSON file with constructor arguments is expected"
        )
    kind = "YAML" if path.suffix in (".yaml", ".yml") else "JSON"
    try:
        content = _parsed(path.read_bytes(), kind)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as {kind}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(
            f'{path} must hold a {kind} object of constructor arguments, such as {{"strides": '
            f"[2, 2, 2, 2]}}; it holds a {type(content).__name__}"
        )
    return content


def _parsed(content: bytes, kind: str) -> Any:
    if kind == "JSON":
        return parsed_json(content)
    import yaml

    try:
        return yaml.safe_load(content)  # which makes plain values only
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def network_arguments(config: Mapping[str, Any], path: Path, class_name: str) -> dict[str, Any]:
    """The constructor arguments in a configuration: all of it, or what describes the network.

    Args:
        config: of the network alone, or of a bundle.
        path: of its file, for messages.
        class_name: of the network that is wanted.

    Raises:
        InputError: it describes another network, or an argument cannot be read.
    """
    described = config
    if "_target_" not in config:
        networks = (config[k] for k in NETWORK if isinstance(config.get(k), dict))
        described = next((each for each in networks if "_target_" in each), config)
    if described is config and any(key in config for key in NETWORK):
        raise InputError(
            f'{path} has no network_def with "_target_", the name of a class, and its arguments: '
            "write these into a file of their own"
        )
    try:
        _check_class(described.get("_target_", class_name), class_name)
        values = _Values(config)
        return {k: values.of(v, k) for k, v in described.items() if not str(k).startswith("_")}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_class(target: object, class_name: str) -> None:
    """Compares names without their modules and capitals: MONAI has UNet, Unet and unet.UNet."""
    if str(target).rpartition(".")[2].lower() != class_name.lower():
        raise InputError(
            f"it describes a {shown(target)}, and asked for was MONAI's {class_name}: networks "
            "that can be converted are `jaxsal convert unet`, `dynunet`, `swin-unetr`, "
            "`segresnet`, `segresnet-ds` and `mednext`"
        )


class _Values:
    """Plain values in place of references to other parts of a configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config, self._count = config, 0

    def of(self, value: Any, name: str, depth: int = 0) -> Any:
        """The value of the argument of that name."""
        self._count += 1
        if depth > _MOST_DEEP or self._count > _MOST_VALUES:
            raise InputError(f"{name} has too many values, or refers to itself")
        if isinstance(value, dict):
            return {k: self.of(v, name, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.of(v, name, depth + 1) for v in value]
        if isinstance(value, str) and value.startswith("@"):
            return self.of(self._referred(value[1:], name), name, depth + 1)
        if isinstance(value, str) and value.startswith("$"):
            return self.of(_literal(value, name), name, depth + 1)
        return value

    def _referred(self, path: str, name: str) -> Any:
        found: Any = self._config
        for part in re.split("::|#", path):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise InputError(f"{name} refers to @{path}, which is not there: write its value")
        return found


def _literal(expression: str, name: str) -> Any:
    """The value of an expression that is nothing but a number, a text or a list of them."""
    try:
        value = ast.literal_eval(expression[1:].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(
            f"{name} is the expression {expression!r}, and expressions in files are never "
            "executed: write its value"
        ) from error
    return list(value) if isinstance(value, tuple) else value
