"""Downloads that cannot end well, and local files: clear failures, nothing left in place."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import ssl
import subprocess
import sys

import pytest

from epiloom.data.download import fetch
from epiloom.plan.errors import InputError
from tests.servers import DATA, PAGE, ROOT, get, md5, only, running


@pytest.fixture
def server():
    with running() as server:
        yield server


# --- refusals ------------------------------------------------------------------------------------


def refused(server, path, target, **options) -> str:
    with pytest.raises(InputError) as caught:
        get(server, path, target, **options)
    assert not target.exists() and not target.is_symlink()
    return str(caught.value)


def test_altered_content_is_tried_twice_and_refused(server, tmp_path):
    server.files["/x"] = DATA[:-1] + b"?"
    target = tmp_path / "a" / "x"
    text = refused(server, "/x", target, checksum=md5(DATA), key="sources.local.roadmap_rpkm")
    assert "instead of " + md5(DATA)[4:] in text and "sources.local.roadmap_rpkm" in text
    assert len(server.log) == 2 and not target.with_name("x.part").exists()


def test_content_altered_once_is_repaired(server, tmp_path):
    server.rules["/x"] = lambda handler, n: handler.give(DATA if n > 1 else DATA[::-1])
    get(server, "/x", tmp_path / "a" / "x", checksum=md5(DATA))
    assert (tmp_path / "a" / "x").read_bytes() == DATA


def test_another_size_than_published_is_refused(server, tmp_path):
    server.files["/x"] = DATA
    text = refused(server, "/x", tmp_path / "a" / "x", bytes=len(DATA) + 1)
    assert "1,500,000 bytes instead of 1,500,001" in text and server.sent["/x"] <= len(DATA)


def test_an_html_page_with_status_200_is_refused_and_not_kept(server, tmp_path):
    server.files["/x.bigwig"] = PAGE
    target = tmp_path / "a" / "x.bigwig"
    text = refused(server, "/x.bigwig", target, format="bigwig", bytes=7)
    assert "an HTML page instead of a bigWig" in text
    assert not target.with_name("x.bigwig.part").exists() and len(server.log) == 1


def test_a_body_that_is_always_cut_ends_with_a_clear_failure(server, tmp_path):
    server.rules["/x"] = lambda handler, n: handler.give(DATA, 1000, ranges=False)
    text = refused(server, "/x", tmp_path / "a" / "x", retries=2)
    assert "connection broke" in text and len(server.log) == 3


def test_a_missing_file_fails_at_once_and_names_every_address(server, tmp_path):
    urls = [server.at + "/x", server.at + "/y"]
    with pytest.raises(InputError) as caught:
        fetch(urls, tmp_path / "x", key="sources.local.gaps")
    text = str(caught.value)
    assert all(f"{url}: HTTP 404" in text for url in urls)
    assert "sources.local.gaps" in text and len(server.log) == 2


def test_an_unreachable_host_is_named(tmp_path):
    with pytest.raises(InputError, match="Connection refused"):
        fetch(["http://127.0.0.1:9/x"], tmp_path / "x", retries=1, wait=0.01)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_server_with_an_unknown_certificate_is_refused(server, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    files = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(InputError, match="(?i)certificate"):
        fetch([server.at.replace("http:", "https:") + "/x"], tmp_path / "x", wait=0.01)


def test_a_file_larger_than_the_disk_is_refused_before_the_transfer(server, tmp_path):
    def huge(handler, number):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**15))
        handler.end_headers()
        handler.write(b"x" * 5000)

    server.rules["/x"] = huge
    text = refused(server, "/x", tmp_path / "a" / "x")
    assert f"{tmp_path / 'a'}:" in text and "needs 1050000.00 GB" in text


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "a").write_text("a file, not a folder")
    with pytest.raises(InputError, match="cannot write .*working"):
        get(server, "/x", tmp_path / "a" / "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(server, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write"):
        get(server, "/x", folder / "x")


@pytest.mark.faults
def test_a_write_that_the_system_refuses_is_explained_and_can_be_continued(server, tmp_path):
    server.files["/x"] = DATA
    target = tmp_path / "a" / "x"
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600000, 600000))\n"
        f"from epiloom.data.download import fetch; fetch(['{server.at}/x'], {str(target)!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "InputError" in run.stderr and os.strerror(errno.EFBIG) in run.stderr
    assert not target.exists()
    get(server, "/x", target, checksum=md5(DATA))
    assert target.read_bytes() == DATA and server.asked("/x")[1].startswith("bytes=")


def test_a_listing_that_does_not_name_the_file_is_refused(server, tmp_path):
    server.files |= {"/x": DATA, "/md5sum.txt": b"0" * 32 + b"  other\n"}
    text = refused(server, "/x", tmp_path / "x", checksum=f"list:{server.at}/md5sum.txt")
    assert "does not list x" in text and not server.asked("/x")


def test_unknown_formats_and_addresses_are_refused(tmp_path):
    with pytest.raises(InputError, match="format 'mp3' is unknown"):
        fetch(["x"], tmp_path / "x", format="mp3")
    with pytest.raises(InputError, match="no address"):
        fetch([], tmp_path / "x")
    with pytest.raises(InputError, match="s3://bucket/x"):
        fetch(["s3://bucket/x"], tmp_path / "x")


# --- local files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["path", "relative", "file"])
def test_a_local_file_is_verified_and_linked(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "my data.gz"
    source.write_bytes(gzip.compress(DATA[:1000]))
    address = {"path": str(source), "relative": source.name, "file": source.as_uri()}[how]
    target = tmp_path / "a" / "x.gz"
    for _ in range(2):
        fetch([address], target, format="gzip")
        assert target.is_symlink() and target.readlink() == source and only(target)


def test_a_missing_or_wrong_local_file_names_the_file_and_its_key(tmp_path):
    for content, reason in ((None, "no such file"), (b"plain", "not a gzip file")):
        if content:
            (tmp_path / "x.gz").write_bytes(content)
        with pytest.raises(InputError) as caught:
            fetch(
                [str(tmp_path / "x.gz")],
                tmp_path / "a" / "x",
                format="gzip",
                key="sources.local.gaps",
            )
        text = str(caught.value)
        assert f"{tmp_path / 'x.gz'}: {reason}" in text and "sources.local.gaps" in text
        assert not (tmp_path / "a" / "x").exists()


def test_a_link_of_an_earlier_run_gives_way_to_the_public_file(server, tmp_path):
    server.files["/x"] = DATA
    (tmp_path / "mine").write_bytes(b"mine")
    target = tmp_path / "a" / "x"
    fetch([str(tmp_path / "mine")], target)
    get(server, "/x", target)
    assert target.read_bytes() == DATA and not target.is_symlink()
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_truncated_gzip_of_the_promised_length_is_refused(server, tmp_path):
    server.files["/x.gz"] = gzip.compress(DATA)[:-500]
    text = refused(server, "/x.gz", tmp_path / "a" / "x.gz", format="gzip")
    assert "truncated or damaged" in text and len(server.log) == 2
