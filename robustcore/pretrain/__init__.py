"""``python -m robustcore.pretrain``: small encoders from nothing, so that studies run where there are no weights."""

from robustcore.pretrain.clip import DIGITS, Pretraining, measured, pretrain
from robustcore.pretrain.command import main
from robustcore.pretrain.simclr import DIGITS_SIMCLR, SimClrPretraining, measured_by_probe, pretrain_simclr

__all__ = [
    "DIGITS",
    "DIGITS_SIMCLR",
    "Pretraining",
    "SimClrPretraining",
    "main",
    "measured",
    "measured_by_probe",
    "pretrain",
    "pretrain_simclr",
]
