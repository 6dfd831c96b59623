"""Histograms that other tools have saved, as profiles: percentiles with the edges of their bins."""

import base64
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

import latprof
from latprof import ProfileError, Report, load_profile
from latprof.cli.main import main

FILES = Path(__file__).parent / "files"

SCRAPE = """# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 50
wait_seconds_bucket{le="0.5"} 90
wait_seconds_bucket{le="1"} 95
wait_seconds_bucket{le="+Inf"} 100
wait_seconds_sum 60
wait_seconds_count 100
"""


def save(where: Path, content: str | bytes) -> Path:
    where.write_bytes(content.encode() if isinstance(content, str) else content)
    return where


def test_percentiles_of_prometheus_buckets_are_edges_and_the_last_bucket_is_open(tmp_path, capsys):
    where = save(tmp_path / "metrics.txt", SCRAPE)
    total = load_profile(where)["end_to_end"]
    assert total.count == 100
    assert total.mean == 600_000_000
    known = total.percentile(50)
    assert (known.low, known.value, known.high) == (0, 100_000_000, 100_000_000)
    known = total.percentile(90)
    assert (known.low, known.high) == (100_000_000, 500_000_000)
    known = total.percentile(99)
    assert (known.low, known.high) == (None, None)
    assert known.note == "above 1.00 s: in the open bucket"
    assert total.max is None
    assert main(["report", str(where)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("histogram: 600 ms mean, p50 in (0 ns, 100 ms], p90 in (100 ms, 500 ms]")
    assert "p99 above 1.00 s: in the\n  open bucket" in text
    assert "frames/s" not in text


def test_nothing_is_invented_for_counts_in_bins(tmp_path, capsys):
    where, page = save(tmp_path / "metrics.txt", SCRAPE), tmp_path / "page.html"
    assert main(["report", str(where), "--format", "json", "--html", str(page)]) == 0
    report = json.loads(capsys.readouterr().out)
    # the sum of the file is known, and no other time, frame or difference between frames
    assert report["attribution"]["sums_ns"] == {}
    assert report["unclaimed"] is None
    assert report["ranges"] == report["worst"] == report["windows"] == []
    assert report["variance_shares"] == {}
    assert {part["frames"] for part in report["tail"].values()} == {0}
    text = re.sub(r"<[^>]+>", " ", page.read_text())
    assert "above 1.00 s: in the open bucket" in text
    assert "min is the lower edge of its bin" in text
    for invented in ("What slow frames have", "Slowest frames", "When frames", "350 ms"):
        assert invented not in text
    profile = load_profile(where)
    assert len(profile.worst()) == len(profile.tail()) == 0
    axes = latprof.plot.histogram(profile)
    assert axes.get_xlim()[1] > 10**9
    assert main(["report", str(where), "--deadline", "300ms"]) == 2
    assert "is a saved profile or has counts in bins" in capsys.readouterr().err


def test_exemplars_times_and_odd_labels_of_a_scrape_are_not_counts(tmp_path):
    text = (
        'a_ms_bucket{path="/{x} \\"y\\"",le="5"} 50 # {trace_id="9"} 1 1700000000.5\n'
        'a_ms_bucket{path="/{x} \\"y\\"",le="+Inf"} 60 1700000000000\n# EOF\n'
    )
    total = load_profile(save(tmp_path / "metrics.txt", text))["end_to_end"]
    assert total.count == 60
    assert total.percentile(50).value == 5_000_000


def test_a_scrape_without_its_last_bucket_has_the_values_of_its_count(tmp_path):
    text = 'a_ms_bucket{le="5"} 50\na_ms_count 70\n'
    total = load_profile(save(tmp_path / "metrics.txt", text))["end_to_end"]
    assert total.count == 70
    assert total.percentile(99).note == "above 5.00 ms: in the open bucket"


def test_one_of_several_metrics_is_chosen_and_labels_are_groups(tmp_path, capsys):
    more = 'b_ms_bucket{le="5",job="x"} 3\nb_ms_bucket{le="5",job="y"} 4\n'
    more += 'b_ms_bucket{le="9",job="y"} 7\n'
    where = save(tmp_path / "metrics.txt", SCRAPE + more)
    assert main(["report", str(where)]) == 2
    assert "one of the 2 histograms must be chosen (wait_seconds, b_ms)" in capsys.readouterr().err
    profile = load_profile(where, metric="b_ms")
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "job=x": 3,
        "job=y": 7,
    }
    assert profile.groups["job=y"]["end_to_end"].percentile(99).value == 9_000_000
    assert main(["report", str(where), "--spans", "b_ms"]) == 0
    assert "buckets of b_ms, taken as ms, from its name" in capsys.readouterr().out


def test_a_log_of_hdrhistogram_and_its_tags(tmp_path):
    rng = np.random.default_rng(3)
    whole = HdrHistogram(1, 3_600_000_000_000, 3)
    with (tmp_path / "a.hlog").open("w") as file:
        writer = HistogramLogWriter(file)
        writer.output_log_format_version()
        writer.output_legend()
        for tag in ("A", "B", None):
            part = HdrHistogram(1, 3_600_000_000_000, 3)
            for value in rng.lognormal(13, 2, 500).astype(int).tolist():
                part.record_value(value)
            if tag is not None:
                file.write(f"Tag={tag},")  # which the Python writer leaves out
            part.set_start_time_stamp(1_000)
            part.set_end_time_stamp(2_000)
            writer.output_interval_histogram(part)
            whole.add(part)
    profile = load_profile(tmp_path / "a.hlog")
    assert profile.frames == 1_500
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "A": 500,
        "B": 500,
        "(no tag)": 500,
    }
    total = profile["end_to_end"]
    for q in (1, 50, 90, 99, 99.9, 100):
        expected = whole.get_value_at_percentile(q)
        assert total.percentile(q).value == pytest.approx(expected, rel=0.0006), q
    assert total.max == whole.get_max_value()
    assert total.mean == pytest.approx(whole.get_mean_value(), rel=1e-6)


