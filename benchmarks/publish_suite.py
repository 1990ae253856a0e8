"""Copy the tables and the manifest of a suite that has been run into `benchmarks/results`.

Records, pages, arrays and checkpoints are left out: `robustcl bench` makes them again. In commands
the folder is written as `bench-SUITE`.

Run: python benchmarks/publish_suite.py FOLDER ...
"""

import json
import re
import shutil
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustcl.records.json_file import CHECKSUM, json_text, sealed

RESULTS = Path(__file__).resolve().parent / "results"
OUT = re.compile(r"(robustcl bench \S+ .*?--out )[^\s\"<&]+")


def publish(folder: Path) -> Path:
    """Copy the folder of a suite.

    Args:
        folder: What `robustcl bench` wrote.

    Returns:
        Where it was copied to; an earlier copy is gone.

    Raises:
        SystemExit: When something else than a copy of this suite stands there.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    place = RESULTS / manifest["suite"]
    if place.exists():
        old = place / "manifest.json"
        if not old.exists() or json.loads(old.read_text()).get("suite") != place.name:
            raise SystemExit(
                f"{place} is no copy of the suite {manifest['suite']!r}; move it first"
            )
        shutil.rmtree(place)
    for path in (folder / "manifest.json", *folder.glob("tables/*.md")):
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = OUT.sub(rf"\1bench-{place.name}", path.read_text(encoding="utf-8"))
        if path.suffix == ".json" and CHECKSUM in json.loads(text):
            text = json_text(sealed(json.loads(text)))  # the command in it is another now
        target.write_text(text, encoding="utf-8")
    return place


def main() -> None:
    for name in sys.argv[1:]:
        print(publish(Path(name)))


if __name__ == "__main__":
    main()
