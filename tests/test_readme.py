"""The README is true: its commands, its example, its table of modules."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

from latprof.cli.main import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_it_begins_with_the_two_commands():
    (first, demo), (second, tests) = BLOCKS[:2]
    assert (first, second) == ("sh", "sh")
    assert demo.count("\n") == tests.count("\n") == 1
    assert ".venv" in demo
    assert demo.rstrip().endswith("latprof demo")
    assert "-m pytest" in tests
    before = TEXT[: TEXT.index(demo)]
    assert "demo" not in before
    assert "pytest" not in TEXT[: TEXT.index(tests)]


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = [block for language, block in BLOCKS if language == "python"]
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    plt.close("all")
    assert "mic: " in capsys.readouterr().out
    assert (tmp_path / "mic.parquet").exists()


def test_its_what_if_is_what_the_command_prints(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    shown = next(block for _, block in BLOCKS if block.startswith("$ latprof what-if"))
    call, _, table = shown.partition("\n")
    assert main(call.removeprefix("$ latprof ").split()) == 0
    assert capsys.readouterr().out.startswith(table)


def test_its_report_is_what_the_command_prints(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    shown = next(block for _, block in BLOCKS if block.startswith("$ latprof report"))
    call, _, report = shown.partition("\n")
    assert main(call.removeprefix("$ latprof ").split()) == 0
    assert capsys.readouterr().out.startswith(report.rstrip("\n") + "\n")


def test_its_example_is_short():
    example = next(block for language, block in BLOCKS if language == "python")
    assert len(example.strip().splitlines()) <= 20


def test_every_module_is_in_its_table():
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", TEXT[TEXT.index("## Modules") :], re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", "".join(rows)))
    modules = {path.stem for path in (ROOT / "latprof").glob("*.py")} - {"__init__"}
    assert modules <= named
    packages = {path.parent.name for path in (ROOT / "latprof").glob("*/__init__.py")}
    assert named - modules == packages


def test_its_links_and_pictures_are_there():
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert len(targets) >= 3
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []


def test_nothing_is_left_to_fill_in():
    assert "<!--" not in TEXT
