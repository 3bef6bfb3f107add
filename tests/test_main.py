"""`python main.py` as a process, the way people call it; and that the package's programs start."""

import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
from runs import ROOT, TINY, run

import main

pytestmark = pytest.mark.heavy


def test_train_then_evaluate(tmp_path):
    # No shell makes a home folder of a ~ behind a =.
    trained = run(*TINY, "--workdir=~/run", fresh=True, HOME=str(tmp_path))
    assert trained.code == 0, trained.errors
    assert "everything is in ~/run" in trained.output
    assert not (ROOT / "~").exists()
    assert "test top-1: " in trained.output
    assert "step 3/3" in trained.output
    # As the last lines say, in which the run's own config says everything.
    command = "next: python main.py "
    (line,) = (line for line in trained.lines if line.startswith(command))
    again = shlex.split(line.removeprefix(command).split("  ")[0])
    evaluated = run(*again, "--config.eval_batch_size=5", fresh=True, HOME=str(tmp_path))
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
    ([*TINY, "--mode=eval"], "there is no checkpoint in"),
    (["--mode=eval"], "there is no checkpoint in"),
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
# Imports what `main.py` does once, and is it for each list of arguments: prints exit codes and errors.
EACH = """
import json, os, sys
import main
results = []
for arguments in json.load(sys.stdin):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        sys.argv = ["main.py", *arguments]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writer, 2)
        sys.exit(main.run())
    os.close(writer)
    with open(reader) as errors:
        text = errors.read()
    results.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text])
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """For each of the mistakes the exit code, the errors and the working directory."""
    folder = tmp_path_factory.mktemp("mistakes")
    workdirs = [folder / str(number) for number in range(len(MISTAKES))]
    runs = [
        [*arguments, *([] if "--workdri=x" in arguments else [f"--workdir={workdir}"])]
        for (arguments, _), workdir in zip(MISTAKES, workdirs, strict=True)
    ]
    command = [sys.executable, "-c", EACH]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(runs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    return [(*result, workdir) for result, workdir in zip(results, workdirs, strict=True)]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[message for _, message in MISTAKES])
def test_mistakes_are_one_line_and_exit_code_2(answers, number):
    code, errors, workdir = answers[number]
    assert code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")
    assert MISTAKES[number][1] in errors
    assert not workdir.exists()


def test_ctrl_c_before_the_first_step_is_one_line(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.app, "run", interrupt)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_programs_start_without_warnings():
    modules = ["convert", "predict", "export", "data.prepare", "preview"]
    modules += ["analysis.curves", "analysis.report", "models.cost", "zoo.pack"]
    python = [sys.executable, "-W", "error::RuntimeWarning", "-m"]
    started = {
        module: subprocess.Popen(
            [*python, f"posmlp_jax.{module}", "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for module in modules
    }
    for module, process in started.items():
        output, _ = process.communicate()
        # Absl's help ends with 1.
        assert process.returncode == (module in ("preview", "zoo.pack")), f"{module}: {output}"
        assert "Warning" not in output
