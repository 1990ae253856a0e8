"""Import what is slow to import when it is first used."""

import importlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any


class _Lazy(ModuleType):
    # Stands for a module of the same name, which is imported when an attribute is asked for.

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def lazily(name: str) -> ModuleType:
    """Stand for a module until one of its names is used.

    Args:
        name: The module, as in 'pandas'.

    Returns:
        What can be used in its place; where it cannot be imported, its first use raises.
    """
    return _Lazy(name)


def lazy_function(module: str, name: str) -> Callable[..., Any]:
    """Stand for a function whose module is imported when it is first called.

    Args:
        module: The module, as in 'scipy.special'.
        name: The function's name in it.

    Returns:
        A function that calls it.
    """

    @cache
    def found() -> Callable[..., Any]:
        return getattr(importlib.import_module(module), name)

    def call(*arguments: Any, **options: Any) -> Any:
        return found()(*arguments, **options)

    call.__name__ = call.__qualname__ = name
    return call
