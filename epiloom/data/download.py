"""Fetch one file: resumed where it stopped, verified by content, and only then put into place."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from filelock import FileLock, Timeout

from epiloom.data.files import atomic, digest
from epiloom.data.filetypes import CHECKS, NAMES, is_html, problem
from epiloom.data.web import BLOCK, Bad, Refused, Retry, chunks, request
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

LONGEST_WAIT = 900.0  # seconds; who asks for more patience than this is asked again anyway
SPAN = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")  # Content-Range
LOCAL = re.compile(r"(?is)(?!https?://)(?:file://(?:localhost)?(?=/))?(?!\w+://)(?P<path>.+)")


@dataclass
class _Job:
    urls: list[str]
    target: Path
    bytes: int | None
    checksum: str
    format: str
    retries: int
    timeout: float
    host_limit: int
    progress: bool
    wait: float
    key: str
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, url: str, headers: dict[str, str]) -> AbstractContextManager[requests.Response]:
        return request(self.session, url, headers, self.timeout, self.host_limit)

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def memory(self) -> Path:
        return self.target.with_name(self.target.name + ".part.json")

    def forget(self) -> None:
        """Remove the partial file and what is known about it."""
        self.part.unlink(missing_ok=True)
        self.memory.unlink(missing_ok=True)


def fetch(
    source_urls: Sequence[str],
    target: str | Path,
    *,
    bytes: int | None = None,
    checksum: str = "",
    format: str = "",
    retries: int = 6,
    timeout: float = 60,
    host_limit: int = 2,
    progress: bool = True,
    wait: float = 1.0,
    key: str = "",
) -> None:
    """Have a verified file at `target`; nothing is there otherwise.

    An http(s) file is written to TARGET.part and continued from there by a later call, also after
    a kill. A local file (path or file://) is verified and linked. Of several processes that want
    one target, one transfers and the others wait for it.

    Args:
        source_urls: the same file at several addresses, the first choice first.
        bytes: size in bytes, if known.
        checksum: `md5:HEX`, `sha256:HEX`, `list:URL` (an md5sum listing that names the file),
            `encode` (size and md5 of the ENCODE portal's file object) or nothing.
        format: what the content must be, a key of `filetypes.CHECKS`, or nothing.
        retries: passing failures in a row without progress before giving up.
        timeout: seconds without an answer or nearly without data.
        host_limit: transfers at once from one host, over all processes of this user and machine.
        wait: seconds before the first retry; doubled each time.
        key: the key of the configuration that names the file, for messages.

    Raises:
        InputError: no address gave the right file (all are listed), the disk is too small or not
            writable, or an argument is unknown.
    """
    target, host_limit = Path(target), max(1, host_limit)
    urls, kind = list(dict.fromkeys(source_urls)), "" if format == "auto" else format.lower()
    if not urls:
        raise InputError(target, f"no address is given; set {key or 'sources.local.KEY'}")
    if kind not in CHECKS:
        raise InputError(target, f"format '{format}' is unknown; use one of {', '.join(CHECKS)}")
    job = _Job(
        urls, target, bytes, checksum, kind, retries, timeout, host_limit, progress, wait, key
    )
    with _writable(job), job.session:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target):
            if not _is_there(job):
                expected = _expected(job)
                _attempt(job, urls, lambda url: _obtain(job, url, *expected))
            job.forget()


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Let one process at a time work on a target; waiting ones go on when it is done or dead."""
    lock = FileLock(target.with_name(target.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run is downloading it; waiting", target)
        lock.acquire()
    try:
        yield
        # While still locked; a waiting process that then locks the removed file notices it.
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


@contextlib.contextmanager
def _writable(job: _Job) -> Iterator[None]:
    """Turn failures of the file system into messages; network failures never reach this."""
    try:
        yield
    except OSError as error:
        folder = job.target.absolute().parent
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                folder,
                f"the disk became full while writing {job.target.name}: free some space and run "
                "again (the part that was downloaded is kept)",
            ) from error
        raise InputError(
            folder,
            f"cannot write {error.filename or job.target.name} ({error.strerror}): use a working "
            "directory that you may write to",
        ) from error


def _is_there(job: _Job) -> bool:
    """Whether the target is complete already (as far as can be told without the network)."""
    if not job.target.is_file() or job.target.is_symlink() or LOCAL.fullmatch(job.urls[0]):
        return False
    known = job.checksum.partition(":")[::2] if job.checksum[:3] in ("md5", "sha") else ("", "")
    wrong = _mismatch(job, job.target, job.bytes, *known)
    if wrong:
        log.warning("%s: %s; fetching it again", job.target, wrong)
    return not wrong


def _attempt(job: _Job, urls: Sequence[str], action: Callable[[str], object]) -> object:
    """Try addresses in turn until one succeeds.

    Passing failures are retried with growing, jittered waits, counted anew whenever the partial
    file has grown; wrong content is fetched once more from scratch (or from each mirror).
    """
    live, reasons, not_before = list(urls), {}, {}
    turn = failures = wrong = 0
    longest = _size(job.part)
    while live:
        url = live[turn % len(live)]
        time.sleep(max(0.0, not_before.get(url, 0.0) - time.monotonic()))
        try:
            return action(url)
        except Refused as error:
            reasons[url] = str(error)
            live.remove(url)
        except Bad as error:
            reasons[url] = str(error)
            turn, wrong = turn + 1, wrong + 1
            if wrong >= max(2, len(urls)):
                break
        except Retry as error:
            reasons[url] = str(error)
            grown = _size(job.part) >= longest + (1 << 20)
            longest = max(longest, _size(job.part))
            turn, failures = turn + 1, 1 if grown else failures + 1
            if failures > job.retries + len(live) - 1:
                break
            pause = job.wait * 2 ** min(failures - 1, 6) * random.uniform(0.5, 1.5)
            pause = max(pause, min(error.after, LONGEST_WAIT))
            not_before[url] = time.monotonic() + pause
        log.warning("%s: %s", url, reasons[url])
    option = job.key or "sources.local.KEY"
    remedy = f"check the network and run again, or get the file by hand and set {option} to it"
    if all(LOCAL.fullmatch(url) for url in urls):
        remedy = f"correct the path (or {option} in the configuration), or fetch the file again"
    raise InputError(job.target, [*(f"{url}: {why}" for url, why in reasons.items()), remedy])


def _obtain(job: _Job, url: str, size: int | None, algorithm: str, value: str) -> None:
    """Bring one address's file to the target, verified."""
    if match := LOCAL.fullmatch(url):
        name = match["path"] if url == match["path"] else unquote(match["path"])
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise Refused("is a folder, not a file" if path.is_dir() else "no such file")
        try:
            wrong = _mismatch(job, path, size, algorithm, value)
        except OSError as error:
            raise Refused(f"cannot be read ({error.strerror})") from error
        if wrong:
            raise Refused(wrong)
        if path != job.target.absolute():
            job.forget()
            job.part.symlink_to(path)
            job.part.replace(job.target)
        return
    _transfer(job, url, size)
    wrong = _mismatch(job, job.part, size, algorithm, value)
    if wrong:
        job.forget()
        raise Bad(wrong)
    with job.part.open("rb") as file:
        os.fsync(file.fileno())
    job.part.replace(job.target)
    log.info("%s: %.1f MB, verified", job.target, _size(job.target) / 1e6)


def _mismatch(job: _Job, path: Path, size: int | None, algorithm: str, value: str) -> str:
    """What is wrong with a whole file, or an empty string."""
    wrong = problem(path, job.format)
    if not wrong and size is not None and _size(path) != size:
        wrong = f"{_size(path):,} bytes instead of {size:,}"
    if not wrong and algorithm and (found := digest(path, algorithm)) != value.lower():
        wrong = f"{algorithm} {found} instead of {value}: the content is not the published one"
    return wrong


# --- what the file should be ---------------------------------------------------------------------


def _expected(job: _Job) -> tuple[int | None, str, str]:
    """Size, checksum algorithm and checksum, asked from the provider where the table says so."""
    kind, _, value = job.checksum.partition(":")
    if kind in ("", "md5", "sha256"):
        return job.bytes, kind, value
    if kind == "list":
        # The listing lies beside the file on mirrors too.
        name = value.rpartition("/")[2]
        beside = [f"{url.rpartition('/')[0]}/{name}" for url in job.urls[1:]]
        text = _attempt(job, [value, *beside], lambda url: _text(job, url))
        file = unquote(urlsplit(job.urls[0]).path).rpartition("/")[2]
        for line in text.splitlines():
            found = re.search(r"\b([0-9a-fA-F]{64}|[0-9a-fA-F]{32})\b", line)
            if found and file in re.split(r"[\s*()/]+", line):
                return job.bytes, "md5" if len(found[1]) == 32 else "sha256", found[1]
        raise InputError(job.target, f"{value} does not list {file}: its checksum is unknown")
    if kind != "encode":
        raise InputError(job.target, f"checksum '{job.checksum}' is not understood")
    matches = [re.match(r"(.+/files/[^/]+)/@@download/", url) for url in job.urls]
    name = urlsplit(job.urls[0]).path.rpartition("/")[2].partition(".")[0]
    objects = [f"{match[1]}/?format=json" for match in matches if match]
    objects = objects or [f"https://www.encodeproject.org/files/{name}/?format=json"]
    found = _attempt(job, objects, lambda url: _json(job, url))
    return found.get("file_size") or job.bytes, "md5", str(found["md5sum"])


def _text(job: _Job, url: str) -> str:
    with job.ask(url, {"Accept": "application/json, text/plain, */*"}) as response:
        content = b"".join(chunks(response, job.timeout))
    if is_html(content):
        raise Refused("sends an HTML page instead of checksums")
    return content.decode("utf-8", "replace")


def _json(job: _Job, url: str) -> dict:
    try:
        found = json.loads(_text(job, url))
    except ValueError as error:
        raise Bad(f"sends no valid JSON ({error})") from error
    if not isinstance(found, dict) or not found.get("md5sum"):
        raise Refused("describes no file (md5sum is missing)")
    return found


# --- transfer ------------------------------------------------------------------------------------


def _transfer(job: _Job, url: str, size: int | None) -> None:
    """Complete TARGET.part from one address."""
    offset, state = _resumable(job, url)
    with job.ask(url, _range(offset, state)) as response:
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        span = SPAN.match(response.headers.get("Content-Range", ""))
        total = int(span[2]) if span and span[2] != "*" else None
        if response.status_code == 416 and total is not None and offset == total > 0:
            return
        if response.status_code == 200:
            offset, length = 0, response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        elif (
            response.status_code == 416
            or not span
            or int(span[1] or -1) != offset
            or _differ(state, {"etag": etag, "last_modified": modified, "size": total})
        ):
            job.forget()
            raise Retry("the file changed on the server; starting again")
        body, head = chunks(response, job.timeout), b""
        while len(head) < 512 and (chunk := next(body, b"")):
            head += chunk
        _acceptable(job, head if offset == 0 else b"", offset, total, size)
        if offset == 0:
            job.part.unlink(missing_ok=True)
            known = {"url": url, "etag": etag, "last_modified": modified, "size": total}
            with atomic(job.memory) as path:
                path.write_text(json.dumps(known))
        elif job.progress:
            log.info("%s: continuing at %.1f MB", job.target.name, offset / 1e6)
        _write(job, itertools.chain([head], body), offset, total)


def _acceptable(job: _Job, head: bytes, offset: int, total: int | None, size: int | None) -> None:
    """Refuse a transfer that cannot give the file, before anything is written."""
    if is_html(head) and job.format != "html":
        raise Refused(f"sends an HTML page instead of {NAMES[job.format]}")
    if size is not None and total is not None and size != total:
        raise Refused(f"offers {total:,} bytes instead of {size:,}")
    whole = total if total is not None else size
    folder = job.target.absolute().parent
    free = shutil.disk_usage(folder).free
    if whole is not None and (whole - offset) * 1.05 > free:
        raise InputError(
            folder,
            f"{job.target.name} needs {(whole - offset) * 1.05 / 1e9:.2f} GB and {free / 1e9:.2f} "
            "GB are free: free some space or use another working directory",
        )


def _write(job: _Job, chunks: Iterator[bytes], offset: int, total: int | None) -> None:
    """Append to TARGET.part, with a line in the log every 10 s."""
    begun, first, shown = time.monotonic(), offset, time.monotonic()
    with job.part.open("ab" if offset else "wb", buffering=BLOCK) as file:
        for chunk in chunks:
            file.write(chunk)
            offset += len(chunk)
            now = time.monotonic()
            if job.progress and now - shown >= 10:
                shown, rate = now, (offset - first) / (now - begun)
                of = f" of {total / 1e6:.0f}" if total else ""
                left = f", {(total - offset) / rate:.0f} s left" if total and rate else ""
                name, done = job.target.name, offset / 1e6
                log.info("%s: %.0f%s MB, %.2f MB/s%s", name, done, of, rate / 1e6, left)
    if total is not None and offset < total:
        raise Retry(f"the connection closed after {offset:,} of {total:,} bytes")
    if total is not None and offset > total:
        job.forget()
        raise Bad(f"sent {offset:,} bytes instead of {total:,}")


def _resumable(job: _Job, url: str) -> tuple[int, dict]:
    """Length of our own partial file and what is remembered of it; (0, {}) to start over."""
    try:
        state = json.loads(job.memory.read_text())
        etag, modified, size = state["etag"], state["last_modified"], state["size"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0, {}
    have = _size(job.part)
    # Without a validator only the same address and size speak for the same content.
    same = etag or modified or (state.get("url") == url and size)
    return (have, state) if have and same and (not size or have <= size) else (0, {})


def _differ(known: dict, now: dict) -> bool:
    """Whether what both descriptions of a remote file tell contradicts."""
    return any(known.get(name) and now[name] and known[name] != now[name] for name in now)


def _range(offset: int, state: dict) -> dict[str, str]:
    """Headers that ask for the rest, but for everything if the file has changed meanwhile."""
    if not offset:
        return {}
    strong = state["etag"] if not str(state["etag"]).startswith("W/") else None
    condition = strong or state["last_modified"]
    return {"Range": f"bytes={offset}-", **({"If-Range": condition} if condition else {})}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
