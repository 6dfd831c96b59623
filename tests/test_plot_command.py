"""The command `latprof plot`: kinds, results, styles, formats, and one line for each mistake."""

import argparse
import re
from itertools import cycle
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import latprof
from latprof import Pipeline, Span, Trace
from latprof.cli.main import main
from latprof.cli.plot import KINDS
from latprof.cli.queueing import changes_of
from latprof.errors import LatprofError

MIC = Pipeline(
    "mic",
    ("start", "decode", "play", "end"),
    (Span("decode", "decode", "play"), Span("play", "play", "end", station="card")),
)
OF_FRAMES = {"blame", "what-if", "load-curve"}  # the others need a profile only
MORE = {"what-if": ["--faster", "play=10%"], "load-curve": ["--until", "p99<50ms"]}
HEADS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("traces")
    for name, slow in (("a", 1), ("b", 3)):
        start = np.arange(400) * 20_000_000
        play = start + 700_000 * slow + np.arange(400) * 1_000
        marks = {"start": start, "decode": start + 1_000, "play": play, "end": play + 5_000_000}
        sources = ["in\x1b[31m<b>", "out"] * 200
        trace = Trace(MIC, frame_id=range(400), marks=marks, size=960, source=sources)
        trace.save(where / f"{name}.parquet")
    latprof.analyze(where / "a.parquet").save(where / "a.latprof")
    return where


def run(*arguments):
    return main(["plot", *(str(argument) for argument in arguments)])


