"""Compare the local gradient bound over L2 balls with auto_LiRPA's Jacobian bounds.

Same networks, images, balls and margin directions. Both start from the same enclosure question: the
largest L2 norm of the gradient of a_j.h over the ball. Ours is `best_jacobian_bounds`, over
`ball_bounds`, over the tighter `refined_bounds` ('ours refined', what `local` takes in small
networks), and with layers and zonotopes of any size ('ours refined, all', what `local` takes with
`units` above its default). The peer gives

* an interval for every entry of the Jacobian (`JacobianOP`, `compute_jacobian_bounds`), whose L2
  norm is taken: 'jacobian' by plain CROWN, 'jacobian optimized' with its default, which optimizes
  the bounds of hidden units first;
* a bound of the squared L2 norm itself (`GradNorm(norm=2)`): 'norm' and 'norm optimized'.

It bakes the last layer into the graph, so it is built anew for every image (and direction); that
time is not counted. Its Jacobian of a convolution refuses more than one output row in this version,
so it gets every network as dense layers with neighboring affine steps, the input normalization and
the margin directions merged; ours gets the network as it is. Only chains of affine layers and ReLU
can be written so. A sampled lower bound of the true value says how tight each is.

The environment variable ROBUSTCL_AUTO_LIRPA names folders with auto_LiRPA and what it needs (as in
PYTHONPATH); without it the benchmark is skipped.

Run: python benchmarks/local_bound_against_auto_lirpa.py --cache DIR --data parquet:PATH
"""

import argparse
import contextlib
import copy
import io
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.networks import load_or_train
from benchmarks.provenance import provenance, record
from benchmarks.ten_networks import NETWORKS
from robustcl.certify import prepared_model
from robustcl.certify._local import first_radii
from robustcl.certify.bounds.preactivation_bounds import ball_bounds
from robustcl.certify.bounds.refined_bounds import refined_bounds
from robustcl.certify.bounds.zonotope_slopes import MOST, best_jacobian_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.affine import Affine
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.ops.scalar_function import RELU
from robustcl.certify.verification_problem import VerificationProblem, verification_problem
from robustcl.data import load_data
from robustcl.studies.peers.comparison import AbsentError, import_peer

PEER = "ROBUSTCL_AUTO_LIRPA"
CHAINS = ("digits-dense2", "digits-dense3", "digits-conv2", "color-dense3", "color-conv4")
PEER_KINDS = ("jacobian", "jacobian optimized", "norm", "norm optimized")
TOLERANCE = 1e-5  # the peer computes in float32
SAMPLES = 256
OWN_KINDS = ("ours", "ours refined", "ours refined, all")


def chain(network: Network, directions: Tensor) -> nn.Sequential:
    """Write a chain of affine steps and ReLU as dense layers, in float64.

    Args:
        network: The steps.
        directions: (R, d) that are merged into the last layer.

    Returns:
        (B, D) to (B, R).

    Raises:
        ValueError: When the network is no such chain.
    """
    layers: list[nn.Module] = []
    weight, bias = None, torch.zeros(1, dtype=torch.float64)
    for position, step in enumerate(network.steps[1:], start=1):
        if step.sources != (position - 1,):
            raise ValueError("not a chain")
        if isinstance(step.operation, Affine):
            weight, bias = _after(step.operation, network.steps[position - 1].shape, weight, bias)
        elif step.operation.function is RELU:
            layers += [_linear(weight, bias), nn.ReLU()]
            weight = None
        else:
            raise ValueError(f"{step.place} is neither affine nor a ReLU")
    assert weight is not None
    return nn.Sequential(*layers, _linear(directions @ weight, directions @ bias))


def _after(
    operation: Affine, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor
) -> tuple[Tensor, Tensor]:
    # The step after x -> weight x + bias, as one matrix and one vector.
    size = math.prod(shape)
    if weight is None:
        weight, bias = torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    columns = torch.cat([weight.T, bias[None]]).view(-1, *shape)
    moved = operation.apply(columns)
    offset = 0.0 if operation.offset is None else operation.offset
    return moved[:-1].flatten(1).T, (moved[-1:] + offset).flatten()


def _linear(weight: Tensor | None, bias: Tensor) -> nn.Linear:
    assert weight is not None
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data, layer.bias.data = weight.contiguous(), bias
    return layer.requires_grad_(False)


