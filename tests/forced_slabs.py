"""Cut images into slabs of four planes, whatever the backend's own size is."""

import math

from agnoreg.backend import Backend
from agnoreg.engine.evaluator import Evaluator
from agnoreg.engine.streaming import StreamingMeasure

PLANES = 4


def force(setattr=setattr):
    """Cut every image into slabs of four planes, by ``setattr`` (pytest's undoes it); kernels know no slabs."""
    setattr(Backend, "kernels", False)
    original = Evaluator.__init__

    def init(self, measure, *arguments):
        original(self, measure, *arguments)
        passing = isinstance(measure, StreamingMeasure)
        self.elements = PLANES * (measure.layout(self.shape).size if passing else math.prod(self.given[0].shape[2:]))

    setattr(Evaluator, "__init__", init)
