"""Every number here was worked out by hand from the records."""

import itertools
import json
import math
from typing import Any

import pytest

from robustcl.core.errors import RunError
from robustcl.records.images import per_image
from robustcl.records.reading import load_run
from robustcl.records.summary import Summary, interval95, summarize
from robustcl.report.headline import headline
from robustcl.workflows.attack import robustness
from tests.report.synthetic_run import attack, certificate, clean, four_images, write_run


def summary_of(folder, records, **options) -> Summary:
    return summarize(load_run(write_run(folder, records, **options)))


def at(curve, radius: float) -> float:
    return {point[0]: point[1] for point in curve}[radius]


def test_four_images(tmp_path):
    found = summary_of(tmp_path, four_images())
    assert (found.n, found.norm, found.clean_accuracy) == (4, "l2", 0.75)
    # counted: certified 0.05, 0.25, 0.6, 0 (wrong); attacked 0.3, 0.8, inf, 0 (wrong)
    assert found.median_certified_radius == pytest.approx(0.15)
    assert found.median_attacked_radius == pytest.approx(0.55)
    assert found.headline_radius == 0.1
    assert found.headline_certified == 0.5
    assert found.headline_attacked == 0.75
    assert [at(found.certified_accuracy, r) for r in (0.0, 0.1, 0.5, 1.0)] == [0.75, 0.5, 0.25, 0]
    assert [at(found.attacked_accuracy, e) for e in (0.0, 0.1, 0.5, 1.0)] == [0.75, 0.75, 0.5, 0.25]
    assert found.violations == []
    assert found.pairs == 3  # of four, the attack on image 2 found nothing
    assert found.seconds == 12.5
    assert found.best_method == "product"
    assert found.by_attack["pgd"]["found"] == 3
    assert found.by_attack["pgd"]["gradients"] == 400


def test_curves_fall_and_certified_stays_below_attacked(tmp_path):
    found = summary_of(tmp_path, four_images())
    for curve in (found.certified_accuracy, found.attacked_accuracy):
        assert all(a[0] < b[0] and a[1] >= b[1] for a, b in itertools.pairwise(curve))
    upper = {point[0]: point[1] for point in found.attacked_accuracy}
    assert all(rate <= upper[r] for r, rate in found.certified_accuracy if r in upper)


def test_a_radius_counts_at_its_own_value(tmp_path):
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.5), attack(0, 0, 0, 0.5)]
    found = summary_of(tmp_path, records)
    assert at(found.certified_accuracy, 0.5) == 1.0
    assert at(found.attacked_accuracy, 0.5) == 0.0  # an attack of norm 0.5 succeeded


def test_the_attacked_curve_stops_at_the_largest_eps(tmp_path):
    records = [clean(0, 0, 0), certificate(0, 0, 0, 3.0), attack(0, 0, 0, None)]
    found = summary_of(tmp_path, records)
    assert max(e for e, _ in found.attacked_accuracy) == 1.0
    assert max(r for r, _ in found.certified_accuracy) == 3.0
    assert found.median_attacked_radius == math.inf
    assert found.to_dict()["median_attacked_radius"] is None
    assert found.largest_eps == 1.0


def test_the_best_method_and_the_worst_attack_are_taken_per_image(tmp_path):
    records = [
        *(clean(0, 0, 0), clean(1, 0, 0)),
        *(certificate(0, 0, 0, 0.1), certificate(1, 0, 0, 0.4)),
        *(certificate(0, 0, 0, 0.2, method="pairs"), certificate(1, 0, 0, 0.1, method="pairs")),
        *(attack(0, 0, 0, 0.9), attack(1, 0, 0, 0.5)),
        *(attack(0, 0, 0, 0.3, method="fgsm"), attack(1, 0, 0, None, method="fgsm")),
    ]
    found = summary_of(tmp_path, records)
    assert found.median_certified_radius == pytest.approx(0.3)
    assert found.median_attacked_radius == pytest.approx(0.4)
    assert found.best_method == "product"  # medians 0.25 and 0.15
    images = per_image(load_run(tmp_path))
    assert images["certified_by"].tolist() == ["pairs", "product"]
    assert images["attacked_by"].tolist() == ["fgsm", "pgd"]


def test_abstentions_stay_in_the_denominator(tmp_path):
    smooth: dict[str, Any] = {
        "method": "smoothing",
        "guarantee": "probabilistic",
        "subject": "smoothed model",
    }
    records = [
        *(clean(i, 0, 0) for i in range(4)),
        *(certificate(0, 0, 0, 0.5, **smooth), certificate(1, 0, -1, 0.0, **smooth)),
        *(certificate(2, 0, -1, 0.7, **smooth), certificate(3, 0, 1, 0.5, **smooth)),
    ]
    entry = summary_of(tmp_path, records).by_method["smoothing"]
    assert (entry["accuracy"], entry["at_headline"], entry["abstained"]) == (0.25, 0.25, 2)
    assert at(entry["curve"], 0.5) == 0.25
    assert entry["median"] == 0.0


