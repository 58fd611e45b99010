"""Files of ENCODE for some cells, chosen from the metadata table of a batch download.

Columns are found by their names, since ENCODE has moved them. Cells, assays, targets and output
types must be equal to what is asked for, never only contain it, so H1 is not H1-hESC, blanks in
names do no harm, and "unfiltered alignments" are no alignments.
"""

from __future__ import annotations

import difflib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

# field -> names of its column, today's first; compared without case
COLUMNS = {
    "accession": ("File accession",),
    "format": ("File format", "File type"),
    "output": ("Output type",),
    "experiment": ("Experiment accession",),
    "assay": ("Assay", "Assay title", "Assay term name"),
    "biosample": ("Biosample term name",),
    "target": ("Experiment target",),
    "md5": ("md5sum",),
    "url": ("File download URL",),
    "assembly": ("File assembly", "Assembly"),
}
OPTIONAL = {
    "status": ("File Status", "File analysis status"),
    "replicates": ("Biological replicate(s)",),
    "treatments": ("Biosample treatments",),
    "modifications": ("Biosample genetic modifications methods",),
    "size": ("Size",),
}
FOUND = ["cell", "signal", "kind", "accession", "experiment", "replicates", "md5", "url", "size"]
ASSEMBLIES = {"hg19": "hg19", "hg38": "GRCh38", "GRCh38": "GRCh38", "mm10": "mm10"}
RNA = "RNA"
RNA_ASSAYS = ("polyA plus RNA-seq", "total RNA-seq", "RNA-seq")
DNASE_ASSAYS = ("DNase-seq",)
CHIP_ASSAYS = ("Histone ChIP-seq", "TF ChIP-seq", "ChIP-seq")
FORMS = ("alignments", "bigwig")
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Chosen:
    """What a table has for some cells.

    Attributes:
        files: columns `FOUND`, a row per file, ordered as asked for; replicates are rows.
        missing: (cell, signal) without a file.
        skipped: why other files were left out, with counts.
    """

    files: pd.DataFrame
    missing: tuple[tuple[str, str], ...]
    skipped: dict[str, int]


def read(path: str | Path) -> pd.DataFrame:
    """The table with columns named as `COLUMNS` and `OPTIONAL` (those that are there), as text.

    Returns:
        `attrs["where"]` is the file; the index is the line.

    Raises:
        InputError: columns missing, no row, file accessions twice, faulty md5 or URL; all at once.
    """
    try:
        raw = pd.read_csv(
            io.StringIO(read_text(path)), sep="\t", dtype=str, keep_default_na=False, quoting=3
        )
    except ValueError as err:
        raise InputError(path, f"is malformed ({err}); get the metadata table again") from err
    there = {name.strip().lower(): name for name in raw.columns}
    chosen, problems = {}, []
    for field, names in (COLUMNS | OPTIONAL).items():
        column = next((there[n.lower()] for n in names if n.lower() in there), None)
        if column is not None:
            chosen[field] = column
        elif field in COLUMNS:
            problems.append(
                f"has no column {names[0]!r}{_hint(names[0], list(raw.columns))}; give the "
                "metadata.tsv of an ENCODE batch download"
            )
    if raw.empty and not problems:
        problems.append("has no row; choose experiments and get it again")
    refuse(path, problems)
    table = raw[list(chosen.values())].set_axis(list(chosen), axis=1)
    table = table.apply(lambda column: column.str.strip().str.strip('"'))
    table.index = table.index + 2
    refuse(path, _faults(table))
    table.attrs["where"] = str(path)
    return table


def _faults(table: pd.DataFrame) -> list[str]:
    twice = table["accession"].duplicated()
    problems = [
        f"line {n}: file {table.at[n, 'accession']} is there before; keep one"
        for n in table.index[twice]
    ]
    rules = {
        "md5": (lambda x: bool(_HEX.fullmatch(x)), "is no md5 (32 hexadecimal digits)"),
        "url": (lambda x: re.match(r"https?://", x) is not None, "is no http(s) address"),
    }
    for field, (good, what) in rules.items():
        bad = table.index[~table[field].map(good)]
        problems += [
            f"line {n}: {COLUMNS[field][0]} {table.at[n, field]!r} {what}; get the table again"
            for n in bad
        ]
    return problems


