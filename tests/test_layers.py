"""Which module may import which: lower rows, and never in a circle.

Imports inside functions count as well. Those are for what is slow to load, or seldom needed.
"""

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "latprof"

# A module or package may import from its own row and from the rows above it.
ROWS = (
    "errors text units arrays",
    "marks pipeline histogram frames accounts hosts thresholds table colors",
    "ring io",
    "trace recovery",
    "fold sequence joining queueing",
    "profile parts analysis comparing",
    "report plot",
    "recorder",
    "cli top demo export __main__ pytest_plugin",
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names.split()}

# what a module may load at its top, besides numpy and the standard library
HEAVY = {
    "io.arrow": {"pyarrow"},
    "io.csv_writer": {"pyarrow"},
    "io.formats.delimited": {"pyarrow"},
    "io.formats.frame_tools": {"pyarrow"},
    "io.formats.load_tools": {"pyarrow"},
    "io.formats.layout": {"pyarrow"},
    "io.formats.logs": {"pyarrow"},
    "io.formats.rows": {"pyarrow"},
    "io.formats.sources": {"pyarrow"},
    "io.formats.times": {"pyarrow"},
    "io.formats.unknown": {"pyarrow"},
    "io.reader": {"pyarrow"},
    "io.writer": {"pyarrow"},
    "pytest_plugin": {"pytest"},
    "report.terminal": {"rich"},
    "top": {"rich"},
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def imports_of(tree):
    """Yield (name, in a function) for what code imports; what is imported for types is left out."""

    def visit(node, deep):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, deep) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    yield (name if name.removeprefix("latprof.") in MODULES else child.module), deep
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from visit(ast.Module(child.orelse, []), deep)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, deep or function)

    return list(visit(tree, False))


@cache
def imports_in(module):
    """Return the imports of a module, read once."""
    return imports_of(ast.parse(MODULES[module].read_text(encoding="utf-8")))


def first_party(module):
    """Return the modules of latprof that a module imports, at its top or in functions."""
    names = {name for name, _ in imports_in(module) if name.startswith("latprof.")}
    return {name.removeprefix("latprof.") for name in names}


def row_of(module):
    return ROW[module.split(".")[0]]


def test_modules_import_from_their_own_row_and_from_lower_rows():
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        for other in first_party(module)
        if row_of(other) > row_of(module)
    ]
    assert upward == []


def test_imports_make_no_circle():
    graph = {module: first_party(module) - {module} for module in MODULES}
    for module in MODULES:  # importing a module loads the packages that it is in
        package = module.rpartition(".")[0]
        if package and module not in graph[package]:
            graph[module].add(package)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_few_imports_of_latprof_are_inside_functions():
    hidden = [
        f"{module} imports {name}"
        for module in MODULES
        for name, deep in imports_in(module)
        if deep and name.startswith("latprof")
    ]
    assert len(hidden) < 40, "\n".join(hidden)


def test_packages_that_are_slow_to_load_are_imported_on_use():
    early = [
        f"{module} imports {name}"
        for module in MODULES
        for name, deep in imports_in(module)
        if not deep
        and name.split(".")[0] not in {"latprof", "numpy", *sys.stdlib_module_names}
        and name.split(".")[0] not in HEAVY.get(module, HEAVY.get(module.split(".")[0], ()))
    ]
    assert early == []


def test_imports_are_absolute_and_by_name():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"latprof.{module} imports relatively"
                assert "*" not in [alias.name for alias in node.names], f"latprof.{module}: *"


def test_the_reader_of_imports_finds_them():
    code = "import a.b\nfrom latprof.io import arrow\ndef f():\n from latprof import trace, AUDIO\n"
    code += "if TYPE_CHECKING:\n import c\nelse:\n import d\n"
    assert imports_of(ast.parse(code)) == [
        ("a.b", False),
        ("latprof.io.arrow", False),
        ("latprof.trace", True),
        ("latprof", True),
        ("d", False),
    ]
