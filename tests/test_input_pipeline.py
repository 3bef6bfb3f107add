"""What `benchmarks.input_pipeline` says of cores and configs; it measures nothing here."""

import pytest
from runs import ROOT

from benchmarks import input_pipeline
from posmlp_jax.errors import ConfigError


@pytest.mark.parametrize(("device_rate", "last"), [(None, "500"), (6410.0, "12.8")])
def test_it_counts_the_cores_that_a_device_needs(monkeypatch, capsys, device_rate, last):
    """By what threads make in a second of the processors' time, 500 images, whatever else the machine does."""
    seen = []

    def measure_loading(source, config, batch_size, seconds):
        seen.append((config.data.threads, config.data.processes, config.model.name))
        return 300.0, 500.0

    monkeypatch.setattr(input_pipeline, "measure_loading", measure_loading)
    variants = {"t": input_pipeline.read_config("configs/posmlp_t_384.py")}
    input_pipeline.print_end_to_end(None, variants, cores=4, batch_size=8, seconds=0, device_rate=device_rate)
    assert seen == [(1, 0, "posmlp_t_384"), (4, 0, "posmlp_t_384"), (0, 4, "posmlp_t_384")]
    head, *threads, processes = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == ("second" if device_rate is None else "cores")
    assert [line.split()[-1] for line in threads] == 2 * [last]
    assert processes.split() == ["processes:", "4,", "t", "300", "75"]


def test_it_reads_a_configs_own_images(monkeypatch, capsys, digits_dir):
    seen = []
    monkeypatch.setattr(input_pipeline, "measure_loading", lambda source, *rest: seen.append(len(source)) or (1.0, 1.0))
    input_pipeline.main(["--config=configs/digits.py", f"--data_dir={digits_dir}"])
    assert set(seen) == {1437}
    assert "configs/digits.py" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--data_dir goes with --config"):
        input_pipeline.main([f"--data_dir={digits_dir}"])


@pytest.mark.parametrize(
    ("path", "message"),
    [("configs/posmlp_x.py", "^there is no config file"), ("configs/video/ssv2_s16.py", "is for clips, which `python")],
)
def test_what_it_cannot_measure_is_one_line(path, message):
    with pytest.raises(ConfigError, match=message):
        input_pipeline.read_config(path)


@pytest.mark.parametrize("option", ["--device_rate=0", "--device_rate=-3", "--seconds=nan"])
def test_rates_and_times_are_positive(option):
    name, value = option.split("=")
    with pytest.raises(ConfigError, match=f"argument {name}: is {value}, and should be more than 0"):
        input_pipeline.main([option])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch_size=0"], "--batch_size=0 should be 1 or more"),
        (["--images=0"], "--images=0 should be 1 or more"),
        (["--model=posmlp_t", "--config=configs/posmlp_t.py"], "give it without --config"),
        (["--config=benchmarks/chips.py"], "benchmarks/chips.py is no config: it has no get_config"),
    ],
)
def test_mistakes(options, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=message):
        input_pipeline.main(options)


def test_a_detectors_images_have_objects(monkeypatch, capsys):
    seen = []

    def measure_loading(source, config, batch_size, seconds):
        image, objects = source[7]
        seen.append((len(image) > 10_000, len(objects.boxes), objects.size))
        return 1.0, 1.0

    monkeypatch.setattr(input_pipeline, "measure_loading", measure_loading)
    monkeypatch.chdir(ROOT)
    input_pipeline.main(["--config=configs/detection/digit_scenes.py", "--images=3"])
    assert seen == 3 * [(True, 7, (480, 640))]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 JPEGs of 640×480, ")
    assert [line.split("  ")[0] for line in lines[3:7]] == [
        "decode",
        "augment, into a canvas of 128×128",
        "boxes",
        "boxes and masks",
    ]
