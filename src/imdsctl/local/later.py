"""Modules that are loaded when they are first needed: most runs never ask most services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

from imdsctl.local.call import Operation, Operations


class Later(Mapping[str, Operation]):
    """The `OPERATIONS` of a module."""

    def __init__(self, module: str) -> None:
        self._module = module

    @cached_property
    def _loaded(self) -> Operations:
        loaded: Operations = import_module(self._module).OPERATIONS
        return loaded

    def __getitem__(self, action: str) -> Operation:
        return self._loaded[action]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


def later(module: str, function: str) -> Callable[..., Any]:
    """A function of a module."""

    def call(*args: Any) -> Any:
        return getattr(import_module(module), function)(*args)

    return call
