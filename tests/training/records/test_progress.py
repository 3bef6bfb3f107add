"""What a run shows while it works."""

import contextlib
import json

from posmlp_jax.training.records.metrics import EvaluationProgress, MetricsWriter


def test_a_long_evaluation_says_how_far_it_is_where_there_is_no_terminal(capsys):
    lines = []
    progress = EvaluationProgress(10, "images", lines.append, seconds=0)
    progress.advance(4)
    progress.advance(4)
    progress.advance(4)  # The last batch is filled up.
    progress.close()
    assert [line.partition(",")[0] for line in lines] == [
        "evaluated 4 of 10 images",
        "evaluated 8 of 10 images",
        "evaluated 10 of 10 images",
    ]
    assert all(line.endswith(" images/s") for line in lines)
    assert capsys.readouterr() == ("", "")


def test_a_short_evaluation_says_nothing():
    lines = []
    progress = EvaluationProgress(10, "images", lines.append)
    progress.advance(10)
    assert lines == []


def test_lines_that_a_crash_has_spoilt_are_dropped(tmp_path):
    """As a machine without power leaves them; `evaluated` tells whether step 4's evaluation is whole."""
    good = [{"step": 3, "split": "train", "loss": 1.0}, {"step": 4, "split": "train"}]
    evaluation = {"step": 4, "split": "eval", "loss": 2.0}
    bad = [
        b"\xff\xfe\x00",
        b'{"step": 4, "spl',
        b'{"step": "4", "split": "train',
        b'{"step": null, "split": "eval"}',
        b"7",
    ]
    content = b"\n".join([*bad, *(json.dumps(line).encode() for line in (*good, evaluation)), *bad])
    for evaluated in (True, False):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        with contextlib.closing(MetricsWriter(tmp_path, 4, evaluated)) as writer:
            writer.write(5, "train", {"loss": 0.5})
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert lines == [*good, *[evaluation] * evaluated, {"step": 5, "split": "train", "loss": 0.5}]
