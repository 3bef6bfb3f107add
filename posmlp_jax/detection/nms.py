"""From the scores of all anchors to the few boxes that are kept: the best of them, and non-maximum suppression."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Int32

from posmlp_jax.detection.boxes import iou


def best_scores(
    scores: Float[ArrayLike, "anchors classes"], number: int
) -> tuple[Float[Array, "best"], Int32[Array, "best"], Int32[Array, "best"]]:
    """The highest of all scores, falling, and each one's anchor and class; of equal ones the first, row by row.

    No more than `number`, and than there are. XLA sorts all of an array for the best of it, and the scores of 80
    classes at stride 8 of 800×1344 are 12 million. So the anchors are found first whose best score is among the
    highest: the others cannot have one of the scores that are looked for.
    """
    scores = jnp.asarray(scores)
    anchors, classes = scores.shape
    _, candidates = jax.lax.top_k(jnp.max(scores, axis=1), min(number, anchors))
    candidates = jnp.sort(candidates)  # Again in their order, in which equal scores are taken.
    best, place = jax.lax.top_k(scores[candidates].reshape(-1), min(number, anchors * classes))
    return best, candidates[place // classes], place % classes


def nms(
    boxes: Float[ArrayLike, "n 4"],
    scores: Float[ArrayLike, "n"],
    classes: Int[ArrayLike, "n"],
    threshold: ArrayLike,
    max_outputs: int,
) -> tuple[Int32[Array, "{max_outputs}"], Bool[Array, "{max_outputs}"]]:
    """Non-maximum suppression: a box is dropped that overlaps a kept one of its class and of a higher score too much.

    Of equal scores the box that comes first counts as higher. Boxes stay where they are; others move those of each
    class to a place of its own, which rounds them. All pairs are looked at: levels of a pyramid, whose boxes do not
    suppress each other, take less memory each for itself (`jax.vmap`) than as classes.

    Args:
      boxes: in any order.
      scores: −∞, or no number, where there is no box.
      classes: their numbers; all the same where classes do not count.
      threshold: a box with a greater IoU is dropped. A number is compared as it is, an array as the float32 that it is:
        an IoU of 3/10 is, in float32, greater than 0.3, but not than that number in float32.
      max_outputs: how many boxes are returned at most, those with the highest scores.

    Returns:
      The numbers of those that are kept, by falling score, and whether there is one. Where not, the number is 0.
    """
    scores = jnp.asarray(scores)
    order = jnp.argsort(jnp.where(scores > -jnp.inf, scores, -jnp.inf), descending=True, stable=True)
    boxes, classes = jnp.asarray(boxes)[order], jnp.asarray(classes)[order]
    place = jnp.arange(len(scores))
    suppresses = (place[:, None] < place) & (classes[:, None] == classes) & (iou(boxes, boxes) > _at_most(threshold))
    keep = _keep(scores[order] > -jnp.inf, suppresses)
    (kept,) = jnp.nonzero(keep, size=max_outputs, fill_value=0)
    valid = jnp.arange(max_outputs) < jnp.sum(keep)
    chosen = jnp.take(order, kept, mode="clip") if len(scores) else kept
    return jnp.where(valid, chosen, 0).astype(jnp.int32), valid


@jax.jit
def _keep(exists: Bool[Array, "n"], suppresses: Bool[Array, "n n"]) -> Bool[Array, "n"]:
    """Which boxes no kept box suppresses: `suppresses[i, j]`, i < j, if i is kept.

    The fixed point of keep = ¬any(keep ∧ suppresses). It is the greedy algorithm's result: whether a box is kept only
    depends on earlier ones, so that each round settles at least one more; with real boxes few rounds settle all.
    """

    def round_(state):
        keep, _ = state
        kept = exists & ~jnp.any(keep[:, None] & suppresses, axis=0)
        return kept, jnp.any(kept != keep)

    keep, _ = jax.lax.while_loop(lambda state: state[1], round_, (exists, jnp.array(True)))
    return keep


def _at_most(value: ArrayLike) -> ArrayLike:
    """The greatest float32 that is not greater: a float32 is greater than it if, and only if, it is than the value."""
    if not isinstance(value, float):
        return value
    nearest = np.float32(value)
    return np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > value else nearest
