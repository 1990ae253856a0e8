"""Write CIFAR-10 from torchvision as the two Parquet files that the README's commands read.

Images are encoded as JPEG, quality 75 by default, in the Hugging Face layout: columns `img`
(struct of bytes and path) and `label`, class names in the schema's metadata.

Run: python benchmarks/make_cifar10_parquet.py --root DIR [--download] --out DIR
"""

import argparse
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torchvision.datasets import CIFAR10


def table(dataset: CIFAR10, quality: int) -> pa.Table:
    """Encode a split.

    Args:
        dataset: Pairs of a PIL image and a label.
        quality: Of the JPEG.

    Returns:
        The table.
    """
    images, labels = [], []
    for position in range(len(dataset)):
        image, label = dataset[position]
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        images.append({"bytes": buffer.getvalue(), "path": f"{position}.jpg"})
        labels.append(label)
    features = {
        "img": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": dataset.classes},
    }
    made = pa.table({"img": images, "label": pa.array(labels, pa.int64())})
    note = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": note})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=75)
    parser.add_argument("--download", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        dataset = CIFAR10(str(options.root), train=split == "train", download=options.download)
        pq.write_table(table(dataset, options.quality), options.out / f"{split}.parquet")
        print(f"{len(dataset)} images: {options.out / split}.parquet")


if __name__ == "__main__":
    main()
