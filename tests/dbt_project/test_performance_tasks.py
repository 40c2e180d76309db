"""Performance of binary, multiclass and regression models through the marts, in one warehouse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tests.dbt_project.conftest import REFERENCE, MakeWarehouse
from tests.dbt_project.mart_comparison import differences
from tests.dbt_project.performance_rows import (
    FIRST_DAY,
    Outcome,
    land_outcomes,
    land_truths,
    register_outcomes,
    within_day,
)
from tests.dbt_project.warehouse import Warehouse

pytestmark = pytest.mark.slow

# Each of the first days holds a case of tests/reference, and a further case is the baseline.
CASES = 5
SHIFTED_DAY, MIXED_DAY, SLOW_DAY = 10, 11, 8
DAILY = "select * except (run_version) from {database}.fct_model_performance_daily"
EARLY = str(FIRST_DAY + timedelta(days=SLOW_DAY + 2))
MARTS = ("performance_by_class", "calibration", "threshold_curves", "performance_mix")
SEEDS = {
    "models": [
        "species,multiclass,,,1,48,50,,,",
        "price,regression,,,1,48,50,,,",
        "late,binary,yes,0.5,1,48,50,,,",
        "churn,binary,yes,0.3,1,48,200,,,",
    ],
    "segment_sets": ["churn,region", "late,region"],
}


def _cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((REFERENCE / f"{name}_cases.json").read_text())
    # The threshold is the model's: cases of another one cannot be its windows.
    return [case for case in found if case.get("threshold", 0.5) == 0.5][: CASES + 1]


def _multiclass_rows(case: dict[str, Any]) -> list[Outcome]:
    return [
        Outcome(
            FIRST_DAY,
            f"class {label}",
            label=f"class {predicted}",
            class_scores={f"class {place}": score for place, score in enumerate(scores)},
        )
        for label, predicted, scores in zip(
            case["label"], case["predicted"], case["scores"], strict=True
        )
    ]


def _regression_rows(case: dict[str, Any]) -> list[Outcome]:
    return [
        Outcome(FIRST_DAY, label, value=predicted)
        for label, predicted in zip(case["label"], case["predicted"], strict=True)
    ]


def _binary_rows(case: dict[str, Any]) -> list[Outcome]:
    return [
        Outcome(FIRST_DAY, "yes" if label else "no", score=score, segments={"region": "north"})
        for label, score in zip(case["label"], case["score"], strict=True)
    ]


def calibrated_rows(
    count: int, seed: int, regions: Sequence[str], shares: Sequence[float], shape: tuple[int, int]
) -> list[Outcome]:
    """Draw rows whose chance to be positive is the square of their score, lower in the south."""
    random = np.random.default_rng(seed)
    scores = random.beta(*shape, count)
    placed = random.choice(regions, count, p=shares)
    chances = scores**2 * np.where(placed == "south", 0.6, 1)
    return [
        Outcome(
            FIRST_DAY,
            "yes" if is_positive else "no",
            score=round(float(score), 4),
            segments={"region": str(region)},
        )
        for score, region, is_positive in zip(
            scores, placed, random.random(count) < chances, strict=True
        )
    ]


@dataclass(frozen=True)
class Windows:
    """The marts, read once; `early` are the daily rows of `known_at`, before the last labels."""

    warehouse: Warehouse
    known_at: str
    early: list[dict[str, Any]]
    daily: list[dict[str, Any]]
    shifted: list[Outcome]
    mixed: list[Outcome]
    churn_baseline: list[Outcome]

    def row(self, model: str, day: int, segment: str = "all", **more: Any) -> dict[str, Any]:
        return only(self.daily, model, day, segment, **more)

    def rows(self, mart: str, model: str, day: int, segment: str = "all") -> list[dict[str, Any]]:
        return self.warehouse.query(
            f"select * from {{database}}.fct_model_{mart} where granularity = 'day' "
            "and model_name = {model:String} and window_start = {day:DateTime('UTC')} "
            "and segment_value = {segment:String}",
            model=model,
            day=FIRST_DAY + timedelta(days=day),
            segment=segment,
        )


def only(
    rows: list[dict[str, Any]], model: str, day: int, segment: str = "all", **more: Any
) -> dict[str, Any]:
    """Give the only row of a model, day and segment."""
    # The client gives times in UTC without saying so.
    start = (FIRST_DAY + timedelta(days=day)).replace(tzinfo=None)
    wanted = {"model_name": model, "window_start": start} | more
    if "segment_value" in rows[0]:
        wanted["segment_value"] = segment
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture(scope="module")
def windows(make_warehouse: MakeWarehouse) -> Windows:
    """Build twice: before some labels have come, and after."""
    warehouse = make_warehouse("performance_tasks", seeds=SEEDS)
    for model, rows_of, name in (
        ("species", _multiclass_rows, "multiclass"),
        ("price", _regression_rows, "regression"),
        ("late", _binary_rows, "binary"),
    ):
        *cases, baseline = _cases(name)
        for day, case in enumerate(cases):
            land_outcomes(warehouse, model, within_day(day, rows_of(case)), prefix=f"{day}-")
        register_outcomes(warehouse, model, rows_of(baseline))
    churn_baseline = calibrated_rows(
        8_000, 1, ["north", "south", "east"], [0.6, 0.39, 0.01], (2, 3)
    )
    register_outcomes(warehouse, "churn", churn_baseline)
    shifted = calibrated_rows(4_000, 2, ["north", "south"], [0.6, 0.4], (4, 3))
    shifted = [
        replace(row, at=FIRST_DAY + timedelta(days=SHIFTED_DAY, seconds=15 * number))
        for number, row in enumerate(shifted)
    ]
    land_outcomes(warehouse, "churn", [replace(row, truth=None) for row in shifted], prefix="s-")
    mixed = within_day(
        MIXED_DAY, calibrated_rows(1_200, 3, ["north", "south", "west"], [0.2, 0.7, 0.1], (2, 3))
    )
    # What is first said of some rows is revised later, and what was predicted of one.
    wrong = [replace(row, truth="no" if row.truth == "yes" else "yes") for row in mixed[:100]]
    land_outcomes(warehouse, "churn", [*wrong, *mixed[100:]], prefix="m-")
    # The labels of negatives come after an hour, those of positives after two days.
    slow = within_day(SLOW_DAY, _binary_rows(_cases("binary")[0]))
    negatives = [row if row.truth == "no" else replace(row, truth=None) for row in slow]
    land_outcomes(warehouse, "late", negatives, prefix="slow-", lag=timedelta(hours=1))
    warehouse.variables = {"as_of": EARLY}
    warehouse.run("--select", "+fct_model_performance_daily")
    early = warehouse.query(DAILY)
    known_at = warehouse.query(
        "select toString(max(landed_at)) as moment from {database}_raw.label_events"
    )[0]["moment"]

    land_truths(
        warehouse,
        "churn",
        [(f"churn-s-{n}", str(row.truth), row.at) for n, row in enumerate(shifted)],
    )
    land_truths(
        warehouse,
        "late",
        [
            (f"late-slow-{number}", "yes", row.at + timedelta(hours=45))
            for number, row in enumerate(slow)
            if row.truth == "yes"
        ],
    )
    land_truths(
        warehouse,
        "churn",
        [
            (f"churn-m-{n}", str(row.truth), row.at + timedelta(hours=30))
            for n, row in enumerate(mixed[:100])
        ],
    )
    mixed[300] = replace(mixed[300], at=mixed[300].at - timedelta(milliseconds=1), score=0.9999)
    land_outcomes(warehouse, "churn", [replace(mixed[300], truth=None)], prefix="m-", first=300)
    warehouse.variables = {"as_of": str(FIRST_DAY + timedelta(days=40))}
    warehouse.run("--select", *(f"+fct_model_{mart}" for mart in MARTS))
    daily = warehouse.query(DAILY)
    return Windows(warehouse, known_at, early, daily, shifted, mixed, churn_baseline)


@pytest.mark.parametrize("day", range(CASES))
def test_multiclass_windows_equal_the_reference_cases(windows: Windows, day: int) -> None:
    case = _cases("multiclass")[day]
    row = windows.row("species", day)
    expected = {
        name.replace("auc_one_vs_rest_macro", "macro_auc"): value
        for name, value in case["expected"].items()
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert row["scored_count"] == row["labeled_count"] == len(case["label"])
    assert row["accuracy_lower"] < row["accuracy"] < row["accuracy_upper"]
    assert (row["task"], row["auc"], row["true_positives"]) == ("multiclass", None, None)
    assert row["reason"] == ""


@pytest.mark.parametrize("day", range(CASES))
def test_class_rows_equal_scikit_learn(windows: Windows, day: int) -> None:
    case = _cases("multiclass")[day]
    label, predicted = np.array(case["label"]), np.array(case["predicted"])
    scores = np.array(case["scores"])
    classes = range(scores.shape[1])
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        label, predicted, labels=classes, zero_division=0
    )
    found = {row["class_name"]: row for row in windows.rows("performance_by_class", "species", day)}
    assert set(found) == {f"class {place}" for place in classes}
    for place in classes:
        row = found[f"class {place}"]
        assert row["label_count"] == support[place]
        assert [row["precision"] or 0, row["recall"], row["f1"]] == pytest.approx(
            [precision[place], recall[place], f1[place]]
        )
        assert row["auc"] == pytest.approx(metrics.roc_auc_score(label == place, scores[:, place]))
        assert row["f1_lower"] <= row["f1"] <= row["f1_upper"]


@pytest.mark.parametrize("day", range(CASES))
def test_regression_windows_equal_the_reference_cases(windows: Windows, day: int) -> None:
    case = _cases("regression")[day]
    row = windows.row("price", day)
    expected = case["expected"] | {
        "mape": metrics.mean_absolute_percentage_error(case["label"], case["predicted"])
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    error = np.array(case["predicted"]) - np.array(case["label"])
    for name, values in (("bias", error), ("mae", np.abs(error))):
        half_width = 1.959963984540054 * values.std(ddof=1) / np.sqrt(len(values))
        assert row[f"{name}_lower"] == pytest.approx(values.mean() - half_width)
        assert row[f"{name}_upper"] == pytest.approx(values.mean() + half_width)
    assert (row["task"], row["accuracy"], row["threshold"]) == ("regression", None, None)
    assert row["scored_count"] == len(error)


@pytest.mark.parametrize("day", range(CASES))
def test_binary_windows_equal_the_reference_cases(windows: Windows, day: int) -> None:
    expected = dict(_cases("binary")[day]["expected"])
    row = windows.row("late", day)
    del expected["auc_delong_variance"]
    confusion = expected.pop("confusion")
    for name, short in (("true_positives", "tp"), ("false_positives", "fp")):
        assert row[name] == confusion[short]
    for name, short in (("true_negatives", "tn"), ("false_negatives", "fn")):
        assert row[name] == confusion[short]
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert row["mae"] is row["macro_f1"] is None


def test_values_stand_beside_those_of_the_baseline(windows: Windows) -> None:
    for model, name, task_metrics in (
        ("species", "multiclass", {"accuracy": "accuracy", "macro_f1": "macro_f1"}),
        ("price", "regression", {"mae": "mae", "rmse": "rmse", "r2": "r2", "bias": "bias"}),
        ("late", "binary", {"brier": "brier", "log_loss": "log_loss", "pr_auc": "pr_auc"}),
    ):
        baseline = _cases(name)[CASES]["expected"]
        row = windows.row(model, 0)
        assert row["baseline_scope"] == "segment"
        for metric in task_metrics:
            assert row[f"baseline_{metric}"] == pytest.approx(baseline[metric])
            assert row[f"{metric}_difference"] == pytest.approx(row[metric] - baseline[metric])
    price = windows.row("price", 0)
    is_beyond = not price["bias_lower"] <= price["baseline_bias"] <= price["bias_upper"]
    assert price["is_bias_beyond_interval"] == is_beyond
    classes = windows.rows("performance_by_class", "species", 0)
    label = np.array(_cases("multiclass")[CASES]["label"])
    predicted = np.array(_cases("multiclass")[CASES]["predicted"])
    for row in classes:
        place = int(row["class_name"][-1])
        in_baseline = place in label
        assert (row["baseline_f1"] is not None) == in_baseline
        assert ("not_in_baseline" in row["reason"]) == (not in_baseline)
        if in_baseline:
            f1 = metrics.f1_score(label == place, predicted == place)
            assert row["baseline_f1"] == pytest.approx(f1)
            assert row["f1_difference"] == pytest.approx(row["f1"] - f1)
            assert row["baseline_label_count"] == (label == place).sum()


def test_calibration_bins_equal_those_of_numpy(windows: Windows) -> None:
    score = np.array([row.score for row in windows.shifted])
    is_positive = np.array([row.truth == "yes" for row in windows.shifted])
    bins = np.minimum((score * 10 + 1e-9).astype(int), 9)
    rows = sorted(
        windows.rows("calibration", "churn", SHIFTED_DAY), key=lambda row: row["bin_index"]
    )
    assert [row["bin_index"] for row in rows] == list(range(10))
    for row in rows:
        inside = bins == row["bin_index"]
        assert (row["row_count"], row["positive_count"]) == (
            inside.sum(),
            is_positive[inside].sum(),
        )
        if inside.any():
            assert row["mean_score"] == pytest.approx(score[inside].mean())
            assert row["observed_rate"] == pytest.approx(is_positive[inside].mean())
        else:
            assert row["mean_score"] is row["observed_rate"] is None


def test_threshold_curve_equals_scikit_learn_at_every_threshold(windows: Windows) -> None:
    case = _cases("binary")[0]
    label, score = np.array(case["label"]), np.array(case["score"])
    rows = windows.rows("threshold_curves", "late", 0)
    assert sorted(row["threshold"] for row in rows) == [n / 100 for n in range(101)]
    for row in rows:
        predicted = score >= row["threshold"]
        assert row["accuracy"] == pytest.approx(metrics.accuracy_score(label, predicted))
        assert row["f1"] == pytest.approx(metrics.f1_score(label, predicted, zero_division=0))
        assert row["recall"] == pytest.approx(metrics.recall_score(label, predicted))
        if predicted.any():
            assert row["precision"] == pytest.approx(metrics.precision_score(label, predicted))
        else:
            assert row["precision"] is None
    at_threshold = next(row for row in rows if row["threshold"] == 0.5)
    assert at_threshold["f1"] == windows.row("late", 0)["f1"]


@pytest.mark.parametrize("segment", ["all", "north", "south"])
def test_estimate_before_labels_is_near_what_labels_show(windows: Windows, segment: str) -> None:
    before = only(windows.early, "churn", SHIFTED_DAY, segment)
    after = windows.row("churn", SHIFTED_DAY, segment)
    assert before["labeled_count"] == 0
    for metric in ("accuracy", "f1", "auc"):
        assert before[metric] is None
        assert before[f"estimated_{metric}"] == pytest.approx(after[metric], abs=0.03)
        # Labels of the window change nothing in it; and the baseline's own value would not do.
        assert after[f"estimated_{metric}"] == pytest.approx(before[f"estimated_{metric}"])
    assert abs(after["f1"] - after["baseline_f1"]) > 0.05


def test_estimate_needs_a_baseline_with_enough_of_both_classes(windows: Windows) -> None:
    assert windows.row("species", 0)["estimated_accuracy"] is None
    assert windows.row("late", 0)["estimated_accuracy"] is not None


def test_mix_within_and_unmatched_add_up_to_the_difference(windows: Windows) -> None:
    rows = windows.warehouse.query(
        "select * from {database}.fct_model_performance_mix "
        "where granularity = 'day' and model_name = 'churn'"
    )
    accuracy = only(rows, "churn", MIXED_DAY, metric="accuracy")
    everyone = windows.row("churn", MIXED_DAY)
    for row in rows:
        total = row["mix_effect"] + row["within_effect"] + row["unmatched_effect"]
        assert total == pytest.approx(row["difference"], abs=1e-12)
    assert accuracy["difference"] == pytest.approx(everyone["accuracy_difference"])
    assert accuracy["metric_value"] == pytest.approx(everyone["accuracy"])
    assert accuracy["unmatched_segments"] == ["west"]

    now, baseline = _accuracies(windows.mixed), _accuracies(windows.churn_baseline)
    overall = sum(share * value for share, value in baseline.values())
    mix = sum(
        (now.get(region, (0.0, 0.0))[0] - share) * (value - overall)
        for region, (share, value) in baseline.items()
    )
    within = sum(
        share * (value - baseline[region][1])
        for region, (share, value) in now.items()
        if region in baseline
    )
    assert accuracy["mix_effect"] == pytest.approx(mix)
    assert accuracy["within_effect"] == pytest.approx(within)
    assert accuracy["unmatched_share"] == pytest.approx(now["west"][0])
    # Nobody is unmatched: then the reference point of the mix plays no part.
    shifted = only(rows, "churn", SHIFTED_DAY, metric="brier")
    assert (shifted["unmatched_effect"], shifted["unmatched_segments"]) == (0, [])


def _accuracies(rows: Sequence[Outcome]) -> dict[str, tuple[float, float]]:
    """Give each region's share of the rows, and its accuracy."""
    found: dict[str, list[bool]] = {}
    for row in rows:
        is_right = (row.score is not None and row.score >= 0.3) == (row.truth == "yes")
        found.setdefault(row.segments["region"], []).append(is_right)
    return {
        region: (len(right) / len(rows), float(np.mean(right))) for region, right in found.items()
    }


