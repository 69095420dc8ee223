"""How the values of parameters are read from sweep files and command lines, and shown in commands and errors."""

import os
import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from al.identity import FILE

SHOWN = 200
"""Characters of a value that an error shows."""

LONGEST_NAME, LONGEST_PATH = 255, 4000
"""Bytes of a name and of a path that file systems take, with room in the latter for what a run adds."""


def _none(value: Any) -> Any:
    """Sweep files and command lines write an unset value as `null`, `None` or nothing at all."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "none", "null") else value


def _names(value: Any) -> Any:
    """A list from a sweep file, or `a,b` from a command line, as a tuple of strings."""
    value = _none(value)
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list | tuple):
        names = sorted(str(name).strip() for name in value)
        if twice := [name for name, other in pairwise(names) if name == other]:
            raise ValueError(f"{twice[0]!r} is named twice; name each class once")
        return tuple(names)
    return value


def _in_turn(value: Any) -> Any:
    """Strategies as a list from a sweep file, as `FIRST,SECOND`; anything else as it is."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _path(value: Any) -> Any:
    """A path with `~` and `./` resolved, so that one file has one name; anything else as it is."""
    if not isinstance(value, str):
        return value
    prefix = FILE if value.startswith(FILE) else ""
    path = value.removeprefix(FILE)
    if not path.strip():
        raise ValueError("names nothing, which would be the current folder; give a name, or . for that folder")
    if "\0" in path:
        raise ValueError("a NUL character is in no path; remove it")
    longest = max(len(part.encode(errors="surrogatepass")) for part in path.split("/"))
    if longest > LONGEST_NAME or len(path.encode(errors="surrogatepass")) > LONGEST_PATH:
        raise ValueError(
            f"{len(path):,} characters are more than a file system takes: {LONGEST_NAME} bytes a name, "
            f"{LONGEST_PATH:,} in all; use a shorter path"
        )
    return prefix + os.path.normpath(Path(path).expanduser())


StrategyNames = Annotated[str, BeforeValidator(_in_turn)]
PathName = Annotated[str, BeforeValidator(_path)]
OptionalPath = Annotated[str | None, BeforeValidator(_path), BeforeValidator(_none)]
OptionalCount = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_none)]
OptionalSize = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none)]
OptionalNames = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]


def as_argument(value: Any) -> str:
    """As the command line of a shell takes it."""
    return shlex.quote(",".join(value) if isinstance(value, tuple) else str(value))


def shown(value: Any) -> str:
    """A value in an error: on one line, and not longer than that."""
    text = str(value).encode(errors="backslashreplace").decode()
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def explained(problem: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """One complaint of pydantic as `name=value: rule; what the parameter is and its default`."""
    if not problem["loc"]:  # a rule about several parameters
        return problem["msg"].removeprefix("Value error, ")
    name = str(problem["loc"][0])
    said = f"{name}={shown(problem['input'])}: "
    if problem["type"] == "value_error":  # one of our own, which knows the remedy
        return said + problem["msg"].removeprefix("Value error, ")
    rule = problem["msg"].replace("Input should be", "must be")
    field = fields[name]
    return f"{said}{rule} ({field.description}; default {field.default})"
