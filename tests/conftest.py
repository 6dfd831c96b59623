"""Settings that hold for all tests."""

import matplotlib
import pytest
from hypothesis import settings

from latprof.fold import stretches

matplotlib.use("agg")

# how long an example takes says more of the machine than of the code
settings.register_profile("latprof", deadline=None)
settings.load_profile("latprof")


@pytest.fixture(scope="module", params=[stretches.LONG, 1])
def long_stretches(request):
    """Frames of one window that are counted as a whole: usually many, here also any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "LONG", request.param)
        yield
