"""What a run shows while it works."""

from posmlp_jax.training.metrics import EvaluationProgress


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
