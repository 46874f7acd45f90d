"""Calibration: what a checkpoint's linear layers see on the user's own pairs, and what each stored form costs there.

Reading a calibration needs numpy and safetensors; making one needs torch and transformers, imported by the modules that
compute. Nothing here knows of ONNX graphs: weights come through `weights.Weights`.
"""

from judo_edge.calibration.file import CalibrationFile, ErrorForm, LayerEntry, LinearEntry, Provenance
from judo_edge.calibration.reader import Calibration, LinearCalibration, Prefix, open_calibration

__all__ = [
    "Calibration",
    "CalibrationFile",
    "ErrorForm",
    "LayerEntry",
    "LinearCalibration",
    "LinearEntry",
    "Prefix",
    "Provenance",
    "open_calibration",
]
