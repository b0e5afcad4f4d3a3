"""Figures over records: those of NumPy where there is nothing special, and counts that hide nothing."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnoreg import InputWarning
from agnoreg.metrics import hausdorff, overlap, summarise


def records(values, states=None, **more):
    return [
        {"case": k, "label": 1, "hd95": value, "state": states[k] if states else "both"} | more
        for k, value in enumerate(values)
    ]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_the_figures_are_numpy_s(values):
    found = summarise(records(values), resamples=5)["hd95"]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    quartiles = (found.minimum, found.lower_quartile, found.median, found.upper_quartile, found.maximum)
    assert quartiles == pytest.approx(np.percentile(values, (0, 25, 50, 75, 100)))
    assert (found.records, found.values, found.infinite) == (len(values), len(values), 0)


def test_the_counts_are_those_of_the_states():
    states = ["both", "both", "missed", "false alarm", "neither", "neither"]
    found = summarise(records([1.0, 3.0, math.inf, math.inf, math.nan, math.nan], states))["hd95"]
    assert (found.records, found.positives, found.negatives) == (6, 3, 3)
    assert (found.missed, found.false_alarms, found.values, found.infinite) == (1, 1, 4, 2)
    assert found.mean == math.inf
    assert math.isnan(found.sd)
    assert (found.median, found.mean_finite) == (math.inf, 2.0)
    assert "N+ 3, N0 3, missed 1, false alarms 1; 2 inf, mean of the others 2" in str(found)


def test_a_missed_structure_without_a_value_is_said():
    with pytest.warns(InputWarning, match=r"2 missed structures or false alarms have no hd95 \(NaN\)"):
        found = summarise(records([1.0, math.nan, math.nan], ["both", "missed", "false alarm"]))["hd95"]
    assert (found.values, found.missed_left_out) == (1, 2)
    assert "2 of those missed have no value" in str(found)


def test_missing_more_never_makes_the_mean_better():
    true = np.zeros((3, 8, 8, 8), dtype=bool)
    true[:, 2:5, 2:5, 2:5] = True
    pred = np.roll(true, 1, axis=1)
    missing = pred.copy()
    missing[1] = False
    options = {"spacing": 1.0, "percentile": 95}
    means = []
    for y in (pred, missing):
        rows = overlap(true, y).records(
            hd95=hausdorff(true, y, **options), worst=hausdorff(true, y, empty="diagonal", **options)
        )
        means.append(summarise(rows))
    for name in ("hd95", "worst"):
        assert means[1][name].mean > means[0][name].mean
    assert means[1]["dice"].mean < means[0]["dice"].mean
    assert (means[1]["hd95"].missed, means[1]["hd95"].positives, means[1]["worst"].values) == (1, 3, 3)


def test_records_come_from_label_maps():
    true, pred = np.zeros((2, 2, 4, 4, 4), dtype=np.int16)
    true[:, 0], pred[:, 0] = 2, 2
    true[0, 2], pred[1, 3] = 41, 41
    found = overlap(true, pred, labels=(2, 41, 7)).records(cases=("a", "b"))
    states = {(row["case"], row["label"]): row["state"] for row in found}
    assert states == {
        ("a", 2): "both",
        ("a", 41): "missed",
        ("a", 7): "neither",
        ("b", 2): "both",
        ("b", 41): "false alarm",
        ("b", 7): "neither",
    }
    by_label = summarise(found, by="label", measures=("dice",))
    assert list(by_label) == [2, 41, 7]
    assert (by_label[41]["dice"].mean, by_label[41]["dice"].values) == (0.0, 2)
    assert by_label[7]["dice"].values == 0
    with pytest.raises(ValueError, match="hd95 must have one value for each label"):
        overlap(true, pred).records(hd95=np.zeros((2, 5)))
    with pytest.raises(ValueError, match="cases must name each of 2 samples, got 1"):
        overlap(true, pred).records(cases=("a",))


# --- the interval -----------------------------------------------------------------------------------------------------


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_mean():
    values = np.random.default_rng(0).normal(10, 2, size=40).tolist()
    found = summarise(records(values))["hd95"]
    assert found.interval == summarise(records(values))["hd95"].interval
    assert found.interval != summarise(records(values), seed=1)["hd95"].interval
    assert found.interval[0] < found.mean < found.interval[1]
    # As wide as the normal distribution's.
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * found.sd / math.sqrt(40), rel=0.1)


def test_whole_cases_are_drawn():
    # Ten labels of a case that are all alike are one observation, not ten.
    values = np.random.default_rng(0).normal(10, 2, size=12)
    once = summarise(records(values.tolist()))["hd95"]
    often = summarise([row for row in records(values.tolist()) for _ in range(10)])["hd95"]
    assert often.interval == pytest.approx(once.interval, rel=1e-12)


def test_one_case_has_no_interval():
    assert all(map(math.isnan, summarise(records([1.0]))["hd95"].interval))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "no records to summarise"),
        (records([1.0], ["lost"]), {}, "state must be one of both, neither, missed, false alarm, got 'lost'"),
        (records([1.0]), {"confidence": 95}, "confidence must be a number between 0 and 1, got 95"),
        (records([1.0]), {"resamples": 0}, "resamples must be an integer of at least 1"),
        (records([1.0]), {"by": "site"}, "Every record must have 'site'"),
        ([{"hd95": "far"}], {"measures": ("hd95",)}, "hd95 must be a number in every record, got 'far'"),
    ],
)
def test_bad_input_is_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        summarise(rows, **options)


def test_what_is_no_number_is_no_measure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(summarise([{"dice": 0.5, "site": "A", "flag": True}, {"dice": 0.7, "hd95": 2.0}])) == [
            "dice",
            "hd95",
        ]
