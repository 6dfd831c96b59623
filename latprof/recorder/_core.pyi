"""The stamping core in C: the interface of `latprof.recorder._core_python`, which describes it."""

from latprof.recorder._core_python import Core as Core
from latprof.recorder._core_python import Frame as Frame

NO_FRAME: Frame
