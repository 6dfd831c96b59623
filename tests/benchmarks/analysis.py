"""Time that latprof, DuckDB, Polars and pandas take for the same answers from the same file.

    python -m tests.benchmarks.analysis [--frames 10000000] [--runs 5] [--sizes 1,10,100]
    python -m tests.benchmarks.analysis --written-by pandas,polars,duckdb,groups,latprof

The file is generated and written by latprof. Each engine runs in its own process, one after the
other, in several rounds, so that a slow phase of the machine affects all of them. If an engine
has several forms of the query, each is tried twice and the fastest is used. "seconds" is the time
inside the process without imports; "process" includes the start of the interpreter. The answers
are compared: counts, sums, min and max must be equal, means and standard deviations agree to
1e-9, percentiles to 0.05 % of Polars' exact ones; DuckDB's are approximate and only shown. With
`--sizes` (millions of frames) it also measures how latprof's time and memory grow. With
`--written-by` the engines are latprof and DuckDB, on the same frames as each tool writes them with
its defaults ("groups": pyarrow, 700,000 rows in a row group). The output is Markdown.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import generated
from tests.benchmarks.engines import FORMS, PACKAGES, QS, Answers
from tests.benchmarks.writers import WRITERS

MODULE = "tests.benchmarks.engines"
EXACT = ("count", "sum", "min", "max")
CLOSE = ("mean", "std")
PERCENTILES = tuple(f"p{q:g}" for q in QS)


def fastest_form(engine: str, path: Path) -> tuple[str, str]:
    """Return the fastest form of an engine, and a note about all of them."""
    forms = list(FORMS[engine])
    if len(forms) == 1:
        return forms[0], ""
    took = {}
    for form in forms * 2:
        seconds = generated.child(MODULE, [engine, form, str(path)]).result["seconds"]
        took[form] = min(seconds, took.get(form, seconds))
    tried = ", ".join(f"{form} {seconds:.2f} s" for form, seconds in took.items())
    best = min(took, key=took.__getitem__)
    return best, f"{engine}: {tried}; kept: {best}"


def differences(answers: dict[str, Answers]) -> tuple[list[str], dict[str, float]]:
    """Return the differences from Polars, and the largest relative percentile error of each."""
    wrong, worst = [], {}
    exact = answers["Polars"]
    for engine, mine in answers.items():
        errors = []
        for span, known in exact.items():
            for fact in (*EXACT, *CLOSE):
                apart = abs(mine[span][fact] - known[fact])
                if apart > (0 if fact in EXACT else 1e-9 * abs(known[fact])):
                    wrong.append(
                        f"{engine}: {fact} of {span} is {mine[span][fact]}, not {known[fact]}"
                    )
            errors += [
                abs(mine[span][fact] - known[fact]) / max(known[fact], 1) for fact in PERCENTILES
            ]
        worst[engine] = max(errors)
        if worst[engine] > 0.0005 and engine != "DuckDB":
            wrong.append(f"{engine}: a percentile is {worst[engine]:.3%} off")
    return wrong, worst


def compare(path: Path, frames: int, runs: int, engines: list[str]) -> list[str]:
    """Print the comparison; return the wrong answers."""
    forms, notes = {}, []
    for engine in engines:
        forms[engine], note = fastest_form(engine, path)
        notes += [note] if note else []
    outcomes: dict[str, list[generated.Outcome]] = {engine: [] for engine in engines}
    for _ in range(runs):
        for engine in engines:
            outcomes[engine].append(generated.child(MODULE, [engine, forms[engine], str(path)]))
    wrong, worst = [], {}
    if "Polars" in engines:
        answers = {engine: found[-1].result["answers"] for engine, found in outcomes.items()}
        wrong, worst = differences(answers)
    base = [outcome.result["seconds"] for outcome in outcomes["latprof"]]
    rows = []
    for engine, found in outcomes.items():
        seconds = [outcome.result["seconds"] for outcome in found]
        ratios = [mine / ours for mine, ours in zip(seconds, base, strict=True)]
        rows.append(
            [
                engine,
                f"{statistics.median(seconds):.3f}",
                f"{min(seconds):.3f} - {max(seconds):.3f}",
                f"{statistics.median(ratios):.2f}",
                f"{statistics.median(o.whole_s for o in found):.2f}",
                f"{max(o.peak_mb for o in found):,.0f}",
                f"{worst[engine]:.4%}" if engine in worst else "-",
            ]
        )
    size = path.stat().st_size / frames
    print(f"\n{frames:,} frames, {size:.1f} bytes each; {runs} rounds, medians:\n")
    header = ["", "seconds", "range", "x latprof", "process", "peak MB", "percentiles off by"]
    print(generated.table(header, rows))
    for note in notes:
        print(f"\n{note}")
    return wrong


def of_others(folder: Path, frames: int, runs: int, writers: list[str]) -> list[str]:
    """Print how much quicker latprof is than DuckDB on files of several tools; return wrong ones.

    Of each round the two runs follow each other, and the ratio is that of the two.
    """
    source, rows, notes, wrong = folder / "source.parquet", [], [], []
    generated.write(source, frames)
    for writer in writers:
        path = folder / f"{writer}.parquet"
        generated.child("tests.benchmarks.writers", [writer, str(source), str(path)])
        form, note = fastest_form("DuckDB", path)
        notes.append(f"{writer}: {note}")
        pairs = []
        for _ in range(runs):
            ours = generated.child(MODULE, ["latprof", "analyze", str(path)])
            pairs.append((ours, generated.child(MODULE, ["DuckDB", form, str(path)])))
        first, last = pairs[-1]
        for span, known in last.result["answers"].items():
            mine = first.result["answers"][span]
            if any(mine[fact] != known[fact] for fact in EXACT):
                wrong.append(f"{writer}: {span} is {mine}, not {known}")
        cells = [writer, f"{path.stat().st_size / frames:.1f}"]
        for what in ("seconds", "cpu"):
            both = [[run.result[what] for run in pair] for pair in pairs]
            ratios = [theirs / ours for ours, theirs in both]
            cells += [f"{statistics.median(column):.2f}" for column in zip(*both, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
        cells += [
            f"{max(run.peak_mb for run in column):,.0f}" for column in zip(*pairs, strict=True)
        ]
        rows.append(cells)
        path.unlink()
    source.unlink()
    print(f"\n{frames:,} frames, {runs} rounds, medians; a new process for each run:\n")
    header = ["written by", "bytes a frame"]
    for what in ("seconds", "CPU seconds"):
        header += [f"{what}, latprof", "DuckDB", "DuckDB / latprof"]
    print(generated.table([*header, "peak MB, latprof", "DuckDB"], rows))
    for note in notes:
        print(f"\n{note}")
    return wrong


def growth(folder: Path, millions: list[float], runs: int) -> None:
    """Print how latprof's time and memory grow with the frames."""
    rows, before = [], None
    for size in millions:
        path, frames = folder / "growth.parquet", int(size * 1_000_000)
        generated.write(path, frames)
        found = [
            generated.child(MODULE, ["latprof", "analyze", str(path)]) for _ in range(max(runs, 1))
        ]
        path.unlink()
        seconds = statistics.median(outcome.result["seconds"] for outcome in found)
        grown = "" if before is None else f"{seconds / before[1] / (frames / before[0]):.2f}"
        peak = max(outcome.peak_mb for outcome in found)
        rows.append(
            [
                f"{frames:,}",
                f"{seconds:.3f}",
                f"{seconds / frames * 1e9:.0f}",
                grown,
                f"{peak:,.0f}",
            ]
        )
        before = frames, seconds
    print()
    header = ["frames", "seconds", "ns a frame", "time / frames, to the row above", "peak MB"]
    print(generated.table(header, rows))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000_000, help="0: no comparison")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sizes", default="", help="millions of frames, such as 1,10,100")
    parser.add_argument(
        "--written-by", default="", help=f"tools that write the files: {','.join(WRITERS)}"
    )
    parser.add_argument("--engines", default=",".join(name.replace(",", "") for name in FORMS))
    parser.add_argument("--folder", help="where the files are generated; default: a temporary one")
    options = parser.parse_args(arguments)
    known = {name.replace(",", ""): name for name in FORMS}
    engines = [known[name.strip()] for name in options.engines.split(",")]
    packages = dict.fromkeys(PACKAGES[engine] for engine in engines if engine in PACKAGES)
    print(generated.machine("latprof", "numpy", "pyarrow", *packages))
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.written_by:
            writers = [name.strip() for name in options.written_by.split(",")]
            wrong = of_others(Path(folder), options.frames, options.runs, writers)
        elif options.frames:
            path = Path(folder) / "frames.parquet"
            generated.write(path, options.frames)
            wrong = compare(path, options.frames, options.runs, engines)
            path.unlink()
        if options.sizes:
            growth(Path(folder), [float(s) for s in options.sizes.split(",")], options.runs)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