def refused(capsys, *arguments):
    """Return the one line that refuses a call."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("latprof: ")
    return err


def mean_color(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).mean()


# how a file is written does not depend on the kind
@pytest.mark.parametrize(("kind", "ending"), [*zip(KINDS, cycle(HEADS), strict=False)])
def test_each_kind_and_each_format(folder, tmp_path, kind, ending):
    out = tmp_path / f"mic.{ending}"
    assert run(folder / "a.parquet", "--kind", kind, *MORE.get(kind, []), "-o", out) == 0
    assert out.read_bytes().startswith(HEADS[ending])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_a_saved_profile(folder, tmp_path, capsys, kind):
    call = [folder / "a.latprof", "--kind", kind, *MORE.get(kind, []), "-o", tmp_path / "mic.png"]
    if kind in OF_FRAMES:
        assert f"--kind {kind} needs the traces, but " in refused(capsys, *call)
    else:
        assert run(*call) == 0


def words(path):
    """Return what the comments of an SVG say: matplotlib writes each text there."""
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL))


@pytest.mark.parametrize("kind", ["histogram", "percentiles", "ecdf", "timeline", "stages"])
def test_several_traces_are_drawn_over_each_other(folder, tmp_path, kind):
    out = tmp_path / "both.svg"
    assert run(folder / "a.parquet", folder / "b.parquet", "--kind", kind, "-o", out) == 0
    assert "mic: 2 results" in words(out)


def test_traces_of_one_name_are_named_with_their_paths(folder, tmp_path):
    out = tmp_path / "both.svg"
    assert run(folder / "a.parquet", folder / "a.latprof", "--kind", "ecdf", "-o", out) == 0
    assert "mic: 2 results" in words(out)
    twice = [folder / "a.parquet"] * 3
    assert run(*twice, "--kind", "ecdf", "-o", out) == 0
    assert all(f"{i}: " in words(out) for i in (1, 2, 3))


def test_a_picture_is_as_high_as_its_rows_need(folder, tmp_path):
    out = tmp_path / "mic.png"
    heights = []
    for worst in (10, 60):
        assert run(folder / "a.parquet", "--kind", "waterfall", "--worst", worst, "-o", out) == 0
        with Image.open(out) as image:
            assert image.width == 1350
            heights.append(image.height)
    # 60 rows of 0.26 inches, at 150 dots an inch
    assert heights[0] == 750
    assert heights[1] > 60 * 0.26 * 150


def test_a_folder_is_one_result(folder, tmp_path):
    out = tmp_path / "all.svg"
    assert run(folder, "--kind", "histogram", "-o", out) == 0
    assert "mic: 800 frames" in words(out)
    out = tmp_path / "glob.svg"
    assert run(folder / "*.parquet", "--kind", "histogram", "-o", out) == 0
    assert "mic: 800 frames" in words(out)


def test_groups_are_drawn_over_each_other(folder, tmp_path):
    out = tmp_path / "by.svg"
    assert run(folder / "a.parquet", "--by", "source", "--kind", "percentiles", "-o", out) == 0
    said = words(out)
    assert "mic: 2 results" in said
    assert "\x1b" not in out.read_text()
    ElementTree.fromstring(out.read_bytes())


def test_every_is_the_width_of_the_windows(folder, tmp_path):
    out = tmp_path / "time.svg"
    call = [folder / "a.parquet", "--kind", "timeline", "--every", "500ms"]
    assert run(*call, "-o", out) == 0
    assert "in windows of 500 ms" in words(out)


def test_spans_and_thresholds(folder, tmp_path):
    out = tmp_path / "span.svg"
    call = [folder / "a.parquet", "--span", "play", "--threshold", "50ms", "-o", out]
    assert run(*call) == 0
    assert "mic: 400 frames, play" in words(out)
    assert words(out).endswith(" 50 ms")  # as it was given


@pytest.mark.parametrize(
    ("style", "dark"), [("light", False), ("dark", True), ("dark_background", True)]
)
def test_styles(folder, tmp_path, style, dark):
    out = tmp_path / "mic.png"
    assert run(folder / "a.parquet", "--style", style, "-o", out) == 0
    assert (mean_color(out) < 100) == dark
    with Image.open(out) as image:
        assert image.size == (1350, 750)


def test_a_style_is_restored(folder, tmp_path):
    import matplotlib as mpl

    before = mpl.rcParams["text.color"]
    assert run(folder / "a.parquet", "--style", "dark", "-o", tmp_path / "mic.png") == 0
    assert mpl.rcParams["text.color"] == before


MISTAKES = {
    "--style https://example.org/x.mplstyle": "got 'https://example.org/x.mplstyle'",
    "--kind stages --span play": "--span with --kind stages must not be given",
    "--kind timeline --span play --span decode": "--span with --kind timeline must be given once",
    "--kind heatmap --threshold 1ms --threshold 2ms": "--threshold with --kind heatmap must be",
    "--kind waterfall --threshold 1ms": "--threshold with --kind waterfall must not be given",
    "--kind histogram --every 1s": "--every with --kind histogram must not be given",
    "--kind histogram --faster play=1%": "--faster with --kind histogram must not be given",
    "--kind blame --slower play=1%": "--slower with --kind blame must not be given",
    "--kind blame --skip 1s": "--skip with --kind blame must not be given",
    "--kind what-if": "--kind what-if needs a change",
    "--kind load-curve": "--kind load-curve needs a limit",
    "--kind load-curve --until soon": "limit must be of the mean or a percentile",
    "--kind blame --until p99<1s": "--until with --kind blame must not be given",
    "--kind heatmap --by source": "--by with --kind heatmap must not be given",
    "--kind waterfall --worst 0": "0",
    "--kind ecdf --span nope": "'nope'",
    "--kind ecdf --threshold soon": "threshold must be a duration",
    "--by frame": "by must be one of source",
}


def test_a_mistake_is_one_line(folder, tmp_path, capsys):
    for call, said in MISTAKES.items():
        arguments = [folder / "a.parquet", *call.split(), "-o", tmp_path / "x.png"]
        assert said in refused(capsys, *arguments), call
        assert not (tmp_path / "x.png").exists()


def test_mistakes_with_several(folder, tmp_path, capsys):
    both = [folder / "a.parquet", folder / "b.parquet"]
    out = ["-o", tmp_path / "x.png"]
    assert "draws at most 1 result, got 2" in refused(capsys, *both, "--kind", "waterfall", *out)
    assert "--by needs one trace" in refused(capsys, *both, "--by", "source", *out)
    assert "draws at most 8 results, got 9" in refused(capsys, *[folder / "a.parquet"] * 9, *out)
    saved = folder / "a.latprof"
    line = refused(capsys, saved, "--kind", "timeline", "--every", "1s", *out)
    assert "--every needs the traces" in line
    assert "--by needs the traces" in refused(capsys, saved, "--by", "source", *out)


def test_an_unknown_kind_lists_the_known_ones(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(folder / "a.parquet", "--kind", "pie", "-o", tmp_path / "x.png")
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert all(kind in err for kind in KINDS)


def test_too_many_groups(tmp_path, capsys):
    start = np.arange(20) * 1_000
    trace = Trace(
        MIC,
        frame_id=range(20),
        marks={"start": start, "decode": start, "play": start, "end": start + 5},
        source=[f"s{i}" for i in range(20)],
    )
    trace.save(tmp_path / "mic.parquet")
    line = refused(capsys, tmp_path / "mic.parquet", "--by", "source", "-o", tmp_path / "x.png")
    assert "--by source has 20 groups, and a picture has at most 8" in line


def test_names_in_characters_that_the_font_lacks_give_no_warning(tmp_path, capsys):
    pipeline = Pipeline.chain("пайп", "декод", "再生")
    start = np.arange(20) * 1_000
    marks = {"start": start, "декод": start, "再生": start + 3, "end": start + 5}
    trace = Trace(pipeline, frame_id=range(20), marks=marks, source="🎤")
    trace.save(tmp_path / "mic.parquet")
    for kind in KINDS:
        call = [tmp_path / "mic.parquet", "--kind", kind, "-o", tmp_path / f"{kind}.png"]
        if kind not in OF_FRAMES:
            assert run(*call) == 0
    assert capsys.readouterr().err == ""


def test_all_kinds_are_functions_of_plot():
    assert {kind.replace("-", "_") for kind in KINDS} <= set(latprof.plot.__all__)
    assert len(set(KINDS) - OF_FRAMES) == 7


def test_changes_that_are_not_valid_are_refused():
    for faster, slower, said in (
        (["alsa"], [], "--faster must be NAME=VALUE, got 'alsa'"),
        (["=5%"], [], "--faster must be NAME=VALUE, got '=5%'"),
        (["alsa=200%"], [], "--faster alsa must be at most 100%, got '200%'"),
        (["alsa=5%"], ["alsa=1ms"], "--slower must not change 'alsa' again"),
        ([], ["alsa=-2ms"], "--slower alsa must be a part (10%) or a duration (2ms), got '-2ms'"),
    ):
        options = argparse.Namespace(faster=faster, slower=slower)
        with pytest.raises(LatprofError, match=re.escape(said)):
            changes_of(options)
