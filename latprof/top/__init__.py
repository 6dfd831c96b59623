"""A live view of a recorder: what it records is read from outside, nothing is asked of it.

`feeds` reads a ring file or a folder of trace files, `live` keeps the numbers of the last minute,
`screen` lays them out, `keys` tells which key was pressed.
"""

from latprof.top.feeds import feed_of
from latprof.top.live import Live

__all__ = ["Live", "feed_of"]
