"""Completion in a real shell."""

import subprocess
import sys

import pytest

from latprof.cli.completion import SHELLS
from latprof.cli.main import main

COMPLETE = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
complete -p latprof >/dev/null
_shtab_latprof
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def offered(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "latprof.bash"
    script.write_text(capsys.readouterr().out)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "mic.parquet").touch()

    def ask(words):
        code = COMPLETE.format(script=script, words=words)
        done = subprocess.run(
            ["bash", "--norc", "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    return ask


def test_bash_offers_commands_options_choices_and_files(offered):
    assert {"report", "plot", "export", "merge"} <= offered("latprof ''")
    assert offered("latprof rep") == {"report"}
    assert offered("latprof report --wors") == {"--worst"}
    assert offered("latprof report --stat") == {"--statistic"}
    assert offered("latprof report --format m") == {"markdown"}
    assert offered("latprof report m") == {"mic.parquet"}
    assert offered("latprof plot -o m") == {"mic.parquet"}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_knows_the_commands(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("report", "merge", "worst", "markdown"):
        assert word in script


def test_an_unknown_shell_is_refused_in_one_line():
    call = [sys.executable, "-m", "latprof.cli.main", "completion", "cmd.exe"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "invalid choice: 'cmd.exe'" in done.stderr
