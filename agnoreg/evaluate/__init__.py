"""The application: images from disk in, numbers out, for one pair or for many; the command is `agnoreg.evaluate.cli`.

Nothing else in agnoreg imports it.
"""

from agnoreg.evaluate.evaluation import evaluate_pair
from agnoreg.evaluate.records import Evaluation, Input, Record

__all__ = ["Evaluation", "Input", "Record", "evaluate_pair"]
