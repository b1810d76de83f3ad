"""What `dvc exp run -S` would train again is told without running or writing anything."""

from pathlib import Path

import pytest
import small

from xraylab.errors import ParamsError
from xraylab.studies import dry_run

ALL = "baseline/0, l2/0, dropout/0, sharpness/0, contrast/0"


@pytest.mark.parametrize(
    ("override", "changes", "stages", "trained"),
    [
        ("model.dropout=0.3", "model.dropout", "configure", "baseline/0, l2/0, sharpness/0, contrast/0"),
        ("++experiments.l2.loss.l2=0.1", "experiments.l2.loss.l2", "configure, evaluate", "l2/0"),
        ("+experiments.new.model.dropout=0.1", "experiments.new.model.dropout", "configure, evaluate", "new/0"),
        ("study.repeats=[0,1]", "study.repeats", "configure, evaluate, explain", ALL.replace("/0", "/1")),
        ("split.seed=1", "split.seed", "split", ALL),
        ("split.folds=3", "split.folds", "split", "nothing"),
        ("train.decay_epochs=3", "train.decay_epochs", "configure", "nothing"),
        ("data.demo.n_tb=41", "data.demo.n_tb", "source", ALL),
        ("data.uncertain=positive", "data.uncertain", "train", ALL),
        ("evaluate.confidence=0.9", "evaluate.confidence", "evaluate", "nothing"),
        ("report.hide_names=true", "report.hide_names", "report", "nothing"),
        ("train.epochs=2", "nothing", "none", "nothing"),
    ],
)
def test_what_a_value_would_run_again(override: str, changes: str, stages: str, trained: str, tmp_path: Path) -> None:
    study = small.study(tmp_path)
    before = (study / "params.yaml").read_bytes()
    assert dry_run.lines(study, [override]) == [
        f"changes: {changes}",
        f"stages that read it: {stages}",
        f"trained again: {trained}",
    ]
    assert (study / "params.yaml").read_bytes() == before


def test_a_value_that_would_be_refused_is_refused_before_it_is_written(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    before = (study / "params.yaml").read_bytes()
    with pytest.raises(
        ParamsError, match=r"params\.yaml cannot be used:\n  - train\.lr: input should be greater than 0"
    ):
        dry_run.lines(study, ["train.lr=-1"])
    with pytest.raises(ParamsError, match=r"-S split\.files\.x=1: Could not override"):
        dry_run.lines(study, ["split.files.x=1"])
    assert (study / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.clip=1", r"unknown key train\.clip; did you mean train\.grad_clip\?"),
        ("train.lrr=1", r"unknown key train\.lrr; did you mean train\.lr\?"),
        ("model.freeze.untl=head", r"unknown key model\.freeze\.untl; did you mean model\.freeze\.until\?"),
        ("trian.lr=1", r"unknown key trian; did you mean train\?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=hint):
        dry_run.lines(small.study(tmp_path), [override])


def test_a_key_with_a_free_name_is_left_to_dvc(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    said = dry_run.lines(study, ["+evaluate.goals.at_least.accuracy=0.9"])
    assert said[0].endswith(", evaluate.goals.at_least.accuracy")
    with pytest.raises(ParamsError, match=r"Could not override 'evaluate\.goals\.at_least\.f1'"):
        dry_run.lines(study, ["evaluate.goals.at_least.f1=0.9"])
