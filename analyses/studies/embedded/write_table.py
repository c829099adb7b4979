"""Rewrite the table of results in this folder's README from the model's training record.

python analyses/studies/embedded/write_table.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
EMBEDDED = HERE.parents[2] / "transferstats" / "embedded"
BEGIN, END = "<!-- results: written by write_table.py -->", "<!-- end of results -->"


def table() -> str:
    """Markdown of what training.json and origin.json say."""
    record = json.loads((EMBEDDED / "model" / "training.json").read_text())
    origin = json.loads((EMBEDDED / "documents" / "origin.json").read_text())
    lines = [
        f"{record['parameters']:,} parameters, {record['training_tokens']:,} training tokens, "
        f"{record['tokens_per_second']:,} tokens/s, {record['wall_seconds'] / 60:.0f} minutes.",
        "",
        "| domain | units | clusters | held-out ce | unigram ce | difference | ce on shipped "
        "| ... past position 256 | passes over its text |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["domains"].items():
        share = row["training_tokens"] / (row["training_windows"] * (record["settings"]["window"] - 1))
        shipped = record["shipped_documents"][name]
        lines.append(
            f"| {name} | {origin[name]['units']} | {origin[name]['clusters']} "
            f"| {row['cross_entropy']:.3f} | {row['unigram_cross_entropy']:.3f} "
            f"| {row['difference']:.3f} | {shipped['cross_entropy']:.3f} "
            f"| {shipped['positions_beyond_window']:.3f} | {share:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Put the table between its two marks."""
    path = HERE / "README.md"
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError("README.md has lost the marks between which the table belongs")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    path.write_text(re.sub(pattern, f"{BEGIN}\n{table()}\n{END}", text, flags=re.S))


if __name__ == "__main__":
    main()
