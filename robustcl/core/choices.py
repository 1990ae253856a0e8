"""Name the choices that options, formats and functions share. Each list is written here once."""

from typing import Literal, get_args

Norm = Literal["l2", "linf", "l1"]
NORMS: tuple[Norm, ...] = get_args(Norm)

CertifiedNorm = Literal["l2", "linf"]  # those in which radii are certified by themselves
CERTIFIED_NORMS: tuple[CertifiedNorm, ...] = get_args(CertifiedNorm)

Guarantee = Literal["deterministic", "probabilistic", "estimate"]

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Matching = Literal["names", "known", "positions"]
MATCHINGS: tuple[Matching, ...] = get_args(Matching)

Draw = Literal["stratified", "first"]

Aggregate = Literal["embedding", "score", "max", "vote", "confidence"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