def select(
    table: pd.DataFrame,
    cells: Mapping[str, str],
    signals: Sequence[str],
    assembly: str,
    form: str = "alignments",
    treated: bool = False,
) -> Chosen:
    """Files of some cells.

    Args:
        table: as `read` gives it.
        cells: our name of a cell -> its biosample term name, exactly as ENCODE writes it.
        signals: "RNA", "DNase", or the target of a ChIP experiment (CTCF, H3K27ac).
        assembly: hg19 or hg38. form: "alignments" (BAM), or "bigwig" (DNase: read-depth normalized
            signal; ChIP: fold change over control, pooled replicates where there are).
        treated: whether treated and genetically modified samples count.

    Raises:
        InputError: cells that the table does not have, a cell without RNA (if asked for), an
            unknown assembly or form; all at once.
    """
    where = table.attrs.get("where", "ENCODE table")
    _check_asked(table, where, cells, assembly, form)
    usable, skipped = _usable(table, treated)
    usable = usable[usable["assembly"] == ASSEMBLIES[assembly]]
    rows, missing = [], []
    for cell, name in cells.items():
        own = usable[usable["biosample"] == name]
        for signal in signals:
            found = _of_signal(own, signal, form)
            if found.empty:
                missing.append((cell, signal))
            for row in found.itertuples():
                told = {key: getattr(row, key, "") for key in FOUND[3:]}
                rows.append({"cell": cell, "signal": signal, "kind": _kind(signal, form)} | told)
    refuse(
        where,
        [
            f"cell {cell} ({cells[cell]}): no RNA-seq gene quantification of {assembly}; leave the "
            "cell out, or get the RNA-seq experiments too"
            for cell, signal in missing
            if signal == RNA
        ],
    )
    files = pd.DataFrame(rows, columns=FOUND)
    log.info(
        "%s: %d files of %d cells; missing: %s; left out: %s",
        *(where, len(files), len(cells), missing or "nothing", skipped or "nothing"),
    )
    return Chosen(files, tuple(missing), skipped)


def _check_asked(
    table: pd.DataFrame, where: str, cells: Mapping[str, str], assembly: str, form: str
) -> None:
    """Refuse cells that the table does not have, an unknown assembly or form."""
    names = sorted(set(table["biosample"]))
    problems = [
        f"cell {cell}: no biosample is called {name!r}{_hint(name, names)}; write it as there"
        for cell, name in cells.items()
        if name not in names
    ]
    if assembly not in ASSEMBLIES:
        problems.append(f"assembly {assembly!r}; choose one of {', '.join(ASSEMBLIES)}")
    if form not in FORMS:
        problems.append(f"form {form!r}; choose one of {', '.join(FORMS)}")
    refuse(where, problems)


def _usable(table: pd.DataFrame, treated: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows without those that are withdrawn or (unless asked for) of changed samples."""
    keep, skipped = pd.Series(True, index=table.index), {}
    rules = {"status": lambda x: x not in ("", "released")}
    if not treated:
        rules |= {"treatments": bool, "modifications": bool}
    for field, wrong in rules.items():
        if field in table:
            bad = table[field].map(wrong).astype(bool) & keep
            if bad.any():
                skipped[field] = int(bad.sum())
            keep &= ~bad
    return table[keep], skipped


def _of_signal(table: pd.DataFrame, signal: str, form: str) -> pd.DataFrame:
    """Rows of one signal of one cell."""
    if signal == RNA:
        assays, output, kind = RNA_ASSAYS, "gene quantifications", "tsv"
    else:
        assays = DNASE_ASSAYS if signal == "DNase" else CHIP_ASSAYS
        output, kind = "alignments", "bam"
        if form == "bigwig":
            output = "fold change over control"
            output = "read-depth normalized signal" if signal == "DNase" else output
            kind = "bigwig"
    rows = table[table["assay"].isin(assays) & (table["output"] == output)]
    rows = rows[rows["format"].str.lower() == kind]
    if signal not in (RNA, "DNase"):
        # older tables write CTCF-human
        rows = rows[rows["target"].str.replace(r"-(human|mouse)$", "", regex=True) == signal]
    if kind == "bigwig" and "replicates" in rows and len(rows):
        # a pooled file holds its replicates, which would count twice
        number = rows["replicates"].str.split(",").map(len)
        rows = rows[number == number.groupby(rows["experiment"]).transform("max")]
    return rows.sort_values(["experiment", "accession"])


def _kind(signal: str, form: str) -> str:
    """Kind of the file as `signal_counts.write_raw` takes it; "rsem" for expression."""
    if signal == RNA:
        return "rsem"
    if form == "alignments":
        return "bam"
    return "depth" if signal == "DNase" else "fold_change"


def _hint(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    close += [name for name in known if word and word in name and name not in close][:3]
    return f" (similar: {', '.join(map(repr, close))})" if close else ""
