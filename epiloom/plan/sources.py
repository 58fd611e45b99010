"""Where every input comes from: the table of public addresses, local replacements, places on disk.

Nothing here touches the network. The table `config/sources.tsv` holds one row per input and genome
assembly; `resolve` turns a row into the addresses, checks and path that a download rule needs.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from epiloom.plan.errors import InputError

TABLE = "config/sources.tsv"
COLUMNS = (
    "key",
    "assembly",
    "url",
    "mirrors",
    "bytes",
    "checksum",
    "format",
    "licence",
    "used_for",
)
FORMATS = (
    *("auto", "bam", "bigwig", "2bit", "binary", "bzip2", "fasta-gzip", "gzip"),
    *("hdf5", "html", "json", "text", "tsv", "zip"),
)
FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
VALUE = re.compile(r"[A-Za-z0-9_.+-]+")
CHECKSUM = re.compile(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|list:https?://\S+|encode)?")
ENDINGS = (
    *((end, "fasta-gzip") for end in (".fasta.gz", ".fa.gz", ".fna.gz")),
    *((end, "bigwig") for end in (".bigwig", ".bw")),
    *((end, "text") for end in (".bed", ".txt", ".csv", ".gtf", ".fa", ".fasta")),
    *((".gz", "gzip"), (".bgz", "gzip"), (".bz2", "bzip2"), (".bam", "bam"), (".2bit", "2bit")),
    *((".tsv", "tsv"), (".json", "json"), (".zip", "zip"), (".npz", "zip"), (".xlsx", "zip")),
    *((".h5", "hdf5"), (".hdf5", "hdf5")),
)


@dataclass(frozen=True)
class Row:
    """One line of the table; `url`, `mirrors` and `checksum` may hold fields such as `{cell}`."""

    key: str
    assembly: str
    url: str
    mirrors: tuple[str, ...]
    bytes: int | None
    checksum: str
    format: str
    licence: str
    used_for: str


@dataclass(frozen=True)
class Source:
    """One file to have: addresses in the order to try, what it must be, and where it is kept.

    `bytes` and `checksum` are None and "" when unknown or not applicable (local file, mirror with
    other content). `local` is the replacement given by the user, if any. `path` is relative to the
    working directory.
    """

    key: str
    url: str
    mirrors: tuple[str, ...]
    bytes: int | None
    checksum: str
    format: str
    licence: str
    used_for: str
    path: str
    local: str | None = None

    @property
    def urls(self) -> list[str]:
        """All addresses, the first choice first; a replacement by the user stands alone."""
        return [self.local] if self.local else [self.url, *self.mirrors]


def catalogue(root: str | Path) -> list[Row]:
    """Read `config/sources.tsv` below the project folder `root`.

    Raises:
        InputError: the table is missing or malformed; every bad line is named.
    """
    path = Path(root) / TABLE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in file if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}): restore the file") from error
    table = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not table or tuple(table[0]) != COLUMNS:
        raise InputError(path, f"the first line must be the columns {' '.join(COLUMNS)}")
    rows, problems = [], []
    for number, cells in enumerate(table[1:], start=2):
        wrong = _problems(cells)
        problems += [f"row {number} ({cells[0]}): {problem}" for problem in wrong]
        if not wrong:
            key, assembly, address, mirrors, size, *rest = cells
            number_of = int(size) if size else None
            rows.append(Row(key, assembly, address, tuple(mirrors.split()), number_of, *rest))
    seen = [(row.key, row.assembly) for row in rows]
    for pair in sorted({pair for pair in seen if seen.count(pair) > 1}):
        problems.append(f"{pair[0]}: two rows for assembly {pair[1] or '(none)'}; remove one")
    if problems:
        raise InputError(path, problems)
    return rows


def _problems(cells: Sequence[str]) -> list[str]:
    """What is wrong with one line of the table."""
    if len(cells) != len(COLUMNS):
        return [f"{len(cells)} cells instead of {len(COLUMNS)}; separate cells by one tab"]
    _, _, address, mirrors, size, checksum, kind, *_ = cells
    found = []
    for item in [address, *mirrors.split()]:
        if item and not re.fullmatch(r"https?://[^/\s]+/\S+", item):
            found.append(f"address '{item}' is not http(s)://host/path")
    if size and not size.isdigit():
        found.append(f"bytes '{size}' is not a whole number")
    if not CHECKSUM.fullmatch(checksum):
        found.append(f"checksum '{checksum}': use md5:HEX, sha256:HEX, list:URL, encode or nothing")
    if kind not in FORMATS:
        found.append(f"format '{kind}' is unknown; use one of {', '.join(FORMATS)}")
    return found


def hint(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for a misspelt word, or an empty string."""
    close = difflib.get_close_matches(str(word), sorted(set(known)), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def find(rows: Sequence[Row], key: str, assembly: str = "") -> Row:
    """The row of `key` for an assembly; without assembly the key must have one row only.

    Raises:
        InputError: unknown key (with a spelling hint), or no row for this assembly.
    """
    same = [row for row in rows if row.key == key]
    if not same:
        raise InputError(
            TABLE, f"no source is called '{key}'{hint(key, (row.key for row in rows))}"
        )
    fitting = [row for row in same if row.assembly == assembly] or [
        row for row in same if not row.assembly or not assembly
    ]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(row.assembly for row in same)
    given = f"assembly '{assembly}' is not available" if assembly else "an assembly is needed"
    raise InputError(TABLE, f"{key}: {given}; choose one of {known}")


def fill(template: str, fields: Mapping[str, object], where: str = TABLE) -> str:
    """Put values into the `{fields}` of a template.

    Values may hold letters, digits and `_ . + -` only and may not be `.` or `..`, so that no value
    can lead out of the folder that the template names.

    Raises:
        InputError: a field without value or a value with other characters; all are named.
    """
    problems = []
    for name in dict.fromkeys(FIELD.findall(template)):
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            problems.append(
                f"'{template}' needs {{{name}}}{hint(name, fields)}; values given for: {known}"
            )
        elif not VALUE.fullmatch(str(fields[name])) or set(str(fields[name])) == {"."}:
            problems.append(
                f"{name} = '{fields[name]}' cannot stand in '{template}': "
                "use letters, digits, '_', '.', '+' and '-' only"
            )
    rest = FIELD.sub("", template)
    if "{" in rest or "}" in rest:
        problems.append(f"'{template}' has an unpaired or empty {{}}: write fields as {{cell}}")
    if problems:
        raise InputError(where, problems)
    return FIELD.sub(lambda match: str(fields[match[1]]), template)


def url(rows: Sequence[Row], key: str, assembly: str = "", **fields: object) -> str:
    """The public address of a source, filled.

    Raises:
        InputError: as `find` and `fill`, or when no public address is known.
    """
    row = find(rows, key, assembly)
    if not row.url:
        raise InputError(TABLE, _no_address(row))
    return fill(row.url, {"assembly": assembly or row.assembly, **fields})


def _no_address(row: Row) -> str:
    return (
        f"{row.key}: no public address of this file is known ({row.used_for}; {row.licence}); "
        f"get it by hand and set sources.local.{row.key} to its path"
    )


def mirror_path(address: str) -> str:
    """`HOST/PATH` of an address: the place of its copy in a mirror folder.

    A query (`?a=b`) becomes part of the last name with unsafe characters replaced by `_`, shortened
    to stay a legal file name.

    Raises:
        InputError: no http(s) address, or a path with `.` or `..` parts.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(address, "is not an http(s) address")
    path = parts.path
    if parts.query:
        query = re.sub(r"[^A-Za-z0-9_.+=-]", "_", parts.query)
        if len(query) > 100:
            query = f"{query[:60]}_{hashlib.sha256(parts.query.encode()).hexdigest()[:16]}"
        path += query if path.endswith("/") else f"_{query}"
    names = [name for name in path.split("/") if name]
    if not names or any(unquote(name) in (".", "..") or "\0" in unquote(name) for name in names):
        raise InputError(address, "has no usable path: it must name a file, without '.' and '..'")
    return "/".join([parts.netloc.rpartition("@")[2].replace(":", "_"), *names])


def place(address: str) -> str:
    """Where the file of an address is kept, relative to the working directory."""
    return f"resources/{mirror_path(address)}"


def resolve(
    rows: Sequence[Row],
    key: str,
    *,
    assembly: str = "",
    local: Mapping[str, str] | None = None,
    mirror: str | None = None,
    **fields: object,
) -> Source:
    """Addresses, checks and place of one file.

    Args:
        local: replacements by key (`sources.local` of the configuration): a path, a file:// or an
            http(s):// address, with the same fields as the public address. They win over `mirror`.
        mirror: folder or address below which copies lie as `HOST/PATH`. Its content may differ from
            the public one, so published sizes and checksums are not applied.
        fields: values of the template, e.g. `cell="E003", mark="H3K4me3"`.

    Raises:
        InputError: unknown key, missing or unsafe field, unusable replacement, or no address.
    """
    check_local(rows, local)
    if mirror and "@" in urlsplit(mirror).netloc:
        raise InputError("configuration", f"download.mirror: {_SECRET}")
    if local and key in local:
        # A file of the user's own may be of an assembly that no public row is for.
        row = next((row for row in rows if row.key == key and row.assembly == assembly), None)
        row = row or next(row for row in rows if row.key == key)
        return _local(row, local[key], {"assembly": assembly or row.assembly, **fields})
    row = find(rows, key, assembly)
    values = {"assembly": assembly or row.assembly, **fields}
    address = url(rows, key, assembly, **fields)
    common = {"licence": row.licence, "used_for": row.used_for, "path": place(address)}
    kind = _format(row.format, address)
    if mirror:
        copy = f"{mirror.rstrip('/')}/{mirror_path(address)}"
        return Source(key, copy, (), None, "", kind, **common)
    mirrors = tuple(fill(item, values) for item in row.mirrors)
    return Source(key, address, mirrors, row.bytes, fill(row.checksum, values), kind, **common)


_SECRET = (  # the address itself is not repeated
    "a name and a password in an address would stand in logs and in the report; leave them out and "
    "put them into ~/.netrc, which is read for this host"
)


def check_local(rows: Sequence[Row], local: Mapping[str, str] | None) -> None:
    """Refuse replacements for unknown keys or of an unusable kind, all at once.

    Raises:
        InputError: naming each key, its value and the remedy.
    """
    known = {row.key for row in rows}
    problems = []
    for key, value in (local or {}).items():
        name = f"sources.local.{key}"
        if key not in known:
            problems.append(f"{name}: no source is called '{key}'{hint(key, known)}")
        elif not isinstance(value, str) or not value.strip():
            problems.append(f"{name} = {value!r}: give a path, a file:// or an http(s):// address")
        elif match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", value):
            if "@" in urlsplit(value).netloc:
                problems.append(f"{name}: {_SECRET}")
            elif match[1].lower() not in ("file", "http", "https"):
                problems.append(
                    f"{name} = '{value}': {match[1]}:// is not supported; "
                    "copy the file and give its path"
                )
            elif match[1].lower() == "file" and not re.match(r"(?i)file://(localhost)?/", value):
                problems.append(f"{name} = '{value}': write file:// and an absolute path")
    if problems:
        raise InputError("configuration", problems)


def _local(row: Row, template: str, values: Mapping[str, object]) -> Source:
    """The source for a replacement; it is kept as resources/local/KEY/NAME."""
    where = f"sources.local.{row.key}"
    filled = fill(template.strip(), values, where)
    path = urlsplit(template).path if re.match(r"[A-Za-z]+://", template) else template.strip()
    pieces = PurePosixPath(path).parts
    # Folder names that hold a field are kept, else files of two cells would share one place.
    kept = [piece for piece in pieces[:-1] if FIELD.search(piece)] + list(pieces[-1:])
    if not pieces or pieces[-1] in ("/", "..") or path.endswith("/"):
        raise InputError(where, f"'{template}' names a folder; give the path of a file")
    name = fill("/".join(kept), values, where)
    # A user's copy may be unpacked; its name tells. Other formats must be what the table says.
    packed = row.format in ("auto", "gzip", "fasta-gzip", "bzip2")
    kind = _format("auto" if packed else row.format, filled)
    return Source(
        row.key,
        filled,
        (),
        None,
        "",
        kind,
        "as given by the user",
        row.used_for,
        f"resources/local/{row.key}/{name}",
        filled,
    )


def _format(kind: str, address: str) -> str:
    """The format of the table, or, for `auto`, the one that the file name tells."""
    if kind != "auto":
        return kind
    name = address.lower().partition("?")[0]
    return next((form for ending, form in ENDINGS if name.endswith(ending)), "binary")


def report(sources: Sequence[Source], root: str | Path) -> str:
    """A table of what a run needs, for people: path, GB, licence, purpose, present already or not.

    Args:
        sources: what the configuration needs; repeated paths are listed once.
        root: the working directory that the paths are relative to.
    """
    lines = ["path\tGB\tpresent\tlicence\tused for\taddress"]
    known, unknown, present, there = 0, 0, 0, 0
    unique = {source.path: source for source in sources}
    for path, source in sorted(unique.items()):
        file = Path(root) / path
        size = file.stat().st_size if file.is_file() else _local_size(source, Path(root))
        size = source.bytes if size is None else size
        if file.is_file():
            present, there = present + 1, there + (size or 0)
        known, unknown = known + (size or 0), unknown + (size is None)
        gigabytes = "unknown" if size is None else f"{size / 1e9:.3f}"
        here = "yes" if file.is_file() else "no"
        cells = [path, gigabytes, here, source.licence, source.used_for, source.urls[0]]
        lines.append("\t".join(cells))
    lines.append(
        f"{len(unique)} files; {known / 1e9:.3f} GB known, {unknown} of unknown size; "
        f"{present} already here ({there / 1e9:.3f} GB)"
    )
    return "\n".join(lines) + "\n"


def _local_size(source: Source, root: Path) -> int | None:
    """Bytes of a file that need not be downloaded, or None."""
    address = source.urls[0]
    if address.lower().startswith(("http://", "https://")):
        return None
    name = re.sub(r"(?i)^file://(localhost)?", "", address)
    path = root / (unquote(name) if name != address else name)
    return path.stat().st_size if path.is_file() else None
