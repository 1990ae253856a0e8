"""Import what is slow to import when it is first used."""

import ast
import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
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


def lazy_exports(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Give a package the names that it imports for type checkers, each when it is first used.

    Args:
        package: Its `__name__`. Its file holds a block `if TYPE_CHECKING:` with the imports.

    Returns:
        What the package calls `__getattr__` and `__dir__` (PEP 562).
    """
    names = vars(sys.modules[package])

    @cache
    def homes() -> dict[str, str]:
        tree = ast.parse(Path(names["__file__"]).read_text(encoding="utf-8"))
        blocks = [node for node in tree.body if isinstance(node, ast.If)]
        imports = [node for block in blocks for node in block.body]
        return {
            alias.name: node.module
            for node in imports
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }

    def get(name: str) -> object:
        if name.startswith("__") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes()[name]
        if home == package:  # a package inside of it
            found = importlib.import_module(f"{package}.{name}")
        else:
            found = getattr(importlib.import_module(home), name)
        names[name] = found
        return found

    def listed() -> list[str]:
        return sorted(names["__all__"])

    return get, listed


def declared(home: str) -> Any:
    """Import what a declaration names.

    Args:
        home: MODULE:NAME below `robustcl`, as in 'attacks._pgd:pgd'.

    Returns:
        The function or class.
    """
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(f"robustcl.{module}"), name)
