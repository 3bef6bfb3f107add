import json

import pytest

from posmlp_jax.analysis.curves import draw_curves, main, read_metrics
from posmlp_jax.errors import ConfigError, DataError


@pytest.fixture
def workdir(tmp_path):
    """A run of three logged steps, the second with a loss that is not finite, and one evaluation."""
    rows = [
        {"step": step, "split": "train", "loss": loss, "top1": 0.1 * step, "learning_rate": 0.01}
        for step, loss in ((1, 3.0), (2, None), (3, 1.0))
    ]
    rows.append({"step": 3, "split": "eval", "loss": 2.0, "top1": 0.25})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_lines_are_the_metrics(workdir):
    loss, top1, rate = draw_curves([workdir]).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 3], [3, 1]], [[3, 2]]]
    assert top1.get_lines()[1].get_xydata().tolist() == [[3, 25]]
    assert rate.get_lines()[0].get_xydata().tolist() == [[1, 0.01], [3, 0.01]]


def test_a_line_that_a_kill_cut(workdir, capsys):
    """At the end, or glued to the line that a run which went on wrote next: it is named, and the others are drawn."""
    file = workdir / "metrics.jsonl"
    rows, text = read_metrics(workdir), file.read_text()
    assert len(rows) == 4
    assert not capsys.readouterr().err
    first, rest = text.split("\n", 1)
    for cut in range(1, len(first)):
        file.write_text(text + first[:cut])
        assert read_metrics(workdir) == rows
    assert "metrics.jsonl: line 5 is not whole and is passed over" in capsys.readouterr().err
    file.write_text(f"{first}\n{first[:20]}{rest}")
    assert read_metrics(workdir) == [rows[0], *rows[2:]]
    assert "metrics.jsonl: line 2 is not whole and is passed over" in capsys.readouterr().err
    loss, *_ = draw_curves([workdir]).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 3], [3, 1]], [[3, 2]]]
    file.write_bytes(text.encode() + b"\xff\xfe\x00\n")
    assert read_metrics(workdir) == rows
    file.write_bytes(b"")
    assert read_metrics(workdir) == []


def test_the_program_writes_a_picture(workdir, capsys):
    main([str(workdir), f"--output={workdir}/new/curves.png"])
    assert (workdir / "new/curves.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote" in capsys.readouterr().out


def test_mistakes(workdir, tmp_path):
    with pytest.raises(ConfigError, match="the ending should be one of"):
        main([str(workdir), "--output=curves.txt"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        main([str(workdir), f"--output={tmp_path}/file/curves.png"])
    with pytest.raises(DataError, match=r"has no metrics\.jsonl"):
        main([str(tmp_path / "nothing")])
