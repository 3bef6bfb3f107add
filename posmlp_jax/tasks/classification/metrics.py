"""What an evaluation of a classifier measures besides the loss; the first decides."""

from posmlp_jax.checkpoints.evaluations import Metric

# Of five classes or fewer there is no top-5. Balanced accuracy is the mean of the classes' own top-1.
METRICS = (
    Metric("top1", "top-1"),
    Metric("top5", "top-5"),
    Metric("balanced_accuracy", "balanced accuracy", brief=False),
)
