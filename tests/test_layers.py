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
    (0, "naming"),
    (1, "pipeline columns histogram files.whole accounts"),
    (1, "folding.moments folding.windows recorder.sampling"),
    (2, "files.intake files.seal files.trouble folding.exemplars folding.placed"),
    (2, "files.arrow files.metadata"),
    (2, "files.plan files.writer rings.names rings.ringformat rings.sight"),
    (2, "files.reader rings.ringfile rings.tickets"),
    (2, "store ring"),
    (2, "rings.ringreader"),
    (2, "ordering.segments ordering.facts"),
    (2, "ordering.arrivals ordering.pace"),
    (2, "ordering.order"),
    (3, "spans arguments joins.restarts ordering.orders"),
    (3, "joins.matching"),
    (3, "tables"),
    (3, "trace"),
    (4, "folding.worst folding.intervals joins.clocks joins.recordings"),
    (4, "joins.oneclock joins.picking"),
    (4, "folding.sums"),
    (4, "folding.tally folding.agreement"),
    (4, "folding.bins"),
    (4, "folding.oddfold"),
    (4, "attribution"),
    (4, "folding.fold joining intended recovery"),
    (5, "profiles.curves profiles.windowed"),
    (5, "profiles.spanprofile profiles.saved profiles.recorders"),
    (5, "profiles.gathered"),
    (5, "profiles.answers"),
    (5, "profile"),
    (5, "analysis profilefile"),
    (6, "layout limits"),
    (6, "summary"),
    (6, "report plot"),
    (6, "display page"),
    (7, "recorder.alerts recorder.forks recorder.keeping"),
    (7, "recorder.settings recorder.freeze"),
    (7, "recorder.recording recorder.room"),
    (7, "recorder.stream recorder.frame"),
    (7, "recorder.following recorder.stamping"),
    (7, "recorder.hotpath"),
    (7, "recorder.current"),
    (7, "recorder.livefold"),
    (7, "recorder.background recorder.bulk recorder.outputs recorder.overhead"),
    (7, "profiler"),
    (7, "recorder.wholeprocess"),
    (8, "console"),
    (8, "top"),
    (8, "demo"),
    (8, "commands"),
    (8, "cli"),
    (8, "__main__"),
)
LINE = {module: i for i, (_, modules) in enumerate(ROWS) for module in modules.split()}
LINE["latprof"] = LINE["profiler"]  # the package itself: its names load on first use

# besides numpy and the standard library
OTHERS = {f"files.{name}": {"pyarrow"} for name in ("arrow", "plan", "reader", "writer")}
OTHERS["console"] = OTHERS["top"] = {"rich"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts != ("__init__.py",)
}


# packages whose modules stand in rows of their own
SHELLS = {
    module
    for module in MODULES
    if module.endswith(".__init__") and module.split(".")[0] not in LINE
}


def name_in_table(module):
    """Return the entry for a module: its own, or that of its package; demo.card is in demo."""
    return module if module in LINE else module.split(".")[0]


def loaded(node):
    """Yield the names that code imports when it loads: not in functions, not for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                whole = f"{child.module}.{alias.name}".removeprefix("latprof.")
                yield f"latprof.{whole}" if whole in MODULES or whole in LINE else child.module
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from loaded(ast.Module(child.orelse, []))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from loaded(child)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_imports_lower_rows_only(module):
    mine = name_in_table(module)
    if module in SHELLS:
        assert list(loaded(ast.parse(MODULES[module].read_text(encoding="utf-8")))) == []
        return
    assert mine in LINE, f"latprof.{module} is in no row: put it into ROWS, and into the README"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for name in loaded(tree):
        first, _, rest = name.partition(".")
        if first == "latprof":
            other = name_in_table(rest) if rest else "latprof"
            assert other in LINE, f"latprof.{module} imports {name}, which is in no row of ROWS"
            lower = LINE[other] < LINE[mine] or (other == mine and "." in module + name[8:])
            assert lower, f"latprof.{module} may not import {name}: it stands in no lower row"
        else:
            allowed = first in sys.stdlib_module_names or first in {"numpy", *OTHERS.get(mine, ())}
            assert allowed, f"latprof.{module} may not import {name} when it loads: do so on use"


def test_rows_name_only_what_exists():
    there = {name_in_table(module) for module in MODULES if module not in SHELLS}
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
        ("from latprof import spans, AUDIO", ["latprof.spans", "latprof"]),
        ("from latprof.files import seal", ["latprof.files.seal"]),
    ],
)
def test_this_finds_what_is_imported(code, names):
    assert list(loaded(ast.parse(code))) == names
