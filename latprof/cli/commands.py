"""The commands of ``latprof``, one a module: `add` declares its arguments, `run` does it.

They import what they need when they run, so that ``latprof --help`` and small reports stay quick.
"""

from latprof.cli import causes, completion, demo, export, merge, plot, recover, report, top, what_if

__all__ = ["COMMANDS"]

# in the order of the help
COMMANDS = (demo, report, causes, what_if, plot, export, recover, merge, top, completion)
