"""Trace files: written in row groups, read in row groups, refused in one line.

Format 1 is a Parquet file that other tools open as it is: `frame_id`, the marks as timestamps in
ns, UTC, null where missing, `size`, `source`, `outcome`, `cpu`, `rss`, `weight` and tags. What the
file says about itself is JSON under the metadata key ``latprof``; see `latprof.io.metadata`.
"""

from latprof.io.reader import Reader
from latprof.io.writer import ROW_GROUP, Writer, write

__all__ = ["ROW_GROUP", "Reader", "Writer", "write"]