def sampled(module: nn.Sequential, image: Tensor, radius: float) -> Tensor:
    """Sample the gradients' L2 norms at the image, in the ball and on its surface.

    Args:
        module: (B, D) to (B, R), float64.
        image: (D,).
        radius: Of the ball.

    Returns:
        (R,) the largest norms seen.
    """
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(SAMPLES, len(image), generator=generator, dtype=torch.float64)
    steps = torch.nn.functional.normalize(steps, dim=1) * radius
    steps[::2] *= torch.rand(SAMPLES // 2, 1, generator=generator, dtype=torch.float64)
    steps[0] = 0.0
    points = (image + steps).requires_grad_()
    outputs = module(points)
    norms = [
        torch.autograd.grad(outputs[:, k].sum(), points, retain_graph=True)[0].norm(dim=1).max()
        for k in range(outputs.shape[1])
    ]
    return torch.stack(norms)


def peer_bounds(module: nn.Sequential, image: Tensor) -> dict[str, Callable[[float], Tensor]]:
    """Build the peer's bounds at one image.

    Args:
        module: (B, D) to (B, R), float64.
        image: (D,).

    Returns:
        By kind, a function of the ball's radius that gives (R,) bounds.
    """
    lirpa: Any = __import__("auto_LiRPA")
    jacobian: Any = __import__("auto_LiRPA.jacobian", fromlist=["JacobianOP"])
    lirpa.utils.logger.setLevel(logging.ERROR)
    point, last = image[None].float(), module[-1]
    assert isinstance(last, nn.Linear)
    count = last.out_features

    class Wrapped(nn.Module):
        def __init__(self, rows: slice, *, squared: bool) -> None:
            super().__init__()
            rows_only = _linear(last.weight[rows], last.bias[rows])
            self.inner = copy.deepcopy(nn.Sequential(*module[:-1], rows_only)).float()
            self.norm = jacobian.GradNorm(norm=2) if squared else None

        def forward(self, x: Tensor) -> Tensor:
            found = jacobian.JacobianOP.apply(self.inner(x), x)
            return found if self.norm is None else self.norm(found)

    def bounded(rows: slice, *, squared: bool) -> Any:
        wrapped = Wrapped(rows, squared=squared)
        return lirpa.BoundedModule(wrapped, lirpa.BoundedTensor(point.clone()), device="cpu")

    whole = bounded(slice(None), squared=False)
    single = [bounded(slice(k, k + 1), squared=True) for k in range(count)]

    def ball(radius: float) -> Any:
        return lirpa.BoundedTensor(point, lirpa.PerturbationLpNorm(norm=2, eps=radius))

    def entries(radius: float, optimize: bool) -> Tensor:
        low, high = whole.compute_jacobian_bounds(ball(radius), optimize=optimize)
        widest = torch.maximum(low.abs(), high.abs()).detach().double()
        return widest.view(count, -1).norm(dim=1)

    def norms(radius: float, optimize: bool) -> Tensor:
        found = [
            one.compute_jacobian_bounds(ball(radius), optimize=optimize, bound_lower=False)[1]
            for one in single
        ]
        return torch.cat([high.detach().double().flatten().clamp_min(0.0).sqrt() for high in found])

    return {
        "jacobian": lambda radius: entries(radius, False),
        "jacobian optimized": lambda radius: entries(radius, True),
        "norm": lambda radius: norms(radius, False),
        "norm optimized": lambda radius: norms(radius, True),
    }


def own_bounds(task: VerificationProblem, row: int) -> dict[str, Callable[[float], Tensor]]:
    """Prepare our bounds at one image.

    Args:
        task: Images and directions.
        row: Which image.

    Returns:
        By kind, a function of the ball's radius that gives (R,) bounds.
    """
    network, image = task.traced.fast, task.images[row : row + 1]
    center = [
        Region(r.low[row : row + 1], r.high[row : row + 1], r.reach[row : row + 1])
        for r in task.center
    ]
    directions = rivals_of(task, row)[None]

    all_refined = partial(refined_bounds, largest=network.size)

    def bounds(radius: float, regions: Callable[..., list[Region]], most: int = MOST) -> Tensor:
        size = torch.tensor([radius], dtype=torch.float64)
        around = regions(network, image, size, center, norm="l2")
        return best_jacobian_bounds(network, around, directions, norm="l2", most=most)[0]

    return {
        "ours": lambda radius: bounds(radius, ball_bounds),
        "ours refined": lambda radius: bounds(radius, refined_bounds),
        "ours refined, all": lambda radius: bounds(radius, all_refined, network.size),
    }


def rivals_of(task: VerificationProblem, row: int) -> Tensor:
    # (K - 1, d) directions of one image.
    kept = torch.arange(task.margins.shape[1]) != task.predicted[row]
    return task.directions[row, kept]


def timed(function: Callable[[float], Tensor], radius: float) -> tuple[float, Tensor]:
    with contextlib.redirect_stdout(io.StringIO()):  # the peer prints its progress
        begun = time.perf_counter()
        found = function(radius)
        return time.perf_counter() - begun, found


def compared(
    name: str, task: VerificationProblem, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run both on one network.

    Args:
        name: Of the network.
        task: Images and directions.
        options: Of the command.

    Returns:
        One record per radius.
    """
    nearest = first_radii(task).amin(dim=1)
    found: dict[float, dict[str, list[tuple[float, Tensor]]]] = {}
    for row in range(len(task.images)):
        module = chain(task.traced.network, rivals_of(task, row))
        image = task.images[row].flatten()
        kinds = own_bounds(task, row) | peer_bounds(module, image)
        for fraction in options.fractions:
            radius = fraction * float(nearest[row])
            rows = found.setdefault(fraction, {})
            rows.setdefault("sampled", []).append((0.0, sampled(module, image, radius)))
            for function in kinds.values():  # the first call is slower
                timed(function, radius)
            runs = [
                {kind: timed(function, radius) for kind, function in kinds.items()}
                for _ in range(options.repeats)
            ]
            for kind in kinds:
                seconds = statistics.median(run[kind][0] for run in runs)
                rows.setdefault(kind, []).append((seconds, runs[0][kind][1]))
    return [
        {
            "network": name,
            "images": len(task.images),
            "directions": task.margins.shape[1] - 1,
            "radius_over_first_order": fraction,
            **summary(rows),
        }
        for fraction, rows in found.items()
    ]


def summary(rows: dict[str, list[tuple[float, Tensor]]]) -> dict[str, Any]:
    """Compare bounds and times over all images and directions.

    Args:
        rows: By kind, seconds and bounds per image.

    Returns:
        Plain numbers: `looser_than` counts the pairs (image, direction) where ours is above.
    """
    bounds = {kind: torch.cat([bound for _, bound in found]) for kind, found in rows.items()}
    seconds = {kind: statistics.median(s for s, _ in found) for kind, found in rows.items()}
    result: dict[str, Any] = {"pairs": len(bounds["sampled"])}
    for kind in (*OWN_KINDS, *PEER_KINDS):
        over = bounds[kind] / bounds["sampled"]
        result[kind] = {
            "ms_per_image": round(1e3 * seconds[kind], 2),
            "over_sampled_median": round(float(over.median()), 4),
            "below_sampled": int((over < 1.0).sum()),
        }
    for own in OWN_KINDS:
        for kind in PEER_KINDS:
            over = bounds[own] / bounds[kind]
            result[own][f"against {kind}"] = {
                "looser_than": int((over > 1.0 + TOLERANCE).sum()),
                "ratio_median": round(float(over.median()), 4),
                "ratio_worst": round(float(over.max()), 4),
                "times_faster": round(seconds[kind] / seconds[own], 1),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    parser.add_argument("--networks", nargs="+", default=list(CHAINS), choices=CHAINS)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    try:
        import_peer("auto_LiRPA", cure=f"name its folders in {PEER}", variable=PEER)
    except AbsentError as error:
        print(f"skipped: {error}")
        return
    torch.set_num_threads(1)
    made = provenance(hidden=(str(options.cache), options.data, str(options.out)))
    made["versions"]["auto_LiRPA"] = __import__("auto_LiRPA").__version__
    for name in options.networks:
        spec = "digits" if NETWORKS[name].data == "digits" else options.data
        model = load_or_train(name, data=spec, cache=options.cache)
        batch = next(iter(load_data(spec, split="test").batches(options.images)))
        task = verification_problem(
            prepared_model(model, norm="l2", method="benchmark"), batch.images
        )
        for found in compared(name, task, options):
            record(found | made, options.out)


if __name__ == "__main__":
    main()
