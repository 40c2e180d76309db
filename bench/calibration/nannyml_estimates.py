"""AUC that NannyML estimates before labels; for an interpreter that has it, and imports none of us.

`python -m bench.calibration.nannyml_estimates FILE` prints, as JSON, its estimate of each week.
FILE is a NumPy archive of `baseline_score` and `baseline_label`, and of `score`, in which each row
of the matrix is a week.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd

_THRESHOLD = 0.5


def estimates(file: str) -> list[float]:
    """Give the AUC of each week, as confidence-based performance estimation (CBPE) has it."""
    import nannyml  # type: ignore[import-not-found]

    with np.load(file) as drawn:
        baseline = pd.DataFrame(
            {"score": drawn["baseline_score"], "label": drawn["baseline_label"].astype(int)}
        )
        weeks, rows = drawn["score"].shape
        analysed = pd.DataFrame({"score": drawn["score"].ravel()})
    for frame in (baseline, analysed):
        frame["predicted"] = (frame["score"] >= _THRESHOLD).astype(int)
    estimator = nannyml.CBPE(
        problem_type="classification_binary",
        y_pred_proba="score",
        y_pred="predicted",
        y_true="label",
        metrics=["roc_auc"],
        chunk_size=rows,
    )
    estimator.fit(baseline)
    found = estimator.estimate(analysed).filter(period="analysis").to_df()
    values = [float(value) for value in found["roc_auc"]["value"]]
    if len(values) != weeks:
        raise AssertionError(f"{len(values)} estimates of {weeks} weeks")
    return values


if __name__ == "__main__":
    sys.stdout.write(json.dumps(estimates(sys.argv[1])) + "\n")
