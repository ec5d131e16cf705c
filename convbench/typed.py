"""Dataclasses from what a file holds, whose values may have any type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")
_Check = Callable[[Any], bool]
_BOUND = 1 << 63


def typed(kind: Callable[..., _Kind], content: Mapping[str, Any]) -> _Kind:
    """A dataclass from the content of a file, whose values may have any type."""
    made = kind(**content)
    values = vars(made)
    concrete: type = type(made)
    for name, fitting in _checks(concrete):
        if not fitting(values[name]):
            raise TypeError(f"'{name}' has a value of the wrong type")
    return made


def fits(value: Any, declared: Any) -> bool:
    """Whether a value read from a file has the declared type; numbers must stay within 64 bits."""
    return _check(declared)(value)


@cache
def _checks(kind: type) -> tuple[tuple[str, _Check], ...]:
    return tuple((name, _check(declared)) for name, declared in get_type_hints(kind).items())


@cache
def _check(declared: Any) -> _Check:
    """A test for one type, made once: a folder may hold a hundred thousand records."""
    origin, inner = get_origin(declared), [_check(one) for one in get_args(declared)]
    if declared is Any:
        return lambda value: True
    if origin is UnionType and len(inner) == 2:
        return lambda value: inner[0](value) or inner[1](value)
    if origin is UnionType:
        return lambda value: any(fitting(value) for fitting in inner)
    if origin is list:
        return lambda value: isinstance(value, list) and all(map(inner[0], value))
    if origin is dict:
        return lambda value: isinstance(value, dict) and all(map(inner[1], value.values()))
    if declared in (int, float):
        return lambda value: type(value) in (int, declared) and -_BOUND < value < _BOUND
    return lambda value: isinstance(value, declared)