def test_window_is_provisional_until_the_slowest_class_has_its_labels(windows: Windows) -> None:
    early = only(windows.early, "late", SLOW_DAY)
    late = windows.row("late", SLOW_DAY)
    assert (early["status"], late["status"]) == ("provisional", "final")
    # One class alone is there: of those labels nobody should judge.
    assert (early["prevalence"], early["recall"]) == (0, None)
    assert early["slowest_class_lag_p95_seconds"] == 3600
    assert late["label_coverage"] == 1
    assert late["slowest_class_lag_p95_seconds"] == 45 * 3600
    assert late["slowest_class_lag_p95_seconds"] >= late["label_lag_p95_seconds"]
    expected = _cases("binary")[0]["expected"]
    assert late["auc"] == pytest.approx(expected["auc"])


def test_only_windows_whose_labels_changed_are_computed_again(windows: Windows) -> None:
    found = windows.warehouse.query(
        "select model_name, arraySort(groupUniqArray(toDate(window_start))) as days "
        "from {database}.int_performance_groups where granularity = 'day' group by model_name"
    )
    assert {row["model_name"]: row["days"] for row in found} == {
        "churn": [(FIRST_DAY + timedelta(days=day)).date() for day in (SHIFTED_DAY, MIXED_DAY)],
        "late": [(FIRST_DAY + timedelta(days=SLOW_DAY)).date()],
    }


def test_marts_of_an_earlier_moment_are_those_of_then(
    windows: Windows, make_warehouse: MakeWarehouse
) -> None:
    """Late labels, revisions and a prediction that came earlier in another guise are not known."""
    then = make_warehouse("performance_known_then", seeds=SEEDS)
    then.raw_database = windows.warehouse.raw_database
    then.variables = {"known_at": windows.known_at, "as_of": EARLY}
    then.run("--select", "+fct_model_performance_daily")
    found = then.query(DAILY)
    assert differences({"daily": found}, {"daily": windows.early}) == []
    assert differences({"daily": found}, {"daily": windows.daily}) != []

    then.variables = {}
    with pytest.raises(AssertionError, match="give the same known_at again"):
        then.run("--select", "+fct_model_performance_daily")
    windows.warehouse.variables = {"known_at": windows.known_at}
    with pytest.raises(AssertionError, match="leave known_at out"):
        windows.warehouse.run("--select", "+fct_model_performance_daily")
