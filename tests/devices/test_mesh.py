import shutil

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from runs import assert_equal, losses

from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.devices import mesh as sharding
from posmlp_jax.errors import ConfigError
from posmlp_jax.training import train
from posmlp_jax.training.experiment import open_training

pytestmark = pytest.mark.heavy

P = PartitionSpec


@pytest.mark.parametrize(
    ("shape", "fsdp", "wanted"),
    [
        ((512, 256), 1, P()),
        ((512, 256), 4, P("fsdp")),
        ((256, 512), 4, P(None, "fsdp")),
        ((256, 256), 4, P("fsdp")),
        ((3, 3, 512, 97), 8, P(None, None, "fsdp")),
        ((510, 256), 4, P(None, "fsdp")),
        ((511, 255), 2, P()),
        ((128, 127), 4, P()),  # 16256 elements: too few.
        ((2**14,), 8, P("fsdp")),
        ((), 8, P()),
    ],
)
def test_the_largest_divisible_axis_is_split(shape, fsdp, wanted):
    assert sharding.state_spec(shape, fsdp) == wanted


@pytest.mark.parametrize(("devices", "fsdp"), [(0, 1), (0, 4), (8, 8), (6, 3), (5, 1), (1, 1)])
def test_a_mesh_has_the_first_devices_in_their_order(devices, fsdp):
    mesh = sharding.create_mesh(devices, fsdp)
    first = np.array(jax.devices()[: devices or None])
    np.testing.assert_array_equal(mesh.devices, first.reshape(-1, fsdp))
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("refusal", [NotImplementedError("no assignment"), AssertionError([1, 2, 3])])
def test_a_mesh_that_does_not_fit_on_a_tpus_torus_is_an_error_in_a_line(monkeypatch, refusal):
    def refuse(*arguments, **options):
        raise refusal

    monkeypatch.setattr(jax, "make_mesh", refuse)
    with pytest.raises(ConfigError, match=r"no way to lay 4 × 2 devices \(data × fsdp\)"):
        sharding.create_mesh(8, 2)


@pytest.fixture
def sharded(monkeypatch):
    """The tiny model has only small arrays."""
    monkeypatch.setattr(sharding, "MIN_SHARDED", 64)


def test_parameters_average_and_optimizer_state_are_split_alike(tiny_config, sharded):
    run = open_training(tiny_config(devices=8, fsdp=4))
    assert run.mesh.shape == {"data": 2, "fsdp": 4}
    assert sharding.batch_sharding(run.mesh).spec == P(("data", "fsdp"))
    state = run.abstract_state()
    specs = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.sharding.spec
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    assert sum(spec != P() for spec in specs.values()) > 20
    parameters = {name.removeprefix("weights.params."): s for name, s in specs.items() if "weights.params." in name}
    for prefix in ("ema.params.", "optimizer.1.0.mu.", "optimizer.1.0.nu."):
        assert {name.removeprefix(prefix): s for name, s in specs.items() if name.startswith(prefix)} == parameters
    # The head is 16 × 5: 80 elements, split along the 16. Its bias is whole.
    assert parameters["head.kernel"] == P("fsdp")
    assert parameters["head.bias"] == P()
    assert specs["step"] == P()


@pytest.fixture(scope="module")
def trained(tiny_config, tmp_path_factory):
    """Plain data parallelism, and two meshes with `fsdp`: the working directories, by its size."""
    workdirs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "MIN_SHARDED", 64)
        for fsdp in (1, 4, 8):
            workdirs[fsdp] = tmp_path_factory.mktemp(f"fsdp{fsdp}")
            train(tiny_config(devices=8, fsdp=fsdp), workdirs[fsdp])
    return workdirs


@pytest.mark.parametrize("fsdp", [4, 8])
def test_losses_are_those_of_plain_data_parallelism(trained, fsdp):
    for split in ("train", "eval", "ema"):
        np.testing.assert_allclose(losses(trained[fsdp], split), losses(trained[1], split), rtol=1e-5)


def restored(config, workdir):
    run = open_training(config)
    checkpoints = Checkpoints(workdir)
    target = run.abstract_state()
    state = checkpoints.restore(checkpoints.latest_step(), target)
    checkpoints.close()
    assert sharding.shardings(state) == sharding.shardings(target)
    return state


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 2)])
@pytest.mark.parametrize("saved", [1, 4])
def test_a_run_of_eight_devices_restores_on_others(trained, tiny_config, sharded, devices, fsdp, saved):
    state = restored(tiny_config(devices=devices, fsdp=fsdp), trained[saved])
    assert state.weights.params["head"]["kernel"].sharding.num_devices == devices
    original = restored(tiny_config(devices=8, fsdp=saved), trained[saved])
    assert_equal(jax.device_get(state), jax.device_get(original))


def test_a_run_with_fsdp_goes_on_without(trained, tiny_config, tmp_path):
    workdir = shutil.copytree(trained[4], tmp_path / "run")
    for step in (8, 9):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    train(tiny_config(devices=2), workdir)  # From step 4.
    for split in ("train", "eval", "ema"):
        np.testing.assert_allclose(losses(workdir, split), losses(trained[1], split), rtol=1e-5)