def test_estimates_and_other_subjects_never_enter_the_certified_curve(tmp_path):
    records = [
        *(clean(0, 0, 0), certificate(0, 0, 0, 0.05)),
        certificate(0, 0, 0, 9.0, method="first_order", guarantee="estimate"),
        certificate(0, 0, 0, 0.7, method="smoothing", guarantee="probabilistic", subject="smooth"),
        certificate(0, 0, 0, 0.8, method="views", subject="multi-view model"),
        attack(0, 0, 0, 0.06),
    ]
    found = summary_of(tmp_path, records)
    assert found.median_certified_radius == 0.05
    assert at(found.certified_accuracy, 0.1) == 0.0
    assert found.best_method == "product"
    assert found.by_method["first_order"]["curve"] == []
    assert found.by_method["first_order"]["at_headline"] is None
    assert at(found.by_method["smoothing"]["curve"], 0.5) == 1.0
    assert max(r for r, _ in found.certified_accuracy) < 9.0
    assert found.violations == []  # only deterministic claims for the model can be beaten


def test_violations_name_image_method_and_attack(tmp_path):
    records = [
        *four_images(),
        *(clean(4, 0, 0), certificate(4, 0, 0, 0.4), attack(4, 0, 0, 0.3)),
        *(clean(5, 1, 0), certificate(5, 1, 0, 0.4), attack(5, 1, 0, 0.3)),  # wrong, yet beaten
        *(clean(6, 0, 0), certificate(6, 0, 0, 0.3), attack(6, 0, 0, 0.3)),  # equal: none
        *(clean(7, 0, 0), certificate(7, 0, 1, 0.4), attack(7, 0, 0, 0.3)),  # another class
    ]
    found = summary_of(tmp_path, records)
    expected = {"method": "product", "certified": 0.4, "attack": "pgd", "attacked": 0.3}
    assert found.violations == [{"index": i, **expected} for i in (4, 5)]
    assert found.pairs == 6


def test_a_violation_by_a_little_is_one_and_by_the_last_digits_is_none(tmp_path):
    excess = [1e-2, 1e-4, 1e-7, 1e-10, 0.0, -1e-2]
    records = []
    for index, part in enumerate(excess):
        radius = 0.3 * (1 + part)
        records += [clean(index, 0, 0), certificate(index, 0, 0, radius), attack(index, 0, 0, 0.3)]
    found = summary_of(tmp_path, records)
    assert [violation["index"] for violation in found.violations] == [0, 1, 2]
    assert found.pairs == len(excess)


def test_what_float32_alone_rounds_over_the_edge_is_no_violation(tmp_path):
    records = [
        *(clean(0, 0, 0), certificate(0, 0, 0, 0.4), attack(0, 0, 0, 0.3, in_float64=False)),
        *(clean(1, 0, 0), certificate(1, 0, 0, 0.4), attack(1, 0, 0, 0.3, in_float64=True)),
        *(clean(2, 0, 0), certificate(2, 0, 0, 0.4), attack(2, 0, 0, 0.3)),  # an older record
    ]
    found = summary_of(tmp_path, records)
    assert [violation["index"] for violation in found.violations] == [1, 2]
    assert found.pairs == 2


def test_a_null_radius_is_infinite_only_without_any_rival(tmp_path):
    records = [clean(0, 0, 0), certificate(0, 0, 0, None, rival=-1)]
    images = per_image(load_run(write_run(tmp_path, records)))
    assert images["certified"].tolist() == [math.inf]
    json.dumps(summarize(load_run(tmp_path)).to_dict(), allow_nan=False)
    records[1]["rival"] = 1
    with pytest.raises(RunError, match=r"line 2 of .*radius is null, though a class can overtake"):
        load_run(write_run(tmp_path / "other", records))


def test_without_attacks_or_certificates_fields_are_empty(tmp_path):
    found = summary_of(tmp_path / "bare", [clean(0, 0, 0), clean(1, 0, 1)])
    assert found.clean_accuracy == 0.5
    assert found.certified_accuracy == found.attacked_accuracy == []
    assert found.median_certified_radius is found.median_attacked_radius is None
    assert found.headline_certified is found.headline_attacked is found.best_method is None
    assert found.by_method == found.by_attack == {}
    attacked = summary_of(tmp_path / "attacked", [clean(0, 0, 0), attack(0, 0, 0, 0.3)])
    assert attacked.certified_accuracy == []
    assert attacked.headline_attacked == 1.0


@pytest.mark.parametrize(
    "hits, n, low, high",
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (5, 10, 0.1871, 0.8129)],
)
def test_intervals_are_those_of_the_textbook(hits, n, low, high):
    assert interval95(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_small_certified_radii_are_resolved(tmp_path):
    records = [clean(i, 0, 0) for i in range(10)]
    records += [certificate(i, 0, 0, 1e-4 * (i + 1)) for i in range(10)]
    records += [attack(i, 0, 0, 0.5) for i in range(10)]
    rates = {rate for _, rate in summary_of(tmp_path, records).certified_accuracy}
    assert len(rates) == 11  # 0, 0.1, ..., 1


def test_mixed_norms_are_refused(tmp_path):
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.1, norm="linf")]
    with pytest.raises(RunError, match="linf"):
        summary_of(tmp_path, records)


