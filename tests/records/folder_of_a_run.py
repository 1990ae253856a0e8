"""Make a tiny run by an audit, and change single things in its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustcl.core.classifier import Classifier
from robustcl.data import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records.lines import record_line
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from tests.network import small_classifier, some_images

AUDIT = EvaluationConfig(
    methods=("product", "smoothing:sigma=.25,n=20"), attacks=("pgd:steps=5", "fmn:steps=5"),
    eps=(0.1, 1.0), batch_size=4,
)  # fmt: skip
COUNT = 8


def model_and_data(count: int = COUNT) -> tuple[Classifier, Dataset]:
    model, images = small_classifier(), some_images(count)
    labels = model(images).argmax(1).numpy().copy()
    labels[:2] = (labels[:2] + 1) % 6
    return model, Dataset("random", images.permute(0, 2, 3, 1).numpy(), labels)


def make_run(folder: Path, audit: EvaluationConfig = AUDIT) -> Path:
    model, dataset = model_and_data()
    evaluate(model, dataset, audit, folder, progress=False)
    return folder


def go_on(folder: Path, audit: EvaluationConfig = AUDIT, **options: Any) -> bool:
    model, dataset = model_and_data()
    return evaluate(model, dataset, audit, folder, resume=True, progress=False, **options)


def figures(folder: Path) -> dict[str, Any]:
    """Every number of the summary but those of the time."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items() if key != "seconds"}
        return value

    return plain(summarize(load_run(folder)).to_dict())


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "records-0.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / "records-0.jsonl").write_bytes(b"".join(lines))


def line_number(folder: Path, kind: str, method: str, index: int) -> int:
    for number, line in enumerate(lines_of(folder)):
        record = json.loads(line)
        if (record["kind"], record["method"], record["index"]) == (kind, method, index):
            return number
    raise LookupError((kind, method, index))


def edit(
    folder: Path,
    kind: str,
    method: str,
    change: Callable[[dict[str, Any]], Any],
    *,
    index: int = 3,
    sealed: bool,
) -> int:
    """Change one record, with a checksum that fits (as by a program) or not (as by an editor)."""
    lines = lines_of(folder)
    number = line_number(folder, kind, method, index)
    record = json.loads(lines[number])
    crc = record.pop("crc")
    change(record)
    if sealed:
        lines[number] = record_line(record)
    else:
        lines[number] = json.dumps({**record, "crc": crc}, separators=(",", ":")).encode() + b"\n"
    write_lines(folder, lines)
    return number + 1
