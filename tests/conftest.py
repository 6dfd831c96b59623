"""Settings that hold for all tests."""

import matplotlib
from hypothesis import settings

matplotlib.use("agg")

# how long an example takes says more of the machine than of the code
settings.register_profile("latprof", deadline=None)
settings.load_profile("latprof")
