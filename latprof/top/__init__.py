"""A live view of a recorder, from the files that it writes; the recorder itself is not involved.

`feeds` reads a ring file or a folder of trace files, `live` computes the numbers of the last
minute, `screen` lays them out.
"""

__all__: list[str] = []
