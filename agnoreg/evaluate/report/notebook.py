"""How a notebook shows an evaluation: a plain table, without pictures and without any package."""

from html import escape

from agnoreg.evaluate.records import Evaluation, Record
from agnoreg.evaluate.report.verdicts import number, threshold_of, unit_text


def plain_table(evaluation: Evaluation) -> str:
    """Return an evaluation as a table of HTML, for `Evaluation._repr_html_`."""
    compared = any(record.before is not None for record in evaluation.records)
    labelled = any(record.label is not None for record in evaluation.records)
    heads = ["metric", *(["label"] if labelled else []), *(["before", "after"] if compared else ["value"])]
    head = "".join(f"<th>{name}</th>" for name in (*heads, "unit", "better", "threshold"))
    rows = "".join(f"<tr>{_cells(record, labelled, compared)}</tr>" for record in evaluation.records)
    warnings = "".join(f"<p>Warning: {escape(warning)}</p>" for warning in evaluation.warnings)
    fixed, moved = (escape(entry.path) for entry in evaluation.inputs[:2])
    caption = f"<caption>{moved} (moved) on {fixed} (fixed)</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{warnings}"


def _cells(record: Record, labelled: bool, compared: bool) -> str:
    threshold = threshold_of(record)
    label = "" if record.label is None else f"{record.label} {record.label_name}".strip()
    before = "" if record.before is None else number(record, record.before)
    texts = [
        record.title or record.metric,
        *([label] if labelled else []),
        *([before] if compared else []),
        number(record, record.value),
        unit_text(record.unit),
        record.direction,
        threshold.text if threshold else "",
    ]
    return "".join(f"<td>{escape(text)}</td>" for text in texts)