def versions(counts: list[int], ratio: float = 1.0) -> dict[str, bytes]:
    """Return a histogram of 2 digits from 1 on in the oldest versions: words of 8 bytes."""
    words = struct.pack(f">{len(counts)}q", *counts)
    zero = struct.pack(">iiqqq", 0x1C849308 | 0x80, 2, 1, 2**40, sum(counts)) + words
    head = struct.pack(">iiiiqqd", 0x1C849301 | 0x80, len(words), 0, 2, 1, 2**40, ratio)
    packed = {}
    for name, cookie, data in (("V0", 0x1C849309, zero), ("V1", 0x1C849302, head + words)):
        squeezed = zlib.compress(data)
        packed[name] = struct.pack(">ii", cookie | 0x80, len(squeezed)) + squeezed
    return packed


@pytest.mark.parametrize("version", ["V0", "V1"])
def test_older_versions_of_the_encoding(tmp_path, version):
    # 2 digits: 256 bins of 1, then 128 of 2: bin 300 has the values 256 + 2 * 44 and one more
    counts = [0] * 301
    counts[7], counts[300] = 5, 2
    text = base64.b64encode(versions(counts)[version]).decode()
    where = save(tmp_path / "a.hlog", f'"StartTimestamp","x"\n0.1,1.0,0.0,{text}\n')
    total = load_profile(where, unit="us")["end_to_end"]
    assert total.count == 7
    assert total.percentile(50).value == 7_000
    known = total.percentile(100)
    assert (known.low, known.high) == (344_000, 345_000)


def test_a_log_with_values_that_no_integer_holds_is_refused(tmp_path):
    text = base64.b64encode(versions([0] * 300 + [1], ratio=1e17)["V1"]).decode()
    where = save(tmp_path / "a.hlog", f'"StartTimestamp","x"\n0.1,1.0,0.0,{text}\n')
    with pytest.raises(ProfileError, match=r"line 2 is damaged \(its values are too large\)"):
        load_profile(where)


def test_damaged_logs_are_refused_in_one_line(tmp_path):
    bomb = zlib.compress(bytes(1 << 26), 9)
    bomb = base64.b64encode(struct.pack(">ii", 0x1C849304 | 0x10, len(bomb)) + bomb).decode()
    for text in (bomb, "HISTFAAAAEV", "####", "", base64.b64encode(b"1234567890" * 9).decode()):
        where = save(tmp_path / "a.hlog", f'"StartTimestamp","x"\n0.1,1.0,0.0,{text}\n')
        with pytest.raises(ProfileError, match=r"histogram of line 2 is damaged|must have 4"):
            load_profile(where)


