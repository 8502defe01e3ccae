"""The table of detectors. A new one is a class in a file here and a name in this table."""

from lab.castle.detection.base import Detector
from lab.castle.detection.distillation import CognitiveDistillation
from lab.castle.detection.fct import FCT
from lab.castle.detection.strip import Strip
from lab.variants import Registry

DETECTORS: Registry[Detector] = Registry("detector", CognitiveDistillation, Strip, FCT)

__all__ = ["DETECTORS", "FCT", "CognitiveDistillation", "Detector", "Strip"]
