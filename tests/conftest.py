"""Settings that hold for all tests."""

import matplotlib
import pytest
from hypothesis import settings

from latprof.fold import windows

matplotlib.use("agg")

# how long an example takes says more of the machine than of the code
settings.register_profile("latprof", deadline=None)
settings.load_profile("latprof")


@pytest.fixture(scope="module", params=[windows.LONG_RUN, 1])
def run_lengths(request):
    """Count runs of frames in one window as a whole: only long ones, and then any run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LONG_RUN", request.param)
        yield
