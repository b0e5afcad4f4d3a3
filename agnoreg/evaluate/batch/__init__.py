"""Many pairs: a CSV in, a table out, one row a pair.

- `table_in`: the CSV.
- `rows`: finished rows on disk, each in a file of its own, and what an earlier run left behind.
- `work`: one pair, wherever it is computed.
- `here`, `cluster`: where pairs are computed: a few in this process, many by the processes of a cluster.
- `table_out`: the table. `pages`: a page for each pair, and one of all.
- `figures`: the figures over all pairs.
- `run`: all of them in order.
- `checks`: a try, without computing.
"""

from agnoreg.evaluate.batch.checks import check_pairs
from agnoreg.evaluate.batch.run import Summary, evaluate_pairs
from agnoreg.evaluate.batch.table_in import Pair, read_pairs

__all__ = ["Pair", "Summary", "check_pairs", "evaluate_pairs", "read_pairs"]
