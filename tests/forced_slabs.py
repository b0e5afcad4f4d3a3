"""Cut images into slabs of four planes, whatever the backend's own size is."""

import math

from agnoreg.backend import Backend
from agnoreg.engine.evaluator import Run
from agnoreg.engine.streaming import PassingMeasure

PLANES = 4


def force(setattr=setattr):
    """Cut every image into slabs of four planes, by ``setattr`` (pytest's undoes it); kernels know no slabs."""
    setattr(Backend, "kernels", False)
    original = Run.__init__

    def init(self, measure, *arguments):
        original(self, measure, *arguments)
        passing = isinstance(measure, PassingMeasure)
        self.elements = PLANES * (measure.layout(self.shape).size if passing else math.prod(self.given[0].shape[2:]))

    setattr(Run, "__init__", init)
