"""The half of the LightningModule that evaluates: it counts the predictions of batches and logs a split's figures."""

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.launching.monitors import step_on_plateau
from lightning_seg.metrics import Evaluation, Report
from lightning_seg.models.segmentor import total_loss
from lightning_seg.predicting import PredictingModule
from lightning_seg.structures import Batch


class EvaluatingModule(PredictingModule):
    """Validates and tests in the same way; a subclass trains.

    Attributes:
        evaluation: counts the images; set by the subclass.
        report: the figures of the last evaluation that ended.
    """

    evaluation: Evaluation

    def __init__(self) -> None:
        super().__init__()
        self.report: Report | None = None
        self._has_weights = False
        self._figures: dict[str, Tensor] = {}

    def figures(self, split: str) -> list[str]:
        """Names of what an evaluation logs."""
        return [f"{split}/{name}" for name in self.evaluation.figure_names()]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation()

    def on_validation_epoch_end(self) -> None:
        self._log_report("val")
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            step_on_plateau(self.trainer, self._figures)

    def on_test_epoch_end(self) -> None:
        self._log_report("test")

    def _evaluation_step(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Count one batch; callbacks find the label maps under ``predictions``."""
        if not batch:  # this process has no sample, but joins the others
            return {"predictions": []}
        predictions, losses = self._predict(batch)
        for sample, prediction, parts in zip(batch, predictions, losses, strict=True):
            loss = total_loss(parts) if parts else None
            self.evaluation.update(prediction, sample["truth"], sample.get("position"), loss)
        return {"predictions": predictions}

    def _start_evaluation(self) -> None:
        if not self._has_weights and self.trainer.state.fn != TrainerFn.FITTING:  # as BatchSizeFinder does first
            command = TrainerFn(self.trainer.state.fn).value
            raise ConfigError(f"{command} would use random weights: give --ckpt_path or --model.weights")
        self.evaluation.reset()

    def _log_report(self, split: str) -> None:
        """Log what all processes counted together; every process has the same figures after ``compute``."""
        self.report = self.evaluation.report(split)
        # As float64, so that a log says the same as metrics.json to the last digit.
        self._figures = {
            f"{split}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.report.logged.items()
        }
        for name, figure in self._figures.items():
            self.log(name, figure, prog_bar=name == f"{split}/mIoU")
