"""Optional packages of the tests: skipped with a reason, but never where everything is required."""

import importlib
import os
from types import ModuleType

import pytest


def require(name: str) -> ModuleType:
    """Import a package that a test needs; skip without it, or fail under LATPROF_REQUIRE_ALL=1."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("LATPROF_REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is required by LATPROF_REQUIRE_ALL=1 but not here: {error}")
        pytest.skip(f"needs {name}: {error}")
