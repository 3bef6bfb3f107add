import json
import os
import re
import shutil
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import outputs
from PIL import Image
from runs import assert_equal, losses, metrics, saved_arrays, steps

from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.devices import memory
from posmlp_jax.errors import CheckpointError, ConfigError, DataError
from posmlp_jax.training import evaluate, evaluation, from_pretrained, loop, open_pretrained, train
from posmlp_jax.training.config import plain
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.stopping import Stopped

pytestmark = pytest.mark.heavy


def checkpoint(config, workdir):
    checkpoints = Checkpoints(workdir)
    state = checkpoints.restore(checkpoints.latest_step(), open_training(config).abstract_state())
    checkpoints.close()
    return jax.device_get(state)


@pytest.fixture(scope="module")
def trained(tiny_config, tmp_path_factory):
    """An unbroken run of nine steps: its config, its working directory and what it returned."""
    workdir = tmp_path_factory.mktemp("trained")
    return tiny_config(), workdir, train(tiny_config(), workdir)


def test_a_run_leaves_what_the_readme_promises(trained):
    config, workdir, results = trained
    assert json.loads((workdir / "config.json").read_text()) == json.loads(json.dumps(config.to_dict()))
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [4, 8, 9]
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    lines = metrics(workdir)
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(1, 10))
    assert [line["step"] for line in lines if line["split"] == "ema"] == [4, 9]  # 8 is as good as the last.
    last = {line["split"]: line for line in lines if line["step"] == 9}
    for split in ("eval", "ema"):
        assert last[split] == {"step": 9, "split": split, **results[split]}
        assert results[split]["count"] == 40
        assert results[split].keys() == {"loss", "top1", "balanced_accuracy", "count"}  # No top-5 of five classes.
    better = max(("eval", "ema"), key=lambda split: (results[split]["top1"], -results[split]["loss"]))
    (folder,) = (workdir / "evaluation").iterdir()
    assert folder.name == f"step9_{better}"
    rows = [row.split(",")[1:] for row in (folder / "confusion.csv").read_text().splitlines()[1:]]
    matrix = np.array(rows, int)
    assert matrix.sum() == 40
    assert np.trace(matrix) / 40 == results[better]["top1"]
    # 40 images are 8 of each of 5 classes.
    np.testing.assert_allclose(np.mean(np.diag(matrix) / 8), results[better]["balanced_accuracy"], rtol=1e-12)


def test_evaluation_repeats_the_last_one_of_training(trained, tmp_path):
    config, workdir, results = trained
    assert evaluate(config, workdir) == results
    assert evaluate(None, workdir) == results
    # What is evaluated beside other weights is what it is alone.
    assert evaluate(None, workdir, weights="ema", output=tmp_path) == {"ema": results["ema"]}


def test_an_evaluation_begins_to_read_before_it_is_due_and_reads_once(tiny_config, tmp_path, monkeypatch):
    read, lines, read_after = evaluation.eval_batches, [], []

    def eval_batches(*arguments, **options):
        read_after.append(lines[-1].partition("/")[0])
        return read(*arguments, **options)

    monkeypatch.setattr(loop, "report", lines.append)
    monkeypatch.setattr(evaluation, "eval_batches", eval_batches)
    monkeypatch.setattr(loop, "_AHEAD", 2)
    train(tiny_config(), tmp_path)
    # Those of steps 4 and 9, of the weights and of their average.
    assert read_after == ["step 2", "step 7"]


def test_other_evaluations_leave_the_runs_own_results_by_class(trained, tiny_config, tmp_path):
    _, workdir, _ = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (own,) = (copy / "evaluation").iterdir()
    before = {file.name: file.read_bytes() for file in own.iterdir()}
    evaluate(tiny_config(**{"data.num_examples": 24, "data.eval_crop": 0.5}), copy)
    (other,) = set((copy / "evaluation").iterdir()) - {own}
    assert re.fullmatch(r"step9_(eval|ema)_data_[0-9a-f]{8}_eval_crop=0.5", other.name)
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before


