"""Types of numpy arrays, for annotations."""

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Ints", "Mask"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
