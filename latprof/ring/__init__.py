"""The ring that frames are committed into.

`ring` holds the array of rows, sequence numbers and names; `layout` the bytes of a ring file;
`file` the mapped file that a process writes to; `reader` the scan of such a file.
"""

__all__: list[str] = []
