"""Settings as nested dictionaries, composed by Hydra of the files of `conf` and overrides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf


def config_folder() -> Path:
    """The folder of the configuration: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings that these overrides compose, outside a run of Hydra. Raises ValueError if they do not."""
    register_resolvers()
    try:
        with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
            return plain(hydra.compose("config", overrides=list(overrides)))
    except HydraException as fault:
        raise ValueError(f"these settings do not compose: {fault}") from fault


def explained(fault: HydraException, overrides: Sequence[str], folders: Sequence[Path] = ()) -> str:
    """What is wrong with these overrides, given what Hydra says, and what to write.

    `folders` of configuration files are looked into beside automerge's own.
    """
    said = str(fault).partition("\nConfig search path")[0].partition("\nSee https://")[0]
    if isinstance(fault, OverrideParseException):
        return f"these words are no KEY=VALUE: {said}\nput what has blanks, braces or brackets into single quotes"
    if not (unknown := re.match(r"Could not override '(?:(.*)\.)?(.+?)'", said)):
        return said if fault.__cause__ is None else f"{said}: {fault.__cause__}"
    section, name = unknown.groups()
    # Choices of whole files, such as the optimizer, say what there is to set.
    choices = [each for each in overrides if "." not in (key := each.partition("=")[0]) and key != name]
    places = ",".join(f"file://{folder.absolute()}" for folder in folders)
    try:
        settings: Any = composed([*choices, f"hydra.searchpath=[{places}]"])
        for part in section.split(".") if section else ():
            settings = settings[part]
    except (ValueError, TypeError, KeyError):
        return said
    if not isinstance(settings, dict):
        return f"{section} is a value and has no settings below it, such as {name}"
    known = sorted(key for key in settings if not key.startswith("_"))
    place = f"{section}." if section else ""
    close = get_close_matches(name, known, 1)
    guess = f"; did you mean {place}{close[0]}?" if close else "."
    return f"there is no setting {place}{name}{guess} {f'{section} has' if section else 'There are'} {', '.join(known)}"


def refuse_faulty_files(folders: Sequence[Path], overrides: Sequence[str]) -> None:
    """Raises ValueError naming a file that these overrides choose in one of the folders and that is no YAML.

    Raises FileNotFoundError if there is no such folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder of configuration files at {folder}")
    for override in overrides:
        group, _, value = override.lstrip("+").partition("=")
        for folder, name in product(folders, re.split(r"[\[\], ]+", value)):
            file = folder / group / f"{name}.yaml"
            if name and file.is_file():
                _refuse_faulty(file)


def _refuse_faulty(file: Path) -> None:
    try:
        list(yaml.parse(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
    except UnicodeDecodeError as fault:
        raise ValueError(f"{file} is not written in UTF-8: {fault}") from fault
    except yaml.YAMLError as fault:
        hint = "; write regular expressions in single quotes" if "escape" in str(fault) else ""
        raise ValueError(f"{file} is no YAML: {fault}{hint}") from fault


def register_resolvers() -> None:
    """Teaches OmegaConf `${zoo:PATH}`, a file of the embedded zoo, and `${folder_name:TEXT}`."""
    from automerge import zoo  # noqa: PLC0415

    OmegaConf.register_new_resolver("zoo", zoo.path, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


LONGEST_NAME = 150
"""Most characters of a run's folder: file systems take 255 bytes, and files lie below it."""


def folder_name(text: str) -> str:
    """The text as the name of one folder that needs no quotes in a shell, other texts as other names.

    Overrides may hold paths, which would be folders in folders, and be longer than names may be.
    """
    name = re.sub(r"[^\w.,=+-]+", "_", text, flags=re.ASCII)
    if name == text and len(name) <= LONGEST_NAME and name not in (".", ".."):
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plain(config: Any) -> dict[str, Any]:
    """The settings of a composed configuration as nested dictionaries, without Hydra's own."""
    settings = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in settings.items() if key != "hydra"} if isinstance(settings, dict) else {}
