"""Values that are not defined: NaN, with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


def ratio(numerator: Integers, denominator: Integers) -> Floats:
    """Divide, element by element; NaN where the denominator is 0."""
    is_defined = denominator > 0
    return np.asarray(
        np.where(is_defined, numerator, np.nan) / np.where(is_defined, denominator, 1),
        dtype=np.float64,
    )


def joined_reasons(applies: Mapping[str, NDArray[Any]], group_count: int) -> NDArray[np.object_]:
    """Give, per group, the names whose array is true there, joined by commas, in their order."""
    reasons = np.full(group_count, "", dtype=object)
    for name, is_given in applies.items():
        separator = np.where(reasons != "", ",", "").astype(object)
        reasons = np.where(is_given, reasons + separator + name, reasons)
    return reasons
