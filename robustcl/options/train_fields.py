"""State what both `robustcl train` and a recipe in Python say about training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainFields:
    """State how an encoder is trained.

    Args:
        loss: Losses joined by plus signs: simclr, supcon, suncet, debiased, hard_negative, filter,
            semantic, batch_prototypes, margin_suncet and cross_entropy, with options as in
            simclr+suncet:temperature=.1,weight=.5,until=50 or
            filter:class_prior=.1,action=attract,confidence=.9.
        labels: Share of training images whose labels are used, the same number in every class.
        label_seed: Seed of their choice.
        targets: Class vectors of semantic: simplex, taxonomy, taxonomy:FILE.toml, words:FILE or
            npy:FILE, with ',center=true' and ',blend=B'.
        epochs: Passes over the data.
        batch_size: Images per batch, all processes of torchrun together.
        accumulate: Batches per step; negatives come from one batch only.
        labeled_batch: Images in the class-stratified batch of suncet, semantic and cross_entropy;
            by default a quarter of the batch where labels are few.
        optimizer: adamw, sgd with Nesterov momentum, lars, or muon for lipschitz.
        learning_rate: Peak of the cosine schedule; lars wants about 0.3 per 256 images of a step,
            muon about 0.02.
        weight_decay: Decoupled for adamw and muon; an L2 penalty for sgd and lars.
        momentum: Of sgd, lars and muon.
        ema: Decay per step of the moving average of weights, as 0.99; the average is what is saved
            and measured; 0 for none.
        warmup: Share of the schedule in which the rate rises.
        projector: Hidden units of a perceptron between embedding and losses that is thrown away
            after training; 0 for none.
        robust: How training is made robust, as in penalty:weight=.1,norm=linf,direction=random,
            noise:sigma=.25,consistency=1, lipschitz or acl:eps=4/255,steps=1 (rocl, acl, dynacl,
            deacl); nothing for not at all. deacl first trains a teacher with these options and
            without attack, or takes deacl:teacher=CHECKPOINT.
        log_norm_penalty: Weight of the log-norm penalty, which widens certified radii.
        autocast: Run the encoder in bfloat16.
        compile: Compile the encoder.
        max_seconds: The schedule ends by then.
    """

    loss: str = "simclr"
    labels: float = 1.0
    label_seed: int = 0
    targets: str = "simplex"
    epochs: int = 30
    batch_size: int = 256
    accumulate: int = 1
    labeled_batch: int | None = None
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    ema: float = 0.0
    warmup: float = 0.05
    projector: int = 0
    robust: str = ""
    log_norm_penalty: float = 0.0
    autocast: bool = False
    compile: bool = False
    max_seconds: float | None = None