def test_a_run_without_predictions_is_refused(tmp_path):
    with pytest.raises(RunError, match="resume"):
        summary_of(tmp_path, [])


def test_what_is_found_on_the_rim_of_a_budget_is_within_it(tmp_path) -> None:
    # Points are rounded: their norm may exceed the budget by a millionth, and they count.
    eps = 4 / 255
    records = [clean(i, 0, 0) for i in range(4)]
    for index, radius in enumerate((eps, eps * (1 + 6e-8), eps * (1 + 1e-4), None)):
        records.append(attack(index, 0, 0, radius, norm="linf", eps=[eps]))
    write_run(tmp_path, records, norm="linf", eps=[eps])
    summary = summarize(load_run(tmp_path))
    assert summary.headline_attacked == 0.5
    assert at(summary.attacked_accuracy, eps) == 0.5
    assert summary.by_attack["pgd"]["at_headline"] == 0.5
    assert robustness(load_run(tmp_path), eps)["robust_accuracy"] == 0.5


def test_the_headline_names_whom_it_is_about(tmp_path) -> None:
    several = "multi-view model"
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.5, subject=several)]
    run = load_run(write_run(tmp_path / "views", records))
    run.manifest["config"]["views"] = "shift x 4, mean"
    assert "guarantee for the multi-view model" in headline(summarize(run))
    plain = load_run(write_run(tmp_path / "one", [clean(0, 0, 0), certificate(0, 0, 0, 0.5)]))
    assert "guarantee for the model itself" in headline(summarize(plain))


def test_robustness_goes_by_the_model_itself_and_radii_by_float64(tmp_path) -> None:
    # Deployed at 0.3, with a radius of 0.6, with none, the other way round; and an older record.
    records = [clean(i, 0, 0) for i in range(5)]
    records += [certificate(i, 0, 0, 0.4) for i in range(5)]
    records += [
        attack(0, 0, 0, 0.6, deployed=0.3, in_float64=True),
        attack(1, 0, 0, None, deployed=0.3, in_float64=False),
        attack(2, 0, 0, 0.6, deployed=None, in_float64=True),
        attack(3, 0, 0, None, deployed=None, in_float64=True),
        attack(4, 0, 0, 0.6),
    ]
    run = load_run(write_run(tmp_path, records, eps=[0.5, 1.0]))
    images, found = per_image(run), summarize(run)
    assert images["attacked"].tolist() == [0.6, math.inf, 0.6, math.inf, 0.6]
    assert images["fooled"].tolist() == [0.3, 0.3, 0.6, math.inf, 0.6]
    assert run.attacks["deployed"].tolist() == [0.3, 0.3, math.inf, math.inf, 0.6]
    assert found.headline_attacked == at(found.attacked_accuracy, 0.5) == 0.6
    assert at(found.attacked_accuracy, 1.0) == 0.2
    assert found.median_attacked_radius == 0.6
    own = found.by_attack["pgd"]
    assert (own["found"], own["median"], own["at_headline"]) == (4, 0.6, 0.6)
    assert robustness(run, 0.5)["robust_accuracy"] == 0.6
    # 0.3 is below the certificate, but only the float32 model was fooled there.
    assert found.violations == [] and found.pairs == 3


def test_a_resumed_run_may_hold_older_records(tmp_path) -> None:
    records = [clean(i, 0, 0) for i in range(3)]
    records += [attack(0, 0, 0, 0.3), attack(1, 0, 0, None)]
    records += [attack(2, 0, 0, 0.4, deployed=0.2, in_float64=True)]
    run = load_run(write_run(tmp_path, records))
    assert run.attacks["deployed"].tolist() == [0.3, math.inf, 0.2]


def test_an_image_on_which_the_model_abstains_is_wrong_whatever_its_label(tmp_path):
    # Of unlabeled data the label may be -1 too; an attack or a certificate there does not count.
    records = [
        *(clean(0, 0, 0), clean(1, 0, -1), clean(2, -1, -1)),
        *(certificate(0, 0, 0, 0.5), certificate(1, 0, -1, 0.9), certificate(2, -1, -1, 0.9)),
        *(attack(0, 0, 0, 0.6), attack(1, 0, -1, None), attack(2, -1, -1, 0.2)),
    ]
    run = load_run(write_run(tmp_path, records))
    found, images = summarize(run), per_image(run)
    assert images["correct"].tolist() == [True, False, False]
    assert images["certified_by"].tolist() == ["product", "", ""]
    assert images["fooled"].tolist() == [0.6, math.inf, math.inf]
    assert found.clean_accuracy == pytest.approx(1 / 3) and found.abstained == 2
    assert found.violations == [] and at(found.certified_accuracy, 0.5) == pytest.approx(1 / 3)
    assert "The model abstains on 2 images, which count as wrong." in headline(found)
    assert "abstains" not in headline(summary_of(tmp_path / "none", four_images()))
