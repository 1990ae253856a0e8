"""Give malformed inputs to the commands and say what was wrong with how they ended.

Run: python -m tests.fuzz [--count 5000] [--seed 0] [--jobs 2] [--processes 10] [--out FILE]

Each input is built from its seed, which is told with every fault: `--only SEED` runs one again and
keeps its folder.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.fuzz.campaign import campaign, load_package, run_one, seeds_of, table
from tests.fuzz.isolated import run_apart
from tests.fuzz.originals import make_originals


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kinds", default="", help="only kinds with this text in their name")
    parser.add_argument("--only", type=int, help="one seed; its folder is kept and named")
    parser.add_argument("--out", type=Path, help="write the counts as JSON")
    parser.add_argument("--processes", type=int, default=0, help="so many as real processes too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of libraries that write what is malformed
    place = Path(tempfile.mkdtemp(prefix="robustcl-fuzz-"))
    good = place / "good"
    good.mkdir()
    make_originals(good)
    if options.only is not None:
        load_package()
        found = run_one(options.only, place / "case", good, kinds=options.kinds, keep=True)
        print(found.kind, found.case, found.ended, *found.faults, place / "case", sep="\n")
        return 1 if found.faults else 0
    seeds = seeds_of(options.count, options.seed)
    outcomes = campaign(seeds, good, place, jobs=options.jobs, kinds=options.kinds)
    apart = seeds_of(options.processes, options.seed)
    outcomes += [
        run_one(seed, place / "apart", good, kinds=options.kinds, run=run_apart) for seed in apart
    ]
    text, plain = table(outcomes)
    print(text)
    for one in outcomes:
        if one.faults:
            print(f"\nseed {one.seed}, {one.kind}: {one.case.program} {' '.join(one.case.words)}")
            print(*(f"  {fault!r:.600}" for fault in one.faults), sep="\n")
    shutil.rmtree(place)
    if options.out:
        options.out.write_text(json.dumps(plain, indent=1) + "\n")
    return 1 if plain["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
