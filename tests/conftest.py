"""Set-up that has to happen before anything imports jax."""

import gc
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

CACHE = Path(__file__).parent.parent / ".cache" / "jax"


def _wants_gpu() -> bool:
    """Whether the command line has `-m gpu`."""
    chosen = [value for option, value in itertools.pairwise(sys.argv) if option == "-m"]
    return any("gpu" in value and "not gpu" not in value for value in chosen)


# A suite that a shell started in the background ignores Ctrl-C, and so would the programs that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers of pytest-xdist inherit what the main process, whose command line this is, has set.
flags = [os.environ.get("XLA_FLAGS", "")]
if not _wants_gpu():
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # What tests compile runs for milliseconds, so XLA shall not optimise it: a gradient of a tiny PosMLP takes 1 s of
    # processor time to compile, not 7. The programs that tests start inherit it. Exceptions are `helpers.OPTIMIZED` and
    # `optimized_programs`; `JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test` compiles everything as users do.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and "xla_cpu_use_fusion_emitters" not in flags[0]:
        flags.append("--xla_cpu_use_fusion_emitters=false")
if "xla_force_host_platform_device_count" not in flags[0]:
    # Eight devices on one CPU: what is sharded is tested as on a machine with eight accelerators.
    flags.append("--xla_force_host_platform_device_count=8")
os.environ["XLA_FLAGS"] = " ".join(flags).strip()
# Tracing makes and forgets millions of small objects; Python's collector, with the rounds it makes after 700 of them,
# takes an eighth of the tests' time.
gc.set_threshold(50_000, 20, 50)
# Most of the tests' time is XLA's. Compiled functions are kept between runs, and shared by parallel workers; `rm -r
# .cache` is always safe. JAX's own threshold of one second would leave out nearly everything here.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# The shapes and types that these modules' signatures give are checked in every call while tests run, also in workers of
# pytest-xdist; `test_signatures.py` sees to it that none is missing. The programs that tests start run unchecked.
CHECKED = [
    "posmlp_jax.analysis.reach",
    "posmlp_jax.analysis.learned",
    "posmlp_jax.checkpoints.resizing",
    "posmlp_jax.data.augment.placement",
    "posmlp_jax.detection.anchors",
    "posmlp_jax.detection.boxes",
    "posmlp_jax.detection.losses",
    "posmlp_jax.detection.masks",
    "posmlp_jax.detection.matching",
    "posmlp_jax.detection.nms",
    "posmlp_jax.detection.roi_align",
    "posmlp_jax.detection.sampling",
    "posmlp_jax.gating",
    "posmlp_jax.gpus",
    "posmlp_jax.blocks",
    "posmlp_jax.downsampling",
    "posmlp_jax.fused_branch",
    "posmlp_jax.layers",
    "posmlp_jax.models.backbone",
    "posmlp_jax.models.detectors.action_detector",
    "posmlp_jax.models.detectors.detector",
    "posmlp_jax.models.detectors.fpn",
    "posmlp_jax.models.detectors.heads",
    "posmlp_jax.models.detectors.mask_rcnn",
    "posmlp_jax.models.detectors.retinanet",
    "posmlp_jax.models.posmlp_video",
    "posmlp_jax.models.stages",
    "posmlp_jax.normalization",
    "posmlp_jax.relations",
    "posmlp_jax.tasks.action_detection.frame_map",
    "posmlp_jax.tasks.action_detection.illustration",
    "posmlp_jax.tasks.action_detection.matching",
    "posmlp_jax.tasks.action_detection.objective",
    "posmlp_jax.tasks.action_detection.scoring",
    "posmlp_jax.tasks.action_detection.task",
    "posmlp_jax.tasks.action_detection.mismatches",
    "posmlp_jax.tasks.classification.classifier",
    "posmlp_jax.tasks.classification.losses",
    "posmlp_jax.tasks.classification.mixing",
    "posmlp_jax.tasks.classification.objective",
    "posmlp_jax.tasks.classification.task",
    "posmlp_jax.tasks.detection.illustration",
    "posmlp_jax.tasks.detection.losses",
    "posmlp_jax.tasks.detection.mask_rcnn_loss",
    "posmlp_jax.tasks.detection.object_masks",
    "posmlp_jax.tasks.detection.objective",
    "posmlp_jax.tasks.detection.pictures",
    "posmlp_jax.tasks.detection.results",
    "posmlp_jax.tasks.detection.retinanet_loss",
    "posmlp_jax.tasks.detection.task",
    "posmlp_jax.tasks.micro_expressions.scoring",
    "posmlp_jax.tasks.objective",
    "posmlp_jax.tasks.task",
    "posmlp_jax.training.step.step",
    "posmlp_jax.windows",
]
install_import_hook(CHECKED, "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests go first, so that no worker is left with one in the end."""
    longest = ("test_docs.py", "test_hosts.py")
    items.sort(key=lambda item: item.path.name not in longest)


def pytest_sessionfinish() -> None:
    """One round over everything, where pytest makes five to find what goes wrong when objects are forgotten."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def optimized_programs():
    """XLA compiles the programs that a test starts as it does for users."""
    import jax

    # This process's XLA reads the flags once, with the first devices: later tests in it need the eight of ours.
    jax.devices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
        patch.setenv("XLA_FLAGS", "")
        yield


@pytest.fixture(scope="session")
def bucket():
    """A bucket that every library finds, as an `epath.Path`; each test should use a folder of its own in it."""
    import buckets

    from posmlp_jax.paths import as_path

    with buckets.serve() as address:
        yield as_path(address)


@pytest.fixture(scope="session")
def torchvision():
    """The library; who asks for it can import what it consists of."""
    from helpers import torchvision

    return torchvision()


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A data_dir with digits in it. Not to be written to."""
    from posmlp_jax.data.prepare.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared")
    prepare("digits", data_dir=str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_config():
    """Makes a config that trains a two-stage PosMLP with BatchNorm on generated 16×16 images, 16 a step, in seconds."""

    from posmlp_jax.training import default_config

    def make(task="classification", **changes):
        config = default_config("posmlp_t", task)
        config.model.update(
            image_size=16,
            widths=(8, 16),
            depths=(1, 1),
            expansions=(2, 2),
            windows=(4, 2),
            groups=(2, 4),
            dropout=0.1,
            drop_path=0.2,
        )
        config.data.update(name="synthetic", num_examples=40, num_classes=5, crop="pad", threads=1)
        config.batch_size = 16
        config.length = "8 steps"
        config.optimizer.update(peak_rate=3e-3, warmup="2 steps", constant="1 steps")
        config.ema_decay = 0.9
        config.log_every = "1 steps"
        config.eval_every = "4 steps"
        config.checkpoint_every = "4 steps"
        config.devices = 1
        config.update_from_flattened_dict(changes)
        return config

    return make
