"""What a run does when its loss becomes infinite or not a number."""

from contextlib import closing
from functools import partial

import jax
from etils import epath

from posmlp_jax.devices.hosts import together
from posmlp_jax.training.experiment import Training
from posmlp_jax.training.stopping import RunEnded
from posmlp_jax.writing import atomic_write, writing_to


class NonFiniteLoss(RunEnded):
    """The loss or its gradient is infinite or not a number. The newest checkpoint is from before that.

    Attributes:
      step: the first such step.
      exit_code: 3.
    """

    exit_code = 3

    def __init__(self, step: int, checkpoint: int | None, file: epath.Path):
        last = "there is no checkpoint yet" if checkpoint is None else f"the last checkpoint is of step {checkpoint}"
        super().__init__(
            f"the loss of step {step}, or its gradient, is not finite; {last}, and {file} names the step's examples. "
            "The same command would only repeat it: a lower optimizer.peak_rate or optimizer.clip_norm may help"
        )
        self.step = step


def stop_at(step: int, run: Training, workdir: epath.Path, checkpoint: int | None) -> NonFiniteLoss:
    """Writes the names of a step's examples to `non_finite_step_<step>.txt`, one a line, and gives what to raise.

    They are computed once more: the data stream is a function of (seed, step).

    Args:
      step: the step, counted from 1 as in the metrics.
      run: the training under way.
      workdir: where the file goes.
      checkpoint: the newest checkpoint's step, if there is one.
    """
    file = workdir / f"non_finite_step_{step}.txt"
    together(partial(_write_examples, step, run, workdir, file))
    return NonFiniteLoss(step, checkpoint, file)


def _write_examples(step: int, run: Training, workdir: epath.Path, file: epath.Path) -> None:
    if jax.process_index():
        return
    with closing(run.batches(step - 1, alone=True)) as batches:
        indices = next(batches)["index"]
    with writing_to(workdir):
        names = "".join(f"{run.train_source.example_id(int(index))}\n" for index in indices)
        atomic_write(file, names.encode(errors="surrogateescape"))  # Files may have names that are no UTF-8.
