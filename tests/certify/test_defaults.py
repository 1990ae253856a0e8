"""Smoothing is by votes where nothing else is said, and old runs are never gone on with by it."""

import json
from pathlib import Path

import pytest
import torch

from robustcl import certify
from robustcl.core.errors import InputError, RunError
from robustcl.data import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records.json_file import CHECKSUM
from robustcl.records.reading import config_hash, load_run
from robustcl.studies.suite import read_suite
from tests.network import small_classifier, some_images

TYPED = "smoothing:sigma=.25,n=60"


def test_no_form_means_votes() -> None:
    model, images = small_classifier(), some_images(6)
    found = {
        form: certify.certificate(certify.parse_method(f"{TYPED}{form}"), model, images)
        for form in ("", ",form=vote", ",form=mean")
    }
    assert torch.equal(found[""].radius, found[",form=vote"].radius)
    assert not torch.equal(found[""].radius, found[",form=mean"].radius)
    assert "vote" in found[""].subject


def test_what_was_left_out_is_named() -> None:
    assert certify.changed_defaults(["product", TYPED, "smoothing"]) == ["smoothing:form=vote"]
    assert certify.changed_defaults(["product", f"{TYPED},form=mean"]) == []


def random_data(count: int) -> Dataset:
    model, images = small_classifier(), some_images(count)
    labels = model(images).argmax(1).numpy().copy()
    return Dataset("random", images.permute(0, 2, 3, 1).numpy(), labels)


def aged(folder: Path) -> None:
    """Give a run the manifest that version 0.1.0 wrote, and half of its records."""
    place = folder / "manifest.json"
    manifest = json.loads(place.read_text())
    del manifest["config"]["defaults"], manifest["sessions"], manifest[CHECKSUM]
    known = config_hash(manifest["config"])
    manifest |= {"schema": 1, "config_hash": known, "complete": False}
    place.write_text(json.dumps(manifest))
    lines = (folder / "records-0.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines[: len(lines) // 2]]
    for record in records:
        del record["crc"], record["session"]
        record["config"] = known
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    (folder / "records-0.jsonl").write_text(text)


def test_an_older_run_is_read_but_not_gone_on_with(tmp_path: Path) -> None:
    model, dataset = small_classifier(), random_data(8)
    audit = EvaluationConfig(methods=("product", TYPED), attacks=(), batch_size=2)
    evaluate(model, dataset, audit, tmp_path, progress=False)
    aged(tmp_path)
    before = (tmp_path / "records-0.jsonl").read_bytes()
    with pytest.raises(RunError, match="other defaults held; now smoothing:form=vote"):
        evaluate(model, dataset, audit, tmp_path, progress=False, resume=True)
    assert (tmp_path / "records-0.jsonl").read_bytes() == before
    rows = load_run(tmp_path).certificates
    assert "vote" in rows[rows["method"] == TYPED]["subject"].tolist()[0]  # the record says which


def test_a_named_form_leaves_a_run_as_it_always_was(tmp_path: Path) -> None:
    audit = EvaluationConfig(methods=(f"{TYPED},form=mean",), attacks=(), batch_size=8)
    model, dataset = small_classifier(), random_data(8)
    evaluate(model, dataset, audit, tmp_path, progress=False)
    assert "defaults" not in load_run(tmp_path).manifest["config"]
    evaluate(model, dataset, audit, tmp_path, progress=False, resume=True)


@pytest.mark.parametrize("form, stated", [("", True), (",form=vote", False)])
def test_a_suite_states_it_too(form: str, stated: bool) -> None:
    suite = read_suite(
        "mine",
        {
            "question": "?",
            "certificates": [f"{TYPED}{form}"],
            "metrics": ["clean_accuracy"],
            "models": {"one": {}},
        },
    )
    assert ("defaults" in suite.to_dict()) == stated


def test_methods_share_one_prepared_model_and_each_checks_its_options() -> None:
    classifier = small_classifier()
    found = certify.prepare_all(
        ("product", "geodesic", "sound:splits=2,slope_steps=10", "clever"), classifier, norm="l2"
    )
    assert (
        found["product"] is found["geodesic"] is found["sound:splits=2,slope_steps=10"] is not None
    )
    assert found["clever"] is None
    with pytest.raises(InputError, match="stairs"):
        certify.prepare_all(("product", "local:stairs=0"), classifier, norm="l2")