def test_cyclictest_in_text_and_json_agree(tmp_path):
    text = (
        "# /dev/cpu_dma_latency set to 0us\n# Histogram\n000002 000010\t000000\n"
        "000003 000080\t000005\n000009 000000\t000004\n# Total: 000000090 000000009\n"
        "# Histogram Overflows: 00001 00000\n"
    )
    profile = load_profile(save(tmp_path / "a.txt", text))
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "thread 0": 91,
        "thread 1": 9,
    }
    known = profile.groups["thread 0"]["end_to_end"].percentile(50)
    assert (known.low, known.value, known.high) == (3_000, 3_000, 3_000)
    assert profile["end_to_end"].percentile(100).note.startswith("above")
    content = (
        '{"file_version": 1, "cmdline:": "x", "cmdline": "cyclictest -h 20", "thread": {"0": '
        '{"histogram": {"2": 10, "3": 80}, "cycles": 91}, "1": {"histogram": {"3": 5, "9": 4}, '
        '"cycles": 9}}}'
    ).replace('"cmdline": "cy', '"cmdline": "cy')
    same = load_profile(save(tmp_path / "a.json", content.replace("cmdline:", "x")))
    assert same.frames == 100
    assert same.groups["thread 1"]["end_to_end"].percentile(99).value == 9_000


def test_rtla_has_a_histogram_for_each_column(tmp_path):
    text = (
        "# RTLA timerlat histogram\n# Time unit is microseconds (us)\n# Duration:   0 00:00:02\n"
        "Index   IRQ-000   Thr-000\n0          1999         0\n2             1      1990\n"
        "17            0         8\nover:         0         2\ncount:     2000      2000\n"
        "min:          0         2\navg:          0         2\nmax:          2        30\n"
    )
    profile = load_profile(save(tmp_path / "a.txt", text))
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "IRQ-000": 2_000,
        "Thr-000": 2_000,
    }
    thread = profile.groups["Thr-000"]["end_to_end"]
    assert (thread.min, thread.mean, thread.max) == (2_000, 2_000, 30_000)
    assert thread.percentile(50).value == 2_000
    known = thread.percentile(100)
    assert (known.low, known.value, known.high) == (17_000, 30_000, 30_000)
    assert profile.groups["IRQ-000"]["end_to_end"].max == 2_000
    assert profile["end_to_end"].max == 30_000


def test_rtla_says_its_unit_and_shows_the_width_of_its_bins(tmp_path):
    text = (
        "# RTLA timerlat histogram\n# Time unit is nanoseconds (ns)\nIndex   IRQ-001   Thr-001\n"
        "0          1000       944\n100            0        55\n300            0         1\n"
        "over:         0         2\n"
    )
    where = save(tmp_path / "a.txt", text)
    profile = load_profile(where)
    assert "times are in bins of 100 ns; of a bin, the largest whole ns is shown" in profile.reading
    thread = profile.groups["Thr-001"]["end_to_end"]
    assert [thread.percentile(q).value for q in (50, 99, 99.8)] == [99, 199, 399]
    total = load_profile(where, unit="us")["end_to_end"]
    assert total.percentile(50).value == 99_000


def test_the_column_of_all_threads_of_cyclictest_is_not_counted_again(tmp_path):
    where = save(
        tmp_path / "a.txt",
        "# Histogram\n000000 000000\t000000\t000000\n000001 000010\t000002\t000012\n"
        "000002 000090\t000007\t000097\n# Total: 000000100 000000009 000000109\n"
        "# Histogram Overflows: 00001 00000 00001\n",
    )
    profile = load_profile(where)
    assert {n: group.frames for n, group in profile.groups.items()} == {
        "thread 0": 101,
        "thread 1": 9,
    }
    assert "the last column is the sum of the threads: left out" in profile.reading
    assert load_profile(where, unit="ns")["end_to_end"].percentile(90).value == 2


