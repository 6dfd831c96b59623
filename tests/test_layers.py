"""What a module may import when it loads. What it needs on use, it imports inside functions."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "latprof"

# Each line may import the lines above it, not its own line. The number is the row of DESIGN.md,
# section 3; a row has several lines where a module of it stands on others of it.
ROWS = (
    (0, "errors units"),
    (1, "pipeline columns histogram moments windows sampling files accounts"),
    (2, "intake seal exemplars placed"),
    (2, "arrow metadata"),
    (2, "plan"),
    (2, "ringformat"),
    (2, "ringfile"),
    (2, "ring store"),
    (2, "ringreader"),
    (2, "segments facts"),
    (2, "arrivals pace"),
    (2, "order"),
    (3, "spans arguments restarts orders"),
    (3, "matching"),
    (3, "tables"),
    (3, "trace"),
    (4, "worst intervals clocks recordings"),
    (4, "oneclock picking"),
    (4, "sums"),
    (4, "tally agreement"),
    (4, "bins"),
    (4, "oddfold"),
    (4, "attribution"),
    (4, "fold joining intended recovery"),
    (5, "curves windowed"),
    (5, "spanprofile saved"),
    (5, "answers"),
    (5, "profile"),
    (5, "analysis profilefile"),
    (6, "layout"),
    (6, "report plot"),
    (6, "display"),
    (7, "alerts forks keeping"),
    (7, "settings freeze"),
    (7, "recording room"),
    (7, "stream frame"),
    (7, "following"),
    (7, "hotpath"),
    (7, "current"),
    (7, "livefold"),
    (7, "background bulk outputs overhead"),
    (7, "profiler"),
    (7, "wholeprocess"),
    (8, "console"),
    (8, "demo"),
    (8, "commands"),
    (8, "cli"),
)
LINE = {module: i for i, (_, modules) in enumerate(ROWS) for module in modules.split()}
LINE["latprof"] = LINE["profiler"]  # the package itself: its names load on first use

# besides numpy and the standard library
OTHERS = {"arrow": {"pyarrow"}, "plan": {"pyarrow"}, "store": {"pyarrow"}, "console": {"rich"}}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts != ("__init__.py",)
}


def name_in_table(module):
    """demo.card is part of demo, and so will formats.chrome be part of formats."""
    return module.split(".")[0]


def loaded(node):
    """Yield the names that code imports when it loads: not in functions, not for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                whole = f"{child.module}.{alias.name}".removeprefix("latprof.")
                part_of_package = child.module == "latprof" and name_in_table(whole) in LINE
                yield f"latprof.{whole}" if part_of_package else child.module
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from loaded(ast.Module(child.orelse, []))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from loaded(child)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_imports_lower_rows_only(module):
    mine = name_in_table(module)
    assert mine in LINE, f"latprof.{module} is in no row: put it into ROWS, and into the README"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for name in loaded(tree):
        first, *rest = name.split(".")
        if first == "latprof":
            other = rest[0] if rest else "latprof"
            assert other in LINE, f"latprof.{module} imports {name}, which is in no row of ROWS"
            lower = LINE[other] < LINE[mine] or (other == mine and "." in module + name[8:])
            assert lower, f"latprof.{module} may not import {name}: it stands in no lower row"
        else:
            allowed = first in sys.stdlib_module_names or first in {"numpy", *OTHERS.get(mine, ())}
            assert allowed, f"latprof.{module} may not import {name} when it loads: do so on use"


def test_rows_name_only_what_exists():
    there = {name_in_table(module) for module in MODULES}
    assert LINE.keys() - there == {"latprof"}
    assert [row for row, _ in ROWS] == sorted(row for row, _ in ROWS)


def test_nothing_is_imported_relatively_or_whole():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"latprof.{module} imports relatively"
                assert "*" not in [alias.name for alias in node.names], f"latprof.{module}: *"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import a.b\nfrom c.d import e", ["a.b", "c.d"]),
        ("def f():\n import a\nclass C:\n import b\n def g(self): import c", ["b"]),
        ("if TYPE_CHECKING:\n import a\nelse:\n import b", ["b"]),
        ("if typing.TYPE_CHECKING:\n import a\nif x:\n import b", ["b"]),
        ("try:\n import a\nexcept ImportError:\n import b", ["a", "b"]),
        ("from latprof import intake, AUDIO", ["latprof.intake", "latprof"]),
    ],
)
def test_this_finds_what_is_imported(code, names):
    assert list(loaded(ast.parse(code))) == names
