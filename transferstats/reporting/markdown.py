"""The report as Markdown: verdicts, sentences, tables and links to figures, for repositories and notebooks."""

from __future__ import annotations

from transferstats.reporting.renderers import escape_markdown
from transferstats.reporting.study import Study
from transferstats.reporting.tables import Table

MOST_ROWS = 40
"""Longer tables are linked rather than printed."""


def document(study: Study) -> str:
    """The whole report as Markdown text."""
    told = study.content
    lines = [f"# {escape_markdown(told.title)}", "", escape_markdown(told.lead), ""]
    lines += ["## Verdicts", "", *_tables(study, "verdicts"), *_figures(study, "verdicts")]
    lines += ["## In sentences", ""]
    lines += [f"- {escape_markdown(text)}" for text in told.sentences]
    for chapter in told.chapters:
        body = [*_figures(study, chapter.anchor), *_tables(study, chapter.anchor)]
        lines += ["", f"## {chapter.heading}", "", chapter.introduction, "", *(body or [chapter.absent])]
    lines += ["", "## Design and estimand", ""]
    lines += [f"- **{escape_markdown(term)}**: {escape_markdown(text)}" for term, text in told.design]
    lines += ["", "## What these data cannot show", ""]
    lines += [f"- {escape_markdown(text)}" for text in told.limits]
    lines += ["", "Provenance and the sha256 of every file: [manifest.json](manifest.json). Methods: "]
    lines += ["[references.bib](references.bib).", ""]
    return "\n".join(lines)


def _figures(study: Study, section: str) -> list[str]:
    lines = []
    for one in study.drawn:
        picture = one.picture
        if picture.section == section:
            lines += [f"![{escape_markdown(picture.alt)}](figures/{picture.name}.svg)", ""]
            data = f"[Data](tables/figure-{picture.name}.csv)"
            lines += [f"*{escape_markdown(picture.title)}.* {escape_markdown(picture.caption)} {data}", ""]
    return lines


def _tables(study: Study, section: str) -> list[str]:
    lines = []
    for belongs, shown in study.tables:
        if belongs == section:
            lines += [_table(shown), f"[CSV](tables/{shown.name}.csv)", ""]
    return lines


def _table(shown: Table) -> str:
    if len(shown.rows) <= MOST_ROWS:
        return shown.markdown()
    return f"**{escape_markdown(shown.title)}** ({len(shown.rows)} rows, in the CSV)\n"