def test_files_that_cyclictest_wrote():
    text = (FILES / "cyclictest.txt").read_text()
    rows = [list(map(int, line.split())) for line in text.splitlines() if line[:1].isdigit()]
    above = next(line for line in text.splitlines() if line.startswith("# Histogram Overflows"))
    over = list(map(int, above.split()[3:]))
    said = {
        what: list(map(int, re.search(f"# {what} Latencies: (.*)", text)[1].split()))
        for what in ("Min", "Avg", "Max")
    }
    profile = load_profile(FILES / "cyclictest.txt")
    for thread in (0, 1):
        group = profile.groups[f"thread {thread}"]
        assert group.frames == sum(row[1 + thread] for row in rows) + over[thread]
        times = sorted(us for us, *counts in rows for _ in range(counts[thread]))
        rank = -(-group.frames // 2)
        total = group["end_to_end"]
        assert total.percentile(50).value == times[rank - 1] * 1_000
        found = {"Min": total.min, "Avg": total.mean, "Max": total.max}
        assert found == {what: us[thread] * 1_000 for what, us in said.items()}
    assert profile["end_to_end"].max == max(said["Max"]) * 1_000
    assert set(profile.groups) == {"thread 0", "thread 1"}  # the column of all is left out
    content = json.loads((FILES / "cyclictest.json").read_text())["thread"]
    profile = load_profile(FILES / "cyclictest.json")
    for name, thread in content.items():
        group = profile.groups[f"thread {name}"]
        assert group.frames == thread["cycles"]
        assert group["end_to_end"].max == thread["max"] * 1_000
        assert group["end_to_end"].mean == pytest.approx(thread["avg"] * 1_000)


def test_a_scrape_that_prometheus_wrote(tmp_path, capsys):
    where = str(FILES / "prometheus.txt")
    assert main(["report", where]) == 2
    assert "one of the 2 histograms must be chosen" in capsys.readouterr().err
    assert main(["report", where, "--spans", "prometheus_http_request_duration_seconds"]) == 0
    text = capsys.readouterr().out
    assert "7 values in bins" in text
    assert "histogram: 5.40 ms mean, p50 in (0 ns, 100 ms]" in text  # (9.764 + 28.03 ms) / 7


def test_a_table_of_percentiles_that_hdrhistogram_wrote(tmp_path):
    histogram = HdrHistogram(1, 10**9, 3)
    for value in range(1, 2_001):
        histogram.record_value(value)
    with (tmp_path / "a.hgrm").open("wb") as file:
        histogram.output_percentile_distribution(file, 1.0)
    total = load_profile(tmp_path / "a.hgrm", unit="us")["end_to_end"]
    assert (total.count, total.max) == (2_000, 2_000_000)
    assert total.mean == pytest.approx(1_000_500, rel=1e-3)
    for q in (50, 90, 99):
        found = total.percentile(q)
        assert found.low <= histogram.get_value_at_percentile(q) * 1_000 <= found.high


def test_tables_of_percentiles_have_the_unit_of_their_title(tmp_path):
    rows = "8.879 0.500000000000 {0} 2.00\n24.5 1.000000000000 {1}\n"
    header = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
    text = (
        f"Warming up...\nHistogram of RTT latencies in microseconds.\n{header}"
        f"{rows.format(6, 10)}Latency (ns):\n{header}{rows.format(3, 4)}"
    )
    profile = load_profile(save(tmp_path / "a.txt", text))
    found = {name: each["end_to_end"] for name, each in profile.groups.items()}
    assert {name: (each.percentile(50).high, each.max) for name, each in found.items()} == {
        "Histogram of RTT latencies in microseconds.": (8_879, 24_500),
        "Latency (ns)": (9, 24),
    }
    text = (
        '"Value","Percentile","TotalCount","1/(1-Percentile)"\n0.01,0.0,5,1.00\n3,1.0,9,Infinity\n'
    )
    profile = load_profile(save(tmp_path / "a.csv", text))
    assert (profile.frames, profile["end_to_end"].max) == (9, 3_000_000)


def test_percentile_tables_and_tables_of_edges(tmp_path):
    table = (
        "       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
        "       1.000 0.000000000000         10           1.00\n"
        "       2.500 0.500000000000         60           2.00\n"
        "       9.000 1.000000000000        100            inf\n"
        "#[Mean    =        3.000, StdDeviation   =        1.000]\n"
    )
    profile = load_profile(save(tmp_path / "a.hgrm", table), unit="ms")
    known = profile["end_to_end"].percentile(50)
    assert (known.low, known.high) == (1_000_000, 2_500_000)
    assert profile["end_to_end"].mean == 3_000_000
    assert profile["end_to_end"].max == 9_000_000
    edges = save(tmp_path / "b.csv", "le_ms,count\n5,50\n10,30\n+Inf,20\n")
    total = load_profile(edges)["end_to_end"]
    assert total.percentile(80).value == 10_000_000
    assert total.percentile(81).note == "above 10.0 ms: in the open bucket"
    assert [*load_profile(edges).reading] == ["edges are taken as ms, counts as those of each bin"]
    grows = load_profile(save(tmp_path / "d.csv", "le_ms,count\n5,50\n10,80\n+Inf,100\n"))
    assert "are they cumulative?" in " ".join(grows.reading)
    with pytest.raises(ProfileError, match="the unit of edges must be known"):
        load_profile(save(tmp_path / "c.csv", "le,count\n5,50\n"))


def test_profiles_of_histograms_are_saved_merged_and_refused_for_frames(tmp_path):
    where = save(tmp_path / "a.csv", "le_ms,count\n5,50\n10,30\n+Inf,20\n")
    twice = latprof.merge([load_profile(where), load_profile(where)])
    twice.save(tmp_path / "twice.latprof")
    back = load_profile(tmp_path / "twice.latprof")
    assert back.frames == 200
    assert str(Report(back)) == str(Report(twice))
    other = save(tmp_path / "b.csv", "le_ms,count\n5,50\n11,30\n")
    with pytest.raises(ProfileError, match="must have the same bins to merge"):
        latprof.merge([twice, load_profile(other)])
    with pytest.raises(latprof.TraceError, match="has histograms, not frames"):
        latprof.read(where)


def test_a_gzipped_table_is_not_a_saved_profile(tmp_path, capsys):
    import gzip

    where = save(tmp_path / "a.csv.gz", gzip.compress(b"a_ms,b_ms\n1,2\n"))
    assert main(["report", str(where), "--marks", "a_ms,b_ms"]) == 0
    assert "1.00 ms mean" in capsys.readouterr().out


def test_counts_that_no_tool_writes_are_refused(tmp_path):
    where = save(tmp_path / "a.csv", f"le_ms,count\n5,{2**62}\n")
    with pytest.raises(ProfileError, match="a bin must have at most"):
        load_profile(where)


def test_a_maximum_that_contradicts_the_counts_is_left_out_and_said(tmp_path):
    text = "# Histogram\n000003 000080\n000009 000004\n# Total: 84\n# Max Latencies: {}\n"
    where = save(tmp_path / "a.txt", text.format("00005"))
    profile = load_profile(where)
    assert profile["end_to_end"].max == 9_000
    said = "minimum or maximum contradict the counts, and are left out: thread 0"
    assert said in profile.reading
    profile = load_profile(save(where, text.format("00009")))
    assert said not in profile.reading


def test_merged_histograms_keep_exact_extremes_that_all_of_them_have(tmp_path):
    text = "# Histogram\n000003 {}\n# Total: 84\n# Histogram Overflows: 1\n# Max Latencies: {}\n"
    first = load_profile(save(tmp_path / "a.txt", text.format(80, 70)))
    second = load_profile(save(tmp_path / "b.txt", text.format(5, 90)))
    unknown = load_profile(save(tmp_path / "c.txt", text.format(5, "-")))
    merged = latprof.merge([first, second])
    assert merged["end_to_end"].max == 90_000
    assert merged["end_to_end"].percentile(100).low == 3_000
    merged.save(tmp_path / "d.latprof")
    assert load_profile(tmp_path / "d.latprof")["end_to_end"].max == 90_000
    assert latprof.merge([first, unknown])["end_to_end"].max is None


def test_histograms_with_different_edges_have_bounds_that_hold_for_all_values(tmp_path):
    text = (
        'a_ms_bucket{k="x",le="10"} 4\na_ms_bucket{k="x",le="40"} 8\n'
        'a_ms_bucket{k="y",le="20"} 1\na_ms_bucket{k="y",le="30"} 8\n'
    )
    total = load_profile(save(tmp_path / "a.txt", text))["end_to_end"]
    # the upper edges of ranks 6 to 12 are 30 ms; the lower edges of ranks 6 to 9 are 10 ms
    known = total.percentile(50)
    assert (known.low, known.value) == (10_000_000, 30_000_000)


def test_statistics_of_locust_are_checked(tmp_path):
    header = (
        "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,"
        "Min Response Time,Max Response Time,50%,99%,{}%\n"
    )
    row = "GET,/,10,0,3,3.5,1.25,9.5,3,{},10\n"
    total = load_profile(save(tmp_path / "a.csv", header.format(100) + row.format(9)))["end_to_end"]
    assert (total.count, total.min, total.mean, total.max) == (10, 1_250_000, 3.5e6, 9_500_000)
    assert total.percentile(50).value == 3_000_000
    for last, value in ((10, 9), (100, 2), (100, "1e400000000"), (100, "x")):
        with pytest.raises(ProfileError, match="the row of 'GET /' must have numbers"):
            load_profile(save(tmp_path / "a.csv", header.format(last) + row.format(value)))
    with pytest.raises(ProfileError, match="got their history"):
        load_profile(save(tmp_path / "b.csv", "Timestamp,User Count,Type,Name,Requests/s\n"))
