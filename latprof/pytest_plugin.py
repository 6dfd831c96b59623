"""A pytest plugin: latency budgets of tests.

A test with the marker ``latency`` records runs with the fixture `latency_runs`. It fails if a
budget is exceeded. It also fails if the runs cannot decide, unless the marker has ``open="pass"``::

    @pytest.mark.latency("p99<50ms", "decode.p50<20ms")
    def test_decoding_is_fast(latency_runs):
        for profiler in latency_runs(mic, 5):
            for i in range(1_000):
                with profiler.frame(i) as frame:
                    ...

A budget is met if the whole 95 % interval over the runs is below its limit, as in ``latprof gate``.
The values of tests that pass are shown by ``pytest -rP``, and are in the file of ``--junitxml``.
"""

import warnings
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from latprof.pipeline import Pipeline
    from latprof.profile.profile import Profile
    from latprof.recorder.profiler import Profiler

__all__ = ["latency_runs", "pytest_configure", "pytest_pyfunc_call"]

_RUNS = pytest.StashKey["list[Profile]"]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        'latency(*budgets, open="fail"): limits such as "p99<50ms" of the runs that the test '
        "records with the fixture latency_runs; see latprof.pytest_plugin",
    )


@pytest.fixture
def latency_runs(
    request: pytest.FixtureRequest,
) -> "Callable[[Pipeline, int], Iterator[Profiler]]":
    """Return a function of a pipeline and a number of runs: it yields a profiler for each run."""
    recorded: list[Profile] = request.node.stash.setdefault(_RUNS, [])

    def runs(pipeline: "Pipeline", count: int = 5, **settings: Any) -> "Iterator[Profiler]":
        from latprof.recorder.profiler import Profiler

        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            pytest.fail(
                f"latency_runs: the number of runs must be an integer from 1 on, got {count!r}",
                pytrace=False,
            )
        for _ in range(count):
            with Profiler(pipeline, **settings) as profiler:
                yield profiler
            recorded.append(profiler.report().profile)

    return runs


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Judge the budgets after the test has passed."""
    result = yield
    for marker in pyfuncitem.iter_markers("latency"):
        _judge(pyfuncitem, marker)
    return result


def _judge(test: pytest.Function, marker: pytest.Mark) -> None:
    from latprof.comparing.budgets import judge_profiles

    recorded, wrong = test.stash.get(_RUNS, []), ""
    if not marker.args:
        wrong = 'the marker must have at least one budget such as "p99<50ms", without a name'
    elif not recorded:
        wrong = "the test must record runs: loop over latency_runs(pipeline, 5)"
    else:
        try:
            judged = judge_profiles(recorded, marker.args)
        except ValueError as error:  # as all errors of latprof about arguments
            wrong = str(error)
    if wrong:
        pytest.fail(f"latency: {wrong}", pytrace=False)
    said = "; ".join(map(str, judged))
    test.add_report_section("call", "latency", said)
    test.user_properties.append(("latency", said))
    failed = [str(each) for each in judged if each.state == "exceeded"]
    unsettled = [str(each) for each in judged if each.state == "open"]
    if unsettled and marker.kwargs.get("open", "fail") == "pass":
        warnings.warn(f"latency: {'; '.join(unsettled)}", stacklevel=1)
        unsettled = []
    if failed or unsettled:
        pytest.fail(f"latency: {'; '.join(failed + unsettled)}", pytrace=False)