@pytest.mark.parametrize("broken", [["eval"], ["eval", "ema"]])
def test_weights_that_are_no_numbers_have_no_accuracy(trained, tmp_path, capsys, broken):
    config, workdir, results = trained
    state = checkpoint(config, workdir)
    nan = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), state.weights)
    checkpoints = Checkpoints(tmp_path, keep=1)
    named = open_training(config).named_model
    checkpoints.save(replace(state, weights=nan, ema=nan if "ema" in broken else state.ema), plain(config), named, None)
    checkpoints.close()
    if "ema" in broken:
        with pytest.raises(CheckpointError, match=rf"^step 9 of {tmp_path} cannot be evaluated, the loss is not a num"):
            evaluate(config, tmp_path)
        assert not (tmp_path / "evaluation").exists()
    else:
        found = evaluate(config, tmp_path)
        assert found["ema"] == results["ema"]
        np.testing.assert_equal(found["eval"], dict.fromkeys(results["eval"], np.nan) | {"count": 40})
        assert [path.name for path in (tmp_path / "evaluation").iterdir()] == ["step9_ema"]
    lines = capsys.readouterr().out.splitlines()
    assert "evaluation of the weights: the loss is not a number  (40 images)" in lines


@pytest.mark.parametrize("batch_size", [1, 7, 40, 64])
def test_evaluation_does_not_depend_on_the_batch_size(trained, tiny_config, batch_size):
    _, workdir, results = trained
    others = evaluate(tiny_config(eval_batch_size=batch_size), workdir)
    for split in results:
        assert others[split] == pytest.approx(results[split], rel=1e-6)


def test_a_finished_run_answers_again(trained, tiny_config):
    _, workdir, results = trained
    again = train(tiny_config(log_every="3 steps"), workdir)
    assert again == results


