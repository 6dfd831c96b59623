"""Hosts that are simulated: the true time of each stamp is known, and what each clock shows."""

import numpy as np

from latprof import Pipeline, Trace

CALL = Pipeline("call", ("start", "arrived", "sent", "end"))  # there and back
LINK = Pipeline("link", ("start", "sent", "arrived", "end"))  # one way


class Host:
    """A clock that is `offset` ns ahead at time 0 and gains `drift` ns per ns."""

    def __init__(self, boot, offset=0, drift=0.0):
        self.boot, self.offset, self.drift = boot, offset, drift

    def shows(self, true):
        return np.rint(true * (1 + self.drift)).astype(np.int64) + self.offset

    def meta(self, owns):
        return {"owns": list(owns), "boot_id": self.boot, "clock_offset_ns": 10**18}

    def ahead(self, shown):
        """Return how far the clock is ahead when it shows a time."""
        return shown - (shown - self.offset) / (1 + self.drift)


def traffic(seed, pipeline, frames=3_000):
    """Return the true stamps (marks, frames) of frames with a queue's delays, and their ids."""
    rng = np.random.default_rng(seed)
    true = np.empty((len(pipeline.marks), frames), np.int64)
    true[0] = np.arange(frames) * 20_000_000 + rng.integers(0, 10**6, frames)
    for k in range(1, len(true)):
        true[k] = true[k - 1] + 20_000 + rng.exponential(2e6, frames).astype(np.int64)
    return rng, true


def recording(host, pipeline, true, owns, kept, ids=None):
    """Return what a host records of the frames for which `kept` is true."""
    ids = np.arange(true.shape[1]) if ids is None else ids
    marks = {m: host.shows(true[pipeline.marks.index(m)][kept]) for m in owns}
    return Trace(pipeline, frame_id=ids[kept], marks=marks, meta=host.meta(owns))
