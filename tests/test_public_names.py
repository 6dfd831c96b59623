import ast
import importlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from strategies import CHAIN, seeded

import latprof

PACKAGE = Path(__file__).parents[1] / "latprof"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
HEAVY = ["pandas", "pyarrow", "matplotlib", "rich", "psutil", "importlib.metadata"]
HEAVY += ["jinja2", "shtab"]


@cache
def tree_of(module):
    path = PACKAGE.parent.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def listed(module):
    """Return a module's __all__ without loading it: some need optional packages."""
    for node in tree_of(module).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if getattr(target, "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return None


def modules_in(package):
    whole = [name for name in MODULES if name.rpartition(".")[0] == package]
    return [name.rpartition(".")[2] for name in whole]


def as_sorted(names):
    """CONSTANTS, then Classes, then functions, each by the alphabet."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def test_all_is_sorted():
    for module in MODULES:
        names = listed(module)
        assert names is not None, f"{module} has no __all__"
        assert names == as_sorted(set(names)), module


def names_bound_in(module):
    """Return the functions and classes that a module defines, and all other names that it binds."""
    defined, assigned = set(), set()
    for node in tree_of(module).body:
        for name in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                assigned.add(name.id)
        if isinstance(node, ast.ImportFrom):  # what is passed on from another module
            assigned |= {alias.name for alias in node.names}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
    return defined, assigned


def test_all_names_what_is_defined_here():
    for module in MODULES:
        if module == "latprof":
            continue
        names = set(listed(module))
        defined, assigned = names_bound_in(module)
        public = {name for name in defined if not name.startswith("_")}
        assert public <= names, f"{module}: public, but not in __all__"
        assert names <= public | assigned, f"{module}: in __all__, but not there"


def test_modules_import_public_names_only():
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latprof."):
                known = {*listed(node.module), *modules_in(node.module)}
                taken = {alias.name for alias in node.names}
                assert taken <= known, f"{module} imports from {node.module}"


def test_every_name_in_all_can_be_imported_and_is_listed_by_its_module():
    for name in latprof.__all__:
        value = getattr(latprof, name)
        assert getattr(latprof, name) is value
        home = getattr(value, "__module__", None)
        if home is not None:
            assert name in importlib.import_module(home).__all__
    assert dir(latprof) == sorted(latprof.__all__)
    with pytest.raises(AttributeError, match="module 'latprof' has no attribute 'nope'"):
        latprof.nope  # noqa: B018


def in_a_fresh_process(code):
    """Run code and return which of the heavy modules it has loaded."""
    code += f"\nimport sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_import_loads_numpy_and_nothing_heavier():
    code = "import latprof\nlatprof.Pipeline.chain('mic', 'decode').to_json(), latprof.AUDIO"
    assert in_a_fresh_process(code) == ["[]"]


def test_names_load_on_first_use():
    assert in_a_fresh_process("import latprof\nlatprof.Profile, latprof.Report") == ["[]"]
    loaded = in_a_fresh_process("import latprof\nlatprof.plot.histogram")
    assert loaded == ["[]"]


@pytest.fixture
def trace_file(tmp_path):
    frames = seeded(CHAIN, 50, 1, missing=0, negative=0, dropped=0)
    columns = {"frame_id": pa.array(frames.frame_id)}
    for mark, stamps in frames.marks.items():
        columns[mark] = pa.array(stamps, pa.timestamp("ns"))
    pq.write_table(pa.table(columns), tmp_path / "mic.parquet")
    (tmp_path / "mic.json").write_text(CHAIN.to_json(), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_report_loads_no_pandas(trace_file, form):
    call = ["report", str(trace_file / "mic.parquet"), "--format", form]
    call += ["--pipeline", str(trace_file / "mic.json")]
    *report, loaded = in_a_fresh_process(
        f"from latprof.cli.main import main\nstatus = main({call!r})\nassert status == 0, status"
    )
    assert json.loads(loaded) == ["pyarrow"]
    text = "\n".join(report)
    if form == "json":
        assert json.loads(text)["frames"] == 50
    else:
        assert text.startswith("mic: ")
