"""Polite requests: few connections per host, clear kinds of failure, no endless waits."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import itertools
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from filelock import FileLock, Timeout

from epiloom.plan.errors import InputError

BLOCK = 1 << 18  # bytes asked of the network at once; at most this much is lost by a kill
SLOWEST = 1000.0  # bytes per second over one timeout; below this a connection counts as stalled
# Seconds between two requests to hosts that block addresses which ask too often (ENCODE: 10/s).
SPACING = {"www.encodeproject.org": 0.15}


class Retry(Exception):
    """A failure that may pass; `after` = seconds the server asks to wait."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """This address will not give the file."""


class Bad(Exception):
    """A whole file arrived, but not the right one."""


@contextlib.contextmanager
def request(
    session: requests.Session, url: str, headers: dict[str, str], timeout: float, host_limit: int
) -> Iterator[requests.Response]:
    """An answer with status 200, 206 or 416, while holding one of the host's slots.

    Raises:
        Retry: busy or failing server, broken connection, or a redirect that may have expired.
        Refused: any other answer, an unusable address or an invalid certificate.
    """
    headers = {"User-Agent": "epiloom", "Accept-Encoding": "identity", **headers}
    with slot(urlsplit(url).netloc.rpartition("@")[2], host_limit):
        try:
            limits = (min(timeout, 30.0), timeout)
            response = session.get(url, headers=headers, stream=True, timeout=limits)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            why = " ".join(str(error).split())[:300] or type(error).__name__
            # ValueError: addresses that cannot work. A bad certificate does not get better either.
            lasting = isinstance(error, (ValueError, requests.TooManyRedirects))
            if lasting or "CERTIFICATE_VERIFY_FAILED" in why:
                raise Refused(why) from error
            raise Retry(why) from error
        with contextlib.closing(response):
            code = response.status_code
            why = f"HTTP {code} {response.reason}"
            if code in (408, 425, 429) or code >= 500:
                raise Retry(why, _seconds(response.headers.get("Retry-After", "")))
            if code in (400, 401, 403) and response.history:
                raise Retry(f"{why} from a redirect that may have expired")
            if code not in (200, 206, 416):
                raise Refused(why)
            yield response


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header (a number or a date); 0 when absent."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def chunks(response: requests.Response, timeout: float) -> Iterator[bytes]:
    """The body as sent, in blocks as they arrive; `timeout` in seconds.

    Raises:
        Retry: the connection broke, or hardly anything came for `timeout` seconds.
    """
    since, seen = time.monotonic(), 0
    while True:
        try:
            # read1 returns what has come, so that a trickle cannot hide from the clock.
            chunk = response.raw.read1(BLOCK, decode_content=False)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise Retry(f"the connection broke: {error}") from error
        if not chunk:
            return
        yield chunk
        seen, now = seen + len(chunk), time.monotonic()
        if now - since > timeout:
            if seen < SLOWEST * timeout:
                raise Retry(f"stalled: {seen} bytes in {now - since:.0f} s")
            since, seen = now, 0


@contextlib.contextmanager
def slot(host: str, host_limit: int) -> Iterator[None]:
    """Hold one of the `host_limit` connections that this user's processes may have to a host.

    Raises:
        InputError: the folder of locks cannot be trusted.
    """
    folder = Path(tempfile.gettempdir()) / f"epiloom-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise InputError(folder, "belongs to another user: remove it or set TMPDIR")
    name = re.sub(r"[^A-Za-z0-9.-]", "_", host)
    for number in itertools.cycle(range(host_limit)):
        lock = FileLock(folder / f"{name}.{number}.lock")
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            time.sleep(random.uniform(0.05, 0.2) / host_limit)
    try:
        gap = SPACING.get(host.partition(":")[0], 0.0)
        if gap:
            with FileLock(folder / f"{name}.spacing.lock"):
                stamp = folder / f"{name}.last"
                last = stamp.stat().st_mtime if stamp.exists() else 0.0
                time.sleep(min(gap, max(0.0, last + gap - time.time())))
                stamp.touch()
        yield
    finally:
        # While still held; a process that then locks the removed file notices it.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
