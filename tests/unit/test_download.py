"""Downloads from a real web server that misbehaves: they end with the right file."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable

import pytest

from epiloom.data import web
from epiloom.data.download import fetch
from tests.servers import BIG, DATA, get, md5, only, running, start_fetch


@pytest.fixture
def server():
    with running() as server:
        yield server


# --- good transfers ------------------------------------------------------------------------------


def test_a_file_is_fetched_verified_and_left_alone_in_its_folder(server, tmp_path):
    server.files["/x.bin"] = DATA
    target = tmp_path / "a" / "x.bin"
    get(server, "/x.bin", target, bytes=len(DATA), checksum=md5(DATA))
    assert target.read_bytes() == DATA and only(target)
    get(server, "/x.bin", target, bytes=len(DATA), checksum=md5(DATA))
    assert len(server.log) == 1


def test_a_damaged_file_in_place_is_fetched_again(server, tmp_path):
    server.files["/x.bin"] = DATA
    target = tmp_path / "a" / "x.bin"
    target.parent.mkdir()
    target.write_bytes(DATA[:-1] + b"?")
    get(server, "/x.bin", target, checksum="sha256:" + hashlib.sha256(DATA).hexdigest())
    assert target.read_bytes() == DATA and only(target)


@pytest.mark.faults
def test_a_killed_download_continues_where_it_stopped(server, tmp_path):
    release = threading.Event()

    def stuck_at_40_percent(handler, number):
        handler.give(BIG, *((2_000_000, True, release.wait) if number == 1 else ()))

    server.rules["/big"] = stuck_at_40_percent
    target = tmp_path / "a" / "big"
    process = start_fetch(server.at + "/big", target)
    part = target.with_name("big.part")
    wait_for(lambda: part.exists() and part.stat().st_size >= 1_500_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    release.set()
    have = part.stat().st_size
    assert not target.exists()
    get(server, "/big", target, checksum=md5(BIG))
    assert target.read_bytes() == BIG and only(target)
    assert server.asked("/big") == [None, f"bytes={have}-"]
    assert server.sent["/big"] == 2_000_000 + len(BIG) - have


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_cut_connection_is_resumed(server, tmp_path):
    server.rules["/x"] = lambda handler, number: handler.give(DATA, 400_000)
    target = tmp_path / "a" / "x"
    get(server, "/x", target, checksum=md5(DATA))
    assert target.read_bytes() == DATA and only(target)
    assert server.sent["/x"] == len(DATA)


def test_a_slow_server_that_then_cuts_is_resumed(server, tmp_path):
    def slow(handler, number):
        handler.give(DATA, 700_000 if number == 1 else None, then=lambda: time.sleep(0.3))

    server.rules["/x"] = slow
    get(server, "/x", tmp_path / "a" / "x", checksum=md5(DATA))
    assert server.sent["/x"] == len(DATA)


def test_a_server_without_ranges_starts_over_with_the_same_result(server, tmp_path):
    def cut_once(handler, number):
        handler.give(DATA, 700_000 if number == 1 else None, ranges=False)

    server.rules["/x"] = cut_once
    target = tmp_path / "a" / "x"
    get(server, "/x", target, checksum=md5(DATA))
    assert target.read_bytes() == DATA and server.sent["/x"] == 700_000 + len(DATA)


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, careless):
    new = DATA[::-1]

    def changed(handler, number):
        if careless and number == 2:  # a server that ignores If-Range and sends the new rest
            del handler.headers["If-Range"]
        handler.give(DATA if number == 1 else new, 700_000 if number == 1 else None, etag=number)

    server.rules["/x"] = changed
    target = tmp_path / "a" / "x"
    get(server, "/x", target)
    assert target.read_bytes() == new and only(target)


def test_a_foreign_partial_file_is_not_continued(server, tmp_path):
    server.files["/x"] = DATA
    target = tmp_path / "a" / "x"
    target.parent.mkdir()
    target.with_name("x.part").write_bytes(b"something else")
    get(server, "/x", target)
    assert target.read_bytes() == DATA and only(target)


def test_a_partial_file_that_is_complete_is_not_sent_again(server, tmp_path):
    server.files["/x"] = DATA
    target = tmp_path / "a" / "x"
    target.parent.mkdir()
    target.with_name("x.part").write_bytes(DATA)
    known = {"etag": f'"1-{len(DATA)}"', "last_modified": None, "size": len(DATA)}
    target.with_name("x.part.json").write_text(json.dumps(known))
    get(server, "/x", target, checksum=md5(DATA))
    assert target.read_bytes() == DATA and server.sent["/x"] == 0


def test_a_busy_server_is_asked_again_when_it_says(server, tmp_path):
    def busy(handler, number):
        handler.answer(503, Retry_After="1") if number == 1 else handler.give(DATA)

    server.rules["/x"] = busy
    get(server, "/x", tmp_path / "a" / "x", checksum=md5(DATA))
    first, second = (when for _, _, when in server.log)
    assert second - first >= 1


def test_a_stalled_connection_is_dropped_and_resumed(server, tmp_path):
    stop = threading.Event()

    def stall(handler, number):
        handler.give(DATA, *((600_000, True, lambda: stop.wait(5)) if number == 1 else ()))

    server.rules["/x"] = stall
    get(server, "/x", tmp_path / "a" / "x", timeout=0.4, checksum=md5(DATA))
    stop.set()
    assert server.sent["/x"] == len(DATA)


def test_a_trickle_counts_as_a_stall(server, tmp_path):
    def trickle(handler, number):
        if number > 1:
            return handler.give(DATA)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        for _ in range(100):
            handler.write(DATA[:6])
            time.sleep(0.05)
        return None

    server.rules["/x"] = trickle
    began = time.monotonic()
    get(server, "/x", tmp_path / "a" / "x", timeout=0.4, checksum=md5(DATA))
    assert time.monotonic() - began < 4


def test_an_expired_redirect_is_followed_afresh_from_the_first_address(server, tmp_path):
    def portal(handler, number):
        handler.answer(307, Location=f"/signed?{number}")

    server.rules["/files/ENCFF000AAA/@@download/ENCFF000AAA.tsv"] = portal
    server.rules["/signed?1"] = lambda handler, number: handler.answer(403, b"expired")
    server.files["/signed?2"] = b"a\tb\n" * 1000
    described = {"md5sum": md5(b"a\tb\n" * 1000)[4:], "file_size": 4000}
    server.files["/files/ENCFF000AAA/?format=json"] = json.dumps(described).encode()
    target = tmp_path / "a" / "x.tsv"
    path = "/files/ENCFF000AAA/@@download/ENCFF000AAA.tsv"
    get(server, path, target, checksum="encode", format="tsv")
    assert target.stat().st_size == 4000 and only(target)


def test_a_mirror_serves_when_the_first_address_is_gone(server, tmp_path):
    server.files["/mirror/x"] = DATA
    server.files["/mirror/md5sum.txt"] = f"{'0' * 32}  y\n{md5(DATA)[4:]} *./x\n".encode()
    urls = [server.at + "/x", server.at + "/mirror/x"]
    target = tmp_path / "a" / "x"
    fetch(urls, target, checksum=f"list:{server.at}/md5sum.txt", wait=0.01)
    assert target.read_bytes() == DATA and only(target)


def test_two_processes_share_one_transfer(server, tmp_path):
    def slow(handler, number):
        time.sleep(1)
        handler.give(DATA)

    server.rules["/x"] = slow
    target = tmp_path / "a" / "x"
    runs = [start_fetch(server.at + "/x", target, checksum=md5(DATA)) for _ in range(2)]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [(b"", 0)] * 2
    assert len(server.log) == 1 and target.read_bytes() == DATA and only(target)


def test_a_host_gets_no_more_connections_than_allowed_and_not_too_fast(
    server, tmp_path, monkeypatch
):
    running, most = [], []

    def count(handler, number):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        handler.give(b"x" * 100)

    monkeypatch.setitem(web.SPACING, "127.0.0.1", 0.1)
    threads = []
    for number in range(4):
        server.rules[f"/{number}"] = count
        options = {"host_limit": 1}
        arguments = (server, f"/{number}", tmp_path / f"{number}")
        threads.append(threading.Thread(target=get, args=arguments, kwargs=options))
        threads[-1].start()
    for thread in threads:
        thread.join()
    times = sorted(when for _, _, when in server.log)
    assert max(most) == 1 and len(times) == 4
    assert times[-1] - times[0] > 3 * 0.1 - 0.05
