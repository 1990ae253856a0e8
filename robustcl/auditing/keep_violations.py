"""Save every violation of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustcl.auditing.audit_job import AuditJob, seeds_of
from robustcl.auditing.reproducer import Reproducer, Violation, reproducer_bytes
from robustcl.core.hashes import network_hash
from robustcl.core.lazy import lazily
from robustcl.core.output_folder import OutputFolder
from robustcl.data.dataset import Batch
from robustcl.runs.violations import violation_file, violations

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")


def keep_violations(
    job: AuditJob, batch: Batch, records: list[dict[str, Any]], attacked: Tensor
) -> None:
    """Write a reproducer of every certificate that an attack has beaten, in violations/.

    Args:
        job: The job.
        batch: The images.
        records: What is about to be recorded of an attack on them.
        attacked: (B, C, H, W) what the attack made of them.
    """
    if job.proved is None or job.proved.empty:
        return
    beaten, _ = violations(job.proved, pd.DataFrame(records))
    manifest, rows = job.manifest, {index: row for row, index in enumerate(batch.index.tolist())}
    for one in beaten:
        row = rows[one["index"]]
        image, point = batch.images[row].cpu(), attacked[row].cpu()
        with torch.no_grad():
            scores = job.exact(point.double()[None].to(job.device))
        violation = Violation(
            index=one["index"],
            predicted=records[row]["predicted"],
            rival=int(scores.argmax()),
            norm=job.audit.norm,
            certified=one["certified"],
            certificate=one["method"],
            attacked=one["attacked"],
            attack=one["attack"],
            seed=job.audit.seed,
            example_seed=seeds_of(job, batch, one["attack"])[row],
            network=network_hash(job.classifier),
            checkpoint=manifest["hashes"]["checkpoint"],
            data=manifest["config"]["data"],
            data_hash=manifest["hashes"]["data"],
            config_hash=manifest["config_hash"],
            device=manifest["device"],
            versions=manifest["versions"],
        )
        found = Reproducer(violation, image, point.double() - image.double())
        OutputFolder(job.folder).write_bytes(violation_file(one), reproducer_bytes(found))
