"""What watches a figure watches one that is logged, and takes the better value for the better."""

from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.cli import ReduceLROnPlateau
from torch.optim import lr_scheduler as schedules

from lightning_seg.errors import ConfigError
from lightning_seg.launching.monitors import mode_problems, name_problems, plateau_problem
from tests.models.samples import make_batch
from tests.training import fit, make

FIGURES = ["val/loss", "val/mIoU", "val/ECE", "val/IoU/house"]


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (EarlyStopping("val/mIoU"), "EarlyStopping has mode min, but monitors val/mIoU, which is better the higher"),
        (EarlyStopping("val/loss", mode="max"), "which is better the lower: set mode: min"),
        (EarlyStopping("train/loss_sem_seg", mode="max"), "set mode: min"),
        (ModelCheckpoint(monitor="val/IoU/house"), "ModelCheckpoint has mode min, but monitors val/IoU/house"),
        (EarlyStopping("val/mIoU", mode="max"), None),
        (EarlyStopping("val/loss"), None),
        (EarlyStopping("val/ECE"), None),
        (EarlyStopping("val/ECE", mode="max"), "monitors val/ECE, which is better the lower: set mode: min"),
        (EarlyStopping("val/distance"), None),  # of the user's own callback
        (EarlyStopping("mine", mode="max"), None),
        (ModelCheckpoint(every_n_epochs=1), None),
    ],
)
def test_a_mode_that_contradicts_the_figure(callback: Any, says: str | None) -> None:
    found = mode_problems([callback], FIGURES)
    assert (says is None and found == []) or says in found[0]


def test_names_that_nothing_logs() -> None:
    assert (
        name_problems([EarlyStopping("val/miou")], FIGURES)[0].rpartition("; ")[2].startswith("did you mean val/mIoU")
    )
    assert name_problems([EarlyStopping("val/mIoU")], []) == [
        "trainer.callbacks: EarlyStopping monitors 'val/mIoU', which is never logged without a validation"
    ]
    assert name_problems([ModelCheckpoint(monitor="step", mode="max"), EarlyStopping("train/loss")], FIGURES) == []


@pytest.mark.parametrize(
    ("make_schedule", "figures", "says"),
    [
        (schedules.ReduceLROnPlateau, FIGURES, None),
        (lambda sgd: ReduceLROnPlateau(sgd, "val/mIoU", mode="max"), FIGURES, None),
        (schedules.ConstantLR, [], None),
        (lambda sgd: ReduceLROnPlateau(sgd, "val/mIoU"), FIGURES, "better the higher: set mode: max"),
        (
            lambda sgd: schedules.ReduceLROnPlateau(sgd, "max"),
            FIGURES,
            "mode max, but is stepped on val/loss, which is better the lower: set mode: min, or give "
            "pytorch_lightning.cli.ReduceLROnPlateau",
        ),
        (lambda sgd: ReduceLROnPlateau(sgd, "val/miou"), FIGURES, "no validation logs; did you mean val/mIoU"),
        (schedules.ReduceLROnPlateau, [], "after each validation, but there is none: give data.val"),
    ],
)
def test_a_plateau_of_a_figure_that_is_there(make_schedule: Any, figures: list[str], says: str | None) -> None:
    scheduler = make_schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
    found = plateau_problem(scheduler, figures)
    assert (found is None) if says is None else says in str(found)


def test_a_training_in_python_is_refused_too(tmp_path: Any) -> None:
    batches = [make_batch([(64, 64), (64, 64)])]
    with pytest.raises(ConfigError, match="set mode: max"):
        fit(make(), batches, tmp_path, callbacks=[EarlyStopping("val/mIoU")])
    with pytest.raises(ConfigError, match="'val/nothing', which no validation logs"):
        fit(make(lr_scheduler=lambda sgd: ReduceLROnPlateau(sgd, "val/nothing")), batches, tmp_path)
