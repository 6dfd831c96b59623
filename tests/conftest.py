"""Settings that hold for all tests."""

import os

import matplotlib
import pytest
from hypothesis import settings
from strategies import examples

from latprof.fold import windows

matplotlib.use("agg")

# programs that tests start find latprof compiled
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# how long an example takes says more of the machine than of the code
settings.register_profile("latprof", deadline=None, max_examples=examples(100))
settings.load_profile("latprof")


@pytest.fixture(scope="module", params=[windows.LONG_RUN, 1])
def run_lengths(request):
    """Count runs of frames in one window as a whole: only long ones, and then any run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LONG_RUN", request.param)
        yield
