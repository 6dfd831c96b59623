"""Run the recorder's tests on a C core with sanitizers: ``python -m tests.sanitize``.

The core is compiled with AddressSanitizer, UndefinedBehaviorSanitizer and all warnings as errors,
into a copy of the package. Needs gcc and Python's headers. Further arguments are those of pytest.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLAGS = ["-std=c11", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
TESTS = ["cores", "recorder", "profiler", "current", "thresholds", "sampling", "backpressure"]
TESTS += ["threads", "stopping"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("latprof", "tests", "data"):
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
            )
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, copy / name)
        core = copy / "latprof/recorder/_core"
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        include = sysconfig.get_path("include")
        compiler = ["gcc", *FLAGS, f"-I{include}", f"{core}.c", "-o", f"{core}{suffix}"]
        subprocess.run(compiler, check=True)
        found = [
            subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True)
            for name in ("libasan.so", "libubsan.so")
        ]
        settings = {
            "LD_PRELOAD": " ".join(each.stdout.strip() for each in found),
            # CPython frees nothing when it ends; references are counted in tests/test_cores.py
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "LATPROF_IMPL": "c",
            "PYTHONMALLOC": "malloc",  # so that each object is watched
            "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tests'}",
        }
        tests = [f"tests/test_{name}.py" for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        # the process that runs Python inherits the sanitizers, which must be loaded first
        done = subprocess.run([*command, *sys.argv[1:]], cwd=copy, env=os.environ | settings)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
