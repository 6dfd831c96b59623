"""Optional packages and programs of the tests: skipped with a reason where they are not.

Never where everything is required: then a test that would skip fails.
"""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def require(name: str) -> ModuleType:
    """Import a package that a test needs; skip without it, or fail under LATPROF_REQUIRE_ALL=1."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _without(name, str(error))


def require_program(*names: str) -> str:
    """Return the path of a program, of any of these names; skip or fail without it."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    _without(names[0], f"no {' or '.join(names)} in PATH: install Debian's package {names[0]}")


def _without(name: str, why: str) -> NoReturn:
    if os.environ.get("LATPROF_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is required by LATPROF_REQUIRE_ALL=1 but not here: {why}")
    pytest.skip(f"needs {name}: {why}")
