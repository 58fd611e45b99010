"""Servers that never get better: one clear message each, and nothing under the final name.

Servers that do get better are in tests/unit/test_download.py.
"""

from __future__ import annotations

import gzip
import threading

import pytest

from epiloom.plan.errors import InputError
from tests.servers import DATA, PAGE, get, md5, running

pytestmark = pytest.mark.faults
PACKED = gzip.compress(DATA)


@pytest.fixture
def server():
    with running() as server:
        yield server


def refused(server, path, target, **options) -> str:
    """The one message of a download that cannot end well."""
    with pytest.raises(InputError) as caught:
        get(server, path, target, **{"key": "sources.local.gaps", **options})
    assert not target.exists() and not target.is_symlink()
    text = str(caught.value)
    assert server.at + path in text and "sources.local.gaps" in text
    return text


def test_a_server_that_stalls_every_time_is_given_up(server, tmp_path):
    stop = threading.Event()
    # not a byte more than the first time, whatever is asked for
    server.rules["/x"] = lambda handler, n: handler.give(
        DATA, 600_000 if n == 1 else 0, then=lambda: stop.wait(5)
    )
    text = refused(server, "/x", tmp_path / "x", timeout=0.3, retries=2)
    stop.set()
    assert "stalled" in text or "timed out" in text
    assert len(server.log) == 3
    assert (tmp_path / "x.part").stat().st_size == 600_000  # kept for a later call
    del server.rules["/x"]
    server.files["/x"] = DATA
    get(server, "/x", tmp_path / "x", checksum=md5(DATA))
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_server_that_never_answers_is_given_up(server, tmp_path):
    stop = threading.Event()
    server.rules["/x"] = lambda handler, n: stop.wait(3)
    text = refused(server, "/x", tmp_path / "x", timeout=0.3, retries=1)
    stop.set()
    assert "timed out" in text and len(server.log) == 2


def test_a_redirect_to_an_expired_link_is_given_up_with_its_reason(server, tmp_path):
    server.rules["/x"] = lambda handler, n: handler.answer(307, Location=f"/signed?{n}")
    for number in range(1, 5):
        expired = b"<Error>Request has expired</Error>"
        server.rules[f"/signed?{number}"] = lambda handler, n, e=expired: handler.answer(403, e)
    text = refused(server, "/x", tmp_path / "x", retries=2)
    assert "HTTP 403" in text and "redirect that may have expired" in text
    assert len(server.asked("/x")) == 3  # each time from the first address on
    assert not (tmp_path / "x.part").exists()


def test_redirects_in_a_circle_are_given_up_at_once(server, tmp_path):
    server.rules["/x"] = lambda handler, n: handler.answer(302, Location="/y")
    server.rules["/y"] = lambda handler, n: handler.answer(302, Location="/x")
    assert "redirects" in refused(server, "/x", tmp_path / "x")
    assert len(server.log) < 100


@pytest.mark.parametrize("kind", ["", "gzip", "tsv", "text", "zip", "binary", "json"])
def test_an_html_page_is_no_file_of_any_kind(server, tmp_path, kind):
    server.files["/x"] = PAGE
    assert "HTML page" in refused(server, "/x", tmp_path / "x", format=kind)
    assert not list(tmp_path.glob("x.part"))


def test_an_html_page_after_a_redirect_to_a_login_is_refused(server, tmp_path):
    server.rules["/x"] = lambda handler, n: handler.answer(302, Location="/login")
    server.files["/login"] = PAGE
    assert "HTML page" in refused(server, "/x", tmp_path / "x", format="tsv")


def test_a_page_packed_on_the_way_is_no_gzip_file(server, tmp_path):
    """A server that packs its answer although it was asked not to."""
    server.rules["/x"] = lambda handler, n: handler.answer(
        200, gzip.compress(PAGE), Content_Encoding="gzip", Content_Type="text/html"
    )
    refused(server, "/x", tmp_path / "x", format="gzip")


@pytest.mark.parametrize("known", [{"checksum": md5(PACKED)}, {"format": "gzip"}, {}])
def test_a_length_that_is_too_short_is_noticed(server, tmp_path, known):
    """The rest of the file would be taken for the next answer."""

    def short(handler, number):
        handler.answer(200, PACKED, Content_Length=str(len(PACKED) - 100))

    server.rules["/x"] = short
    if not known:
        get(server, "/x", tmp_path / "x")  # nobody can know, without size, checksum and form
        assert (tmp_path / "x").read_bytes() == PACKED[:-100]
        return
    text = refused(server, "/x", tmp_path / "x", **known)
    assert "not the published one" in text or "truncated or damaged" in text


def test_a_length_that_is_too_long_is_noticed(server, tmp_path):
    def long(handler, number):
        handler.close_connection = True
        handler.answer(200, DATA, Content_Length=str(len(DATA) + 100))

    server.rules["/x"] = long
    assert "connection" in refused(server, "/x", tmp_path / "x", retries=1)


def test_a_range_of_another_place_is_not_appended(server, tmp_path):
    """A server that says 206 and sends the file from its beginning, or from somewhere else."""

    def elsewhere(handler, number):
        if number == 1:
            return handler.give(DATA, 700_000)
        if number > 2:
            return handler.give(DATA)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        return handler.write(DATA)

    server.rules["/x"] = elsewhere
    get(server, "/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
