"""Many pairs: what ``agnoreg evaluate --pairs`` runs. See `agnoreg.batch`."""

from agnoreg.batch.run import Summary, evaluate_pairs
from agnoreg.batch.table_in import Pair, read_pairs

__all__ = ["Pair", "Summary", "evaluate_pairs", "read_pairs"]
