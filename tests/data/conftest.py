"""Small files of every layout, sorted by class."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def sorted_sources(tmp_path: Path) -> dict[str, str]:
    """Ten images of each of four classes, one class after the other.

    Returns:
        Specifications by source.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "test.npz", images=images, labels=labels, class_names=list(NAMES))
    cells = []
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "folder" / "test" / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        picture, stream = Image.fromarray(pixels), io.BytesIO()
        picture.save(folder / f"{number:02}.png")
        picture.save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": None})
    features = {"label": {"names": list(NAMES), "_type": "ClassLabel"}}
    described = json.dumps({"info": {"features": features}})
    table = pa.table({"img": cells, "label": labels}).replace_schema_metadata({
        "huggingface": described
    })
    pq.write_table(table, tmp_path / "test.parquet", row_group_size=7)
    return {
        "npz": f"npz:{tmp_path / 'test.npz'}",
        "parquet": f"parquet:{tmp_path / 'test.parquet'}",
        "imagefolder": f"imagefolder:{tmp_path / 'folder'}",
    }
