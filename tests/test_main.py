"""`python main.py` as a process, the way people call it; and that the package's programs start."""

import shlex
import signal
import subprocess
import sys
import time

import pytest
from runs import ROOT, TINY, run

import main
from posmlp_jax.errors import ConfigError
from posmlp_jax.training.flags import parse_config_flags

pytestmark = pytest.mark.heavy


def test_train_then_evaluate(tmp_path):
    # No shell makes a home folder of a ~ behind a =.
    trained = run(*TINY, "--workdir=~/run", python="new", HOME=str(tmp_path))
    assert trained.code == 0, trained.errors
    assert "everything is in ~/run" in trained.output
    assert not (ROOT / "~").exists()
    assert "test top-1: " in trained.output
    assert "step 3/3" in trained.output
    # As the last lines say, in which the run's own config says everything.
    command = "next: python main.py "
    (line,) = (line for line in trained.lines if line.startswith(command))
    again = shlex.split(line.removeprefix(command).split("  ")[0])
    evaluated = run(*again, "--config.eval_batch_size=5", HOME=str(tmp_path))
    assert evaluated.code == 0, evaluated.errors
    top1 = trained.output.split("test top-1: ")[1].split()[0]
    assert f"evaluation of the weights: top-1 {top1} %" in evaluated.output
    assert "(40 images)" in evaluated.output
    refused = run(*again, "--config.optimizer.peak_rate=1", HOME=str(tmp_path))
    assert refused.code == 2
    assert refused.error_lines == [
        "error: optimizer.peak_rate is 1.0 here and 0.003 in the run in ~/run, and no evaluation reads it; "
        "leave --config.optimizer.peak_rate out"
    ]


@pytest.mark.parametrize("seconds", [0.7, 1.8])
def test_ctrl_c_while_modules_are_imported_ends_it(seconds, tmp_path):
    command = [sys.executable, "main.py", *TINY, f"--workdir={tmp_path}/run"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    # By the signal itself, or where a slow machine had come further, by us.
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in errors
    assert "ignored" not in errors


MISTAKES = [
    ([], "which config? for example --config=configs/digits.py"),
    (["--config=configs/digit.py"], "no config file 'configs/digit.py'; did you mean 'configs/digits.py'?"),
    ([*TINY, "--config.batch=3"], "unknown config field 'batch'; did you mean 'batch_size'?"),
    ([*TINY, "--config.batch_size=many"], "batch_size"),
    ([*TINY, "--config.model.name=posmlp"], "unknown model 'posmlp'; did you mean 'posmlp_"),
    ([*TINY, "--config.model.groups=(3,4)"], "stage 1: groups 3 do not divide the 16 mixed channels"),
    ([*TINY, "--mode=test"], "unknown mode 'test'"),
    (["--mode=evl"], "unknown mode 'evl'; did you mean 'eval'?"),
    ([*TINY, "--mode=eval"], "there is no checkpoint in"),
    (["--mode=eval"], "there is no checkpoint in"),
    ([*TINY, "--mode=leave_one_out"], "--mode=leave_one_out is for data of several people, as a config of"),
    ([*TINY, "--mode=eval", "--step=newest"], "--step is 'newest', and should be latest, best or a step"),
    ([*TINY, "--mode=eval", "--weights=mean"], "--weights is 'mean', and should be raw, ema or best"),
    ([*TINY, "--mode=eval", "--checkpoint=best"], "is --step=latest, best or a step, and not --checkpoint"),
    ([*TINY, "--step=3"], "--step and --weights are for --mode=eval"),
    ([*TINY, "--num_processes=2"], "need all of --coordinator_address, --num_processes and --process_id"),
    ([*TINY, "--workdri=x"], "workdri"),
    ([*TINY, "--config.data.name=image_folder", "--config.data.data_dir=s3://b/x"], "s3://b/x is of an unknown"),
    ([*TINY, "digits"], "unexpected argument 'digits'"),
    ([*TINY, "--config.data.name=image_folder", "--config.data.data_dir=/nowhere"], "/nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    mistaken = run(*arguments, *([] if "--workdri=x" in arguments else [f"--workdir={workdir}"]))
    assert mistaken.code == 2, mistaken.errors
    assert len(mistaken.errors.splitlines()) == 1, mistaken.errors
    assert mistaken.errors.startswith("error: ")
    assert message in mistaken.errors
    assert not workdir.exists()


def test_no_config_is_known_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^there is no config file 'configs/digits\.py'; none is there$"):
        parse_config_flags(["main.py", "--config=configs/digits.py"])


def test_ctrl_c_before_the_first_step_is_one_line(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.app, "run", interrupt)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_programs_start_without_warnings():
    """None by our imports, and none by those of libraries, which have happened in this Python before."""
    modules = ["convert", "predict", "export", "data.prepare", "preview"]
    modules += ["analysis.curves", "analysis.complexity", "analysis.report", "zoo", "zoo.pack"]
    for module in modules:
        program = run(f"posmlp_jax.{module}", "--help", program="-m", python="libraries")
        # Absl's help ends with 1.
        assert program.code == (module in ("preview", "zoo.pack")), f"{module}: {program.errors}"
        assert "usage" in program.output.lower() or "flags:" in program.output
        assert "Warning" not in program.output + program.errors
