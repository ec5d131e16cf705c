"""Dataclasses from what a file holds, whose values may have any type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")


def typed(kind: Callable[..., _Kind], content: Mapping[str, Any]) -> _Kind:
    """A dataclass from the content of a file, whose values may have any type."""
    made = kind(**content)
    concrete: type = type(made)
    for name, declared in _types(concrete).items():
        if not fits(getattr(made, name), declared):
            raise TypeError(f"'{name}' has a value of the wrong type")
    return made


@lru_cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def fits(value: Any, declared: Any) -> bool:
    """Whether a value read from a file has the declared type; numbers must stay within 64 bits."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared is Any:
        return True
    if origin is UnionType:
        return any(fits(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if declared in (int, float):
        return type(value) in (int, declared) and abs(value) < 1 << 63
    return isinstance(value, declared)
