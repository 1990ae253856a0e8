"""Copy a suite that has been run into `benchmarks/results`, as it is published.

What is copied: the page and its tables, manifests, cells, and, of suites of one seed, records and
pages of single runs; of suites of several seeds, summaries stand for them, since records would be
megabytes, and links to pages that are not there become plain text. Arrays, checkpoints, figures
(the page holds them) and tables of single runs are left out. In commands the folder is written as
`bench-SUITE`.

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
ALWAYS = ("manifest.json", "cell.json", "summary.json", "study.json")
ONE_SEED = ("report.html", "records-*.jsonl")
OUT = re.compile(r"(robustcl bench \S+ .*?--out )[^\s\"<&]+")
LINK = re.compile(r'<a href="([^"#:]+)">(.*?)</a>')


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
    wanted = [*ALWAYS, *(ONE_SEED if len(manifest["config"].get("seeds", [0])) < 2 else ())]
    place = RESULTS / manifest["suite"]
    if place.exists():
        old = place / "manifest.json"
        if not old.exists() or json.loads(old.read_text()).get("suite") != place.name:
            raise SystemExit(
                f"{place} is no copy of the suite {manifest['suite']!r}; move it first"
            )
        shutil.rmtree(place)
    found = [folder / "report.html", *folder.glob("tables/*.md")]
    found += [path for name in wanted for path in folder.rglob(name)]
    for path in dict.fromkeys(found):
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = OUT.sub(rf"\1bench-{place.name}", path.read_text(encoding="utf-8"))
        if path.suffix == ".json" and CHECKSUM in json.loads(text):
            text = json_text(sealed(json.loads(text)))  # the command in it is another now
        target.write_text(text, encoding="utf-8")
    for page in place.rglob("report.html"):
        plain_dead_links(page)
    return place


def plain_dead_links(page: Path) -> None:
    """Turn links to files that are not there into text.

    Args:
        page: An HTML page.
    """

    def shown(match: re.Match[str]) -> str:
        return match[0] if (page.parent / match[1]).exists() else match[2]

    page.write_text(LINK.sub(shown, page.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    for name in sys.argv[1:]:
        print(publish(Path(name)))


if __name__ == "__main__":
    main()
