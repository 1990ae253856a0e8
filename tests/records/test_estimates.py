"""Estimates against attacks: counted on paper, said on stderr, and as the documentation has it."""

# pandas annotates comparisons as unions that no assertion narrows.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

import json
import math
import re
from pathlib import Path

import pytest

from robustcl.records.images import per_image
from robustcl.records.reading import load_run
from robustcl.records.summary import Summary, estimate_pairs, summarize
from robustcl.report.headline import estimate_sentences
from robustcl.workflows.outputs import finish
from tests.report.synthetic_run import attack, certificate, clean, write_run

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "version_0_2_0" / "run"
DEMO = ROOT / "benchmarks" / "results" / "demo"


def estimate(index: int, label: int, predicted: int, radius: float | None, **other: str | int):
    terms = {"method": "first_order", "guarantee": "estimate", **other}
    return certificate(index, label, predicted, radius, **terms)


def summary_of(folder: Path, records: list) -> Summary:
    return summarize(load_run(write_run(folder, records)))


def test_only_right_images_that_were_beaten_count(tmp_path: Path) -> None:
    records = [
        *(clean(0, 0, 0), estimate(0, 0, 0, 0.6), attack(0, 0, 0, 0.3)),  # twice the attacked
        *(clean(1, 0, 0), estimate(1, 0, 0, 0.3), attack(1, 0, 0, 0.4)),  # below it
        *(clean(2, 0, 0), estimate(2, 0, 0, 0.5), attack(2, 0, 0, 0.5)),  # equal
        *(clean(3, 0, 0), estimate(3, 0, 0, 9.0), attack(3, 0, 0, None)),  # nothing was found
        *(clean(4, 1, 0), estimate(4, 1, 0, 9.0), attack(4, 1, 0, 0.1)),  # wrong
        *(clean(5, 0, 0), estimate(5, 0, 1, 9.0), attack(5, 0, 0, 0.1)),  # about another class
        *(clean(6, 0, 0), estimate(6, 0, -1, 9.0), attack(6, 0, 0, 0.1)),  # abstained
        *(clean(7, 0, 0), estimate(7, 0, 0, 9.0), attack(7, 0, 0, 0.0)),  # on the boundary
        *(clean(8, 0, 0), attack(8, 0, 0, 0.1)),  # no estimate
    ]
    found = summary_of(tmp_path, records)
    assert found.estimates == {
        "first_order": {"n": 3, "exceeds": 1, "largest_ratio": pytest.approx(2.0)}
    }
    assert found.violations == []


def test_the_worst_attack_counts_and_rounding_does_not(tmp_path: Path) -> None:
    radius = 0.3 * (1 + 1e-12)
    records = [
        *(clean(0, 0, 0), estimate(0, 0, 0, radius), attack(0, 0, 0, 0.3)),
        *(clean(1, 0, 0), estimate(1, 0, 0, 0.5)),
        *(attack(1, 0, 0, 0.9), attack(1, 0, 0, 0.4, method="fgsm")),
        *(estimate(0, 0, 0, 0.1, method="clever"), estimate(1, 0, 0, 0.1, method="clever")),
    ]
    found = summary_of(tmp_path, records).estimates
    assert found["first_order"] == {"n": 2, "exceeds": 1, "largest_ratio": pytest.approx(1.25)}
    assert found["clever"] == {"n": 2, "exceeds": 0, "largest_ratio": pytest.approx(1 / 3)}


def test_certificates_and_other_subjects_are_no_estimates_of_the_model(tmp_path: Path) -> None:
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.2), attack(0, 0, 0, 0.3)]
    assert summary_of(tmp_path / "none", records).estimates == {}
    records.append(estimate(0, 0, 0, 0.9, subject="multi-view model"))
    assert summary_of(tmp_path / "other", records).estimates == {}


def test_an_endless_estimate_is_the_largest(tmp_path: Path) -> None:
    records = [clean(0, 0, 0), estimate(0, 0, 0, None, rival=-1), attack(0, 0, 0, 0.3)]
    found = summary_of(tmp_path, records)
    assert found.estimates["first_order"]["largest_ratio"] == math.inf
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["estimates"] == {
        "first_order": {"n": 1, "exceeds": 1, "largest_ratio": None}
    }
    assert "on 1 of 1 image, up to ∞ times" in estimate_sentences(found)[0]
    assert finish(tmp_path, json=False) == 0  # the figure, too, has a place for it


def test_without_an_attack_nothing_is_compared(tmp_path: Path) -> None:
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.2), estimate(0, 0, 0, 0.9)]
    found = summary_of(tmp_path, records)
    assert found.estimates == {"first_order": {"n": 0, "exceeds": 0, "largest_ratio": None}}
    assert "no attacked L2 radius" in estimate_sentences(found)[0]
    assert finish(tmp_path, json=False) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'alt="Estimated radius' in page and "estimate<br>is larger on" not in page


def test_certify_run_says_it_on_stderr_in_json_and_on_the_page(tmp_path: Path, capsys) -> None:
    records = [
        *(clean(0, 0, 0), estimate(0, 0, 0, 0.6), attack(0, 0, 0, 0.3)),
        *(clean(1, 0, 0), estimate(1, 0, 0, 0.2), attack(1, 0, 0, 0.4)),
        *(estimate(0, 0, 0, 0.1, method="clever"), estimate(1, 0, 0, 0.1, method="clever")),
    ]
    assert finish(write_run(tmp_path, records), json=True) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert (
        "first_order: larger than the attacked L2 radius on 1 of 2 images, up to 2 times: an "
        "estimate proves nothing"
    ) in lines
    assert any(
        line.startswith("clever: larger than the attacked L2 radius on 0 of 2") for line in lines
    )
    assert json.loads(said.out)["estimates"]["first_order"]["exceeds"] == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    caption = re.search(r"<figcaption>(Estimated radii.*?)</figcaption>", page, re.DOTALL)
    assert caption is not None
    assert "first_order on 1 of 2 images, up to 2 times" in caption[1]
    rows = re.findall(r"<td><span class=\"mono\">first_order</span></td>(.*)</tr>", page)
    assert re.findall(r">([^<>]+)</td>", rows[-1]) == ["2", "1", "2"]
    table = (tmp_path / "tables" / "estimates.csv").read_text(encoding="utf-8")
    assert table.splitlines()[0] == "method,n,exceeds,largest_ratio"


def test_the_figure_shows_the_pairs_that_are_counted() -> None:
    run = load_run(GOLDEN)
    summary = summarize(run)
    assert summary.estimates
    for name, pairs in estimate_pairs(run, per_image(run)).items():
        above = int((pairs["estimate"] > pairs["attacked"] * (1 + 1e-9)).sum())
        assert (len(pairs), above) == (
            summary.estimates[name]["n"],
            summary.estimates[name]["exceeds"],
        )


@pytest.mark.parametrize("place", ["README.md", "docs/certificates.md"])
def test_the_documentation_has_the_figures_of_the_committed_demo(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    said = re.search(
        r"In the demo `first_order` exceeds the attacked radius on (\d+) of (\d+) images, up to "
        r"([\d.]+) times, and `jacobian_norm` on (\d+), up to ([\d.]+) times", text,
    )  # fmt: skip
    assert said is not None
    told = json.loads((DEMO / "summary.json").read_text())["estimates"]
    first, norm = told["first_order"], told["jacobian_norm"]
    assert said.groups() == (
        *(str(first["exceeds"]), str(first["n"]), f"{first['largest_ratio']:.3g}"),
        *(str(norm["exceeds"]), f"{norm['largest_ratio']:.3g}"),
    )
    assert first["n"] == norm["n"]
