"""The profiles of a fleet: how large that of a host's day is, and how long it takes to merge many.

    python -m tests.benchmarks.hosts [--profiles 2000] [--frames 20000] [--day]

Each profile is of one host of the audio pipeline. `latprof merge` and `latprof report --by host`
run in processes of their own: their time and their largest memory are printed, and the merged
profile is compared with merging one profile after the other. `--day` folds 24 recordings of an
hour, 1,000 frames a second, and prints the size of the profile by part; it takes a minute.
"""

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import latprof
from latprof import AUDIO, Trace
from latprof.profile.file import profile_bytes

RATE = 1_000  # frames a second
# mean of each stage in us, and the shape of its gamma distribution
STAGES = ((300, 6), (80, 9), (150, 5), (2_000, 12), (9_000, 20))


def recording(host, seed, frames, *, hour=0, scale=1.0):
    """Return frames of the audio pipeline, slow together for a tenth of a second at a time."""
    random = np.random.default_rng(seed)
    at = hour * 3_600 * 10**9 + np.arange(frames) * (10**9 // RATE)
    busy = np.repeat(random.gamma(30, 1 / 30, frames // 100 + 1), 100)[:frames] * scale
    marks = {"start": at}
    for mark, (mean, shape) in zip(("webrtc", "ipc", "cgo", "alsa", "end"), STAGES, strict=True):
        at = at + (random.gamma(shape, mean * 1e3 / shape, frames) * busy).astype(np.int64)
        marks[mark] = at
    marks["validation"] = marks["webrtc"] + (marks["ipc"] - marks["webrtc"]) // 3
    marks["serialization"] = marks["ipc"] - (marks["ipc"] - marks["webrtc"]) // 3
    ids = np.arange(frames) + hour * 3_600 * RATE
    return Trace(AUDIO, frame_id=ids, marks=marks, meta={"host": host})


def measured(*arguments):
    """Run the command; return its output, and the time and memory that it took as text."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import resource, sys\nfrom latprof.cli.main import main\nstatus = main(sys.argv[1:])\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    call = [sys.executable, "-c", f"{code}sys.exit(status)", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    megabytes = int(done.stderr.split()[-1]) / 1e3
    return done.stdout, f"{seconds:.1f} s ({worked:.1f} s of a core), {megabytes:.0f} MB"


def merging(folder, profiles, frames):
    """Measure merging and comparing `profiles` saved profiles."""
    usual = np.exp(np.random.default_rng(0).normal(0, 0.04, profiles))
    for i in range(profiles):
        trace = recording(f"kvm-{i:05}", i, frames, scale=float(usual[i]))
        latprof.analyze(trace).save(folder / f"{i:05}.latprof")
    size = sum(path.stat().st_size for path in folder.iterdir()) / profiles
    print(f"{profiles:,} profiles of {frames:,} frames, {size / 1e3:,.1f} kB each")
    whole = folder.parent / "whole.latprof"
    said, took = measured("merge", folder, "-o", whole)
    print(f"merge: {took}")
    print(f"  {said.strip()}; {whole.stat().st_size / 1e3:,.1f} kB")
    said, took = measured("report", folder, "--by", "host")
    print(f"by host: {took}")
    print(f"  {said.splitlines()[0]}")
    begin = time.perf_counter()
    paths = sorted(folder.iterdir())
    one_by_one = latprof.load_profile(paths[0])
    for path in paths[1:]:
        one_by_one.add_profile(latprof.load_profile(path))
    print(f"one after the other: {time.perf_counter() - begin:.1f} s")
    tree = latprof.load_profile(whole)
    mine, theirs = exact(tree), exact(one_by_one)
    wrong = [name for name in mine if mine[name] != theirs[name]]
    print(f"  counts, sums, bins and frames are identical: {not wrong} {', '.join(wrong)}")
    pairs = zip(moments(tree), moments(one_by_one), strict=True)
    apart = [abs(a / b - 1) if b else abs(a) for a, b in pairs]
    print(f"  moments differ by at most {max(apart):.1e}")


def exact(profile):
    """Return what must not depend on the order of merging, by name."""
    sums, found = profile.sums, {"accounts": profile.accounts.to_dict()}
    for name, span in sums.spans.items():
        numbers = (span.count, span.missing, span.negative, span.most_negative, span.step)
        found[name] = (*numbers, span.total, span.peak, span.peak_frame, span.histogram.min)
        found[f"bins of {name}"] = span.histogram.bins.tolist()
        found[f"windows of {name}"] = sums.batches.counts(name).tolist()
    found["attribution"] = (sums.attributed, sums.shares, sums.at_most, sums.late, sums.gaps)
    found["tails"] = {name: column.tolist() for name, column in sums.tails.sums.items()}
    found["frames of bins"] = sums.tails.counts.tolist()
    found["frames"] = (sums.worst.frames, sums.exemplars.tolist(), sums.first_ns, sums.last_ns)
    return found


def moments(profile):
    """Return the sums of squares, which are floating-point numbers."""
    spans = profile.sums.spans.values()
    return [*(span.m2 for span in spans), *profile.sums.covariances.values()]


def sizes(values, path=()):
    """Yield (where, length of its JSON) for the parts of a saved profile."""
    for name, value in values.items():
        if isinstance(value, dict) and len(path) < 2 and "shape" not in value:
            yield from sizes(value, (*path, name))
        else:
            text = json.dumps(value, separators=(",", ":")).encode()
            yield ".".join((*path, name)), len(gzip.compress(text))


def day():
    """Measure the profile of a day of one host, as `analyze` makes it and as `report` does."""
    begin = time.perf_counter()
    for order in (False, True):
        hours = (
            latprof.analyze(recording("kvm-1", h, 3_600 * RATE, hour=h), order=order)
            for h in range(24)
        )
        found = latprof.merge(hours)
        content = profile_bytes(found)
        seconds = time.perf_counter() - begin
        what = "with order" if order else "by default"
        print(
            f"a day {what}: {found.frames:,} frames, {len(content) / 1e3:,.1f} kB, {seconds:.0f} s"
        )
        parts = sorted(sizes(json.loads(gzip.decompress(content))), key=lambda part: -part[1])
        for name, length in parts[:8]:
            print(f"  {name:<30} {length / 1e3:8.1f} kB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", type=int, default=2_000)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--day", action="store_true")
    options = parser.parse_args()
    if options.day:
        day()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "profiles"
        folder.mkdir()
        merging(folder, options.profiles, options.frames)


if __name__ == "__main__":
    main()