def test_a_stopped_run_goes_on_bit_by_bit(trained, tiny_config, tmp_path, monkeypatch):
    config, workdir, _ = trained
    lines = []

    def stop_after_step_6(line):
        lines.append(line)
        if line.startswith("step 6/9"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("posmlp_jax.training.loop.report", stop_after_step_6)
    with pytest.raises(Stopped, match="SIGTERM after step 6") as stopped:
        train(tiny_config(), tmp_path)
    assert stopped.value.exit_code == 143
    # What a killed run had written beyond its checkpoint, and the line it was writing.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "split": "train", "loss": 0.0}\n{"step": 8, "spl')
    # The number of loading threads is no part of the experiment.
    train(tiny_config(**{"data.threads": 3}), tmp_path)
    assert any(line.startswith("going on from step 6") for line in lines)
    assert not any(line.startswith("warning") for line in lines)
    assert_equal(checkpoint(config, tmp_path), checkpoint(config, workdir))
    assert metrics(tmp_path) == metrics(workdir)


@pytest.mark.parametrize("log_every", [1, 3])
def test_a_signal_ends_an_evaluation_between_two_batches(trained, tiny_config, tmp_path, monkeypatch, log_every):
    _, workdir, _ = trained
    asked = []

    class WithASignal(evaluation.Evaluator):
        def __call__(self, variants, stop):
            def ask():
                asked.append(variants.keys())
                # Before the second of the three batches.
                if len(asked) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return stop()

            return super().__call__(variants, ask)

    monkeypatch.setattr(loop, "Evaluator", WithASignal)
    # The line after the signal averages over steps before it, too.
    config = tiny_config(log_every=f"{log_every} steps")
    with pytest.raises(Stopped, match="SIGTERM after step 4"):
        train(config, tmp_path)
    monkeypatch.undo()
    assert asked == 2 * [{"eval", "ema"}]
    assert steps(tmp_path) == [4]
    # Nothing of it is on record, and the run that goes on begins with it.
    assert {line["split"] for line in metrics(tmp_path)} == {"train"}
    train(config, tmp_path)
    if log_every == 1:
        assert metrics(tmp_path) == metrics(workdir)
    else:
        assert [line for line in metrics(tmp_path) if line["split"] != "train"] == [
            line for line in metrics(workdir) if line["split"] != "train"
        ]
        each = losses(workdir)
        assert losses(tmp_path) == [float(np.mean(np.float32(each[start : start + 3]))) for start in (0, 3, 6)]


@pytest.mark.parametrize("what", [(loop.Evaluator, "__call__"), (evaluation, "eval_batches")], ids=["end", "begin"])
def test_an_evaluation_that_fails_loses_no_step(trained, tiny_config, tmp_path, monkeypatch, what):
    """However far it came, and though its batches are begun before it is due."""
    _, workdir, _ = trained

    def fail(*args, **options):
        raise DataError("cannot decode val/3.jpg")

    monkeypatch.setattr(*what, fail)
    with pytest.raises(DataError, match="cannot decode"):
        train(tiny_config(), tmp_path)
    monkeypatch.undo()
    assert steps(tmp_path) == [4]
    train(tiny_config(), tmp_path)
    assert metrics(tmp_path) == metrics(workdir)


def test_the_end_of_a_run_says_when_it_was_best(trained, tiny_config, tmp_path, capsys):
    _, workdir, _ = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    record = json.loads((copy / "evaluations.json").read_text())
    record["4"]["ema"]["top1"] = 0.8198
    (copy / "evaluations.json").write_text(json.dumps(record))
    train(tiny_config(), copy)
    # 4 steps of 16 images, of 40 an epoch.
    assert "best moving average: top-1 81.98 % at step 4 (epoch 1.6)" in capsys.readouterr().out


def test_a_run_that_began_before_averages_warmed_up_goes_on_bit_by_bit(tiny_config, tmp_path, capsys):
    unbroken, begun = tmp_path / "unbroken", tmp_path / "begun"
    train(tiny_config(ema_warmup=False), unbroken)
    # As the version before would have left it after four steps.
    shutil.copytree(unbroken, begun)
    for step in (8, 9):
        shutil.rmtree(begun / "checkpoints" / str(step))
    saved = json.loads((begun / "config.json").read_text())
    del saved["ema_warmup"], saved["ema_length"]
    (begun / "config.json").write_text(json.dumps(saved))
    (begun / "data.json").unlink()
    (begun / "evaluations.json").unlink()
    # And killed between the two lines of step 4's evaluation, which is therefore to be done again.
    log = (begun / "metrics.jsonl").read_text()
    (begun / "metrics.jsonl").write_text(log[: log.index('{"step": 4, "split": "ema"')])
    for known in (False, True):
        train(tiny_config(), begun)
        lines = capsys.readouterr().out.splitlines()
        no_record = f"there is no record of the data that {begun} began with; from now on it is today's"
        assert (no_record in lines) is not known
        assert json.loads((begun / "data.json").read_text()) == json.loads((unbroken / "data.json").read_text())
        assert "goes on as it began: ema_warmup=False" in "".join(lines)
        assert (
            "warning: at the end 39 % of the moving average will still be its random start (0.9 to the power of 9 "
            "steps); in another working directory, --config.ema_warmup=True lets it forget"
        ) in lines
    assert_equal(saved_arrays(begun, 9), saved_arrays(unbroken, 9))
    assert metrics(begun) == metrics(unbroken)


@pytest.fixture
def photos(tmp_path):
    """A folder of five classes, which has as many images for training as `tiny_config` generates."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in "abcde":
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8))
                image.save(tmp_path / "photos" / split / name / f"{index}.jpg")
    return tmp_path / "photos"


def test_a_broken_test_image_is_found_before_the_first_step(tiny_config, photos, tmp_path):
    for name in "bd":
        file = photos / "val" / name / "1.jpg"
        file.write_bytes(file.read_bytes()[:-100])
    config = tiny_config(**{"data.name": "image_folder", "data.data_dir": str(photos)})
    with pytest.raises(DataError, match=r"^2 of the 15 evaluation images cannot be decoded") as error:
        train(config, tmp_path / "run")
    assert all(f"val/{name}/1.jpg: " in str(error.value) for name in "bd")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_data_that_it_began_with(tiny_config, photos, tmp_path, monkeypatch, capsys):
    def run(**changes):
        config = tiny_config(**{"data.name": "image_folder", "data.data_dir": str(photos)} | changes)
        return train(config, tmp_path / "run")

    def stop(line):
        if line.startswith("step 2/9"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "report", stop)
    with pytest.raises(Stopped):
        run()
    monkeypatch.undo()
    # Elsewhere they are the same data.
    photos = photos.rename(tmp_path / "moved")
    (photos / "train" / "c" / "new.jpg").write_bytes((photos / "train" / "c" / "0.jpg").read_bytes())
    (photos / "val" / "a" / "0.jpg").unlink()
    what = "training data: 40 examples -> 41, 'c' 8 -> 9; evaluation data: 15 examples -> 14, 'a' 3 -> 2"
    before = (tmp_path / "run" / "data.json").read_text()
    with pytest.raises(CheckpointError, match=rf"began with other data: {what}; put .* --config\.accept"):
        run()
    assert (tmp_path / "run" / "data.json").read_text() == before
    # What was not there at the beginning is looked at as well.
    broken = photos / "val" / "b" / "0.jpg"
    image = broken.read_bytes()
    broken.write_bytes(image[:-100])
    with pytest.raises(DataError, match=r"^1 of the 14 evaluation images"):
        run(accept_changed_data=True)
    broken.write_bytes(image)
    run(accept_changed_data=True)
    assert "going on with other training data: 40 examples -> 41, 'c' 8 -> 9" in capsys.readouterr().out
    # From now on these are the run's.
    run()
    capsys.readouterr()
    evaluate(None, tmp_path / "run")
    assert "not what the run was evaluated on" not in capsys.readouterr().out
    broken.unlink()
    evaluate(None, tmp_path / "run")
    assert (
        "not what the run was evaluated on: evaluation data: 14 examples -> 13, 'b' 3 -> 2; what is new here may have "
        "been trained on"
    ) in capsys.readouterr().out


def test_one_and_eight_devices_have_the_same_losses(trained, tiny_config, tmp_path):
    _, workdir, _ = trained
    train(tiny_config(devices=8), tmp_path)
    one, eight = metrics(workdir), metrics(tmp_path)
    for split in ("train", "eval"):
        losses = [[line["loss"] for line in lines if line["split"] == split] for lines in (one, eight)]
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_from_pretrained_gives_the_trained_network(trained):
    config, workdir, _ = trained
    state = checkpoint(config, workdir)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    bind = open_training(config).bind
    for which, weights in (("ema", state.ema), ("raw", state.weights)):
        model = from_pretrained(workdir, weights=which)
        assert_equal(outputs(model, images), outputs(bind(jax.device_put(weights)), images))
    assert open_pretrained(workdir).class_names is None
    assert model.config.num_classes == 5


def test_another_experiment_in_the_workdir_is_refused(trained, tiny_config):
    _, workdir, _ = trained
    with pytest.raises(CheckpointError, match=r"holds a different experiment \(label_smoothing: 0.1 -> 0.2\)"):
        train(tiny_config(label_smoothing=0.2), workdir)


@pytest.mark.parametrize(
    ("field", "value", "differing"),
    [
        ("gate", "add", "gate 'multiply' there, 'add' here"),  # Of the same parameters.
        ("num_classes", 6, "num_classes 5 there, 6 here"),
    ],
)
def test_a_run_does_not_go_on_as_another_model(trained, tiny_config, tmp_path, field, value, differing):
    _, workdir, _ = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    config = tiny_config(**{f"model.{field}": value})
    (copy / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(CheckpointError, match=f"checkpoints/9 is of another architecture: {differing}$"):
        train(config, copy)


def test_a_target_of_other_shapes_is_refused_by_its_parameters(trained, tiny_config):
    _, workdir, _ = trained
    target = open_training(tiny_config(**{"model.num_classes": 6})).abstract_state()
    with pytest.raises(
        CheckpointError, match=r"another architecture, 2 parameters differ: head.bias \(5,\) there"
    ) as error:
        Checkpoints(workdir).restore(9, target)
    assert "head.kernel (16, 5) there, (16, 6) here" in str(error.value)


def test_evaluating_what_was_never_trained(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*; name the folder of a run"):
        evaluate(tiny_config(), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_the_best_of_a_run_that_kept_none(trained):
    config, workdir, _ = trained
    assert not Checkpoints(workdir).is_best(9)
    with pytest.raises(CheckpointError, match="no best checkpoint: it was trained with keep_best=''"):
        evaluate(config, workdir, "best")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model.name": "posmlp_x"}, ConfigError, "unknown model 'posmlp_x'; did you mean 'posmlp_s'|'posmlp_.'?"),
        ({"model.groups": (3, 4)}, ConfigError, "stage 1: groups 3 do not divide the 8 mixed channels.*1, 2, 4, 8"),
        ({"model.depth": 3}, ConfigError, "unknown field 'depth' of PosMLPConfig; did you mean 'depths'?"),
        ({"batch_size": 0}, ConfigError, "batch_size is 0, and should be 1 or more"),
        ({"seed": -1}, ConfigError, "seed is -1, and should be 0 or more"),
        ({"accumulate": 3}, ConfigError, "accumulate 3 does not divide batch_size 16"),
        ({"devices": 8, "batch_size": 12}, ConfigError, "^batch_size 12 cannot be shared equally by 8 devices; 8"),
        ({"devices": 8, "eval_batch_size": 12}, ConfigError, "^eval_batch_size 12 cannot be shared equally by 8"),
        ({"devices": 99}, ConfigError, "devices is 99, but JAX sees only 8"),
        ({"devices": 6, "fsdp": 4}, ConfigError, r"fsdp 4 does not divide the 6 devices; \[1, 2, 3, 6\] would"),
        ({"fsdp": 0}, ConfigError, r"fsdp is 0, and should be 1 \(off\) or more"),
        ({"keep_best": "top1"}, ConfigError, r"keep_best is top1, and should be '' \(off\) or one of eval/top1, "),
        ({"keep_best": "ema/top1", "ema_decay": 0.0}, ConfigError, "ema_decay is 0: there is no moving average"),
        ({"model.image_size": 2**20}, ConfigError, r"4 batches of 16 × 1048576×1048576 pixels .* need 1.97e\+05 GiB"),
        ({"eval_batch_size": 10**9}, ConfigError, r"\(eval_batch_size, data.threads\) need"),
        ({"model.dtype": "float64"}, ConfigError, "unless the environment has JAX_ENABLE_X64=1"),
        ({"data.num_examples": 0}, DataError, "no image to train on: 0 generated images"),
        ({"length": "1e400 epochs"}, ConfigError, "'1e400 epochs' is more than 2147483647 steps"),
        ({"length": "0.1 steps"}, ConfigError, "less than one step"),
        ({"profile": "10:12"}, ConfigError, "profile is '10:12', but the run has 9 steps"),
        ({"keep_best": "eval/top5"}, ConfigError, "keep_best is eval/top5, but of 5 classes there is no top-5"),
        ({"optimizer.warmup": "8 steps"}, ConfigError, "should be shorter than the run's 8"),
        ({"data.name": "imagenet2012"}, DataError, "python -m posmlp_jax.data.prepare imagenet2012 --source="),
        ({"model.num_classes": 3, "data.name": "digits"}, ConfigError, "has 10 classes"),
        (
            {"model.name": "retinanet_posmlp_t", "data.name": "digits"},
            ConfigError,
            "'retinanet_posmlp_t' is a detector",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tiny_config, tmp_path, monkeypatch, changes, error, message):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    if changes.get("data.name") == "digits":
        changes = changes | {"data.eval_split": "test"}
    with pytest.raises(error, match=message) as raised:
        train(tiny_config(**changes), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_step_that_does_not_fit_is_refused_before_anything_is_written(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda mesh: 1000)
    with pytest.raises(ConfigError, match=r"a training step needs .* GiB of memory on each device, which has"):
        train(tiny_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 768. GiB"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: allocating 768. GiB")],
)
def test_what_runs_out_of_memory_is_a_mistake_of_the_user(error):
    message = r"there is not enough memory \(.*768. GiB\); a smaller batch_size"
    with pytest.raises(ConfigError, match=message), memory.out_of_memory():
        raise error
    other = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"), memory.out_of_memory():
        raise other


def test_an_unwritable_workdir(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write to the working directory"):
        train(tiny_config(), tmp_path / "file" / "run")
