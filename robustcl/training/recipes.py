"""State the training runs that the demo and the CPU benchmarks repeat."""

from robustcl.data.views.options import COLOR_VIEWS, DIGIT_VIEWS
from robustcl.training.recipe import TrainRecipe, mixed_loss

# small_convnet(**DEMO_ARCHITECTURE) on digits; encoder with mean (0,) and std (1,).
DEMO_ARCHITECTURE: dict[str, int] = {
    "channels": 1,
    "image_size": 8,
    "width": 32,
    "embedding_size": 64,
}

DEMO_RECIPE = TrainRecipe(
    epochs=240,
    batch_size=256,
    learning_rate=3e-3,
    loss=mixed_loss(0.8),
    log_norm_penalty=0.25,
    views=DIGIT_VIEWS,
    seed=0,
)

# small_convnet(**CIFAR_CPU_ARCHITECTURE) on 32x32 RGB; eight minutes on two cores.
CIFAR_CPU_ARCHITECTURE: dict[str, int] = {
    "channels": 3,
    "image_size": 32,
    "width": 32,
    "embedding_size": 64,
}

CIFAR_CPU_RECIPE = TrainRecipe(
    epochs=30,
    batch_size=256,
    learning_rate=2e-3,
    loss=mixed_loss(0.8),
    log_norm_penalty=0.02,
    views=COLOR_VIEWS,
    max_seconds=480.0,
    seed=0,
)
