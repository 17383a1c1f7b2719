"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from espnet_mtkd.data import download
from espnet_mtkd.data.download import Remote, Zenodo, fetch, unpack
from espnet_mtkd.errors import UserError

CONTENT = bytes(range(256)) * 5000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server:
    """A server with some files, and what it is to do wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404, "Not here")
                    return
                start = 0
                if wanted and outer.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(content):
                        self.send_error(416)
                        return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = len(content) if outer.cut_after is None else start + outer.cut_after
                self.wfile.write(content[start:end])

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    monkeypatch.setattr(download, "ZENODO", f"{server.url}/api/records")
    yield server
    server.close()


@pytest.fixture
def remote(server):
    server.files["/a.bin"] = CONTENT
    return Remote(f"{server.url}/a.bin", "a.bin", MD5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetch(tmp_path, remote, server, capsys):
    path = fetch(remote, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["a.bin"]
    assert f"downloading {remote.url} to {path}" in capsys.readouterr().err
    # A file that is there is checked and not asked for again.
    assert fetch(remote, tmp_path / "new") == path
    assert len(server.requests) == 1


def test_a_cut_is_an_error_and_the_next_call_goes_on(tmp_path, remote, server):
    server.cut_after = 500_000
    with pytest.raises(UserError, match="was cut after 500000 of 1280000 bytes; run again"):
        fetch(remote, tmp_path)
    assert names(tmp_path) == [".a.bin.part"]
    with pytest.raises(UserError, match="was cut after 1000000 of 1280000 bytes"):
        fetch(remote, tmp_path)
    server.cut_after = None
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=500000-", "bytes=1000000-"]
    assert names(tmp_path) == ["a.bin"]


def test_a_server_without_ranges_starts_over(tmp_path, remote, server):
    server.ranges = False
    (tmp_path / ".a.bin.part").write_bytes(b"x" * 1000)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_all_bytes_are_there_but_the_name(tmp_path, remote, server):
    (tmp_path / ".a.bin.part").write_bytes(CONTENT)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/a.bin", f"bytes={len(CONTENT)}-")]


def test_a_wrong_checksum_leaves_nothing(tmp_path, remote, server):
    server.files["/a.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=f"wrong checksum md5:.*, expected {MD5}.*start over"):
        fetch(remote, tmp_path)
    assert names(tmp_path) == []
    # Half of another file is no better.
    (tmp_path / ".a.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(remote, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("checksum", ["md5", "crc99:00", ""])
def test_an_unknown_kind_of_checksum(tmp_path, remote, checksum):
    with pytest.raises(UserError, match="unknown kind of checksum"):
        fetch(Remote(remote.url, "a.bin", checksum), tmp_path)
    assert not (tmp_path / "a.bin").exists()


def test_http_errors(tmp_path, server):
    with pytest.raises(UserError, match=r"/no\.bin: the server answers 404 Not here"):
        fetch(Remote(f"{server.url}/no.bin", "no.bin", MD5), tmp_path)
    assert names(tmp_path) == []


def test_no_server(tmp_path):
    with socket.socket() as taken:  # a port of ours at which nobody listens
        taken.bind(("127.0.0.1", 0))
        remote = Remote(f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin", "a.bin", MD5)
        with pytest.raises(UserError, match=r"a\.bin: cannot be reached: .*refused"):
            fetch(remote, tmp_path)


def put_record(server: Server, number: str, name: str, content: bytes) -> None:
    server.files[f"/files/{name}/content"] = content
    entry = {
        "key": name,
        "size": len(content),
        "checksum": "md5:" + hashlib.md5(content).hexdigest(),
        "links": {"self": f"{server.url}/files/{name}/content"},
    }
    server.files[f"/api/records/{number}"] = json.dumps({"files": [entry]}).encode()


def test_zenodo(server):
    put_record(server, "12", "a.bin", CONTENT)
    expected = Remote(f"{server.url}/files/a.bin/content", "a.bin", MD5)
    assert Zenodo("12", "a.bin").locate() == expected
    assert Zenodo("12", "a.bin", MD5).locate() == expected
    with pytest.raises(UserError, match=r"records/12: no file b\.bin; there are: a\.bin"):
        Zenodo("12", "b.bin").locate()
    with pytest.raises(
        UserError, match="the checksum md5:.*, not md5:00: the publisher changed it"
    ):
        Zenodo("12", "a.bin", "md5:00").locate()
    with pytest.raises(UserError, match="the server answers 404"):
        Zenodo("13", "a.bin").locate()


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"files": [{"key": "a.bin"}]}', b"{}"])
def test_zenodo_with_another_answer(server, content):
    server.files["/api/records/12"] = content
    with pytest.raises(UserError, match="not a Zenodo record as it is known"):
        Zenodo("12", "a.bin").locate()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_unpack(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"x/1.wav": b"1", "x/y/2.wav": b"2", "__MACOSX/x/._1.wav": b"?"}))
    # Left by an unpacking that was killed.
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "half.wav").touch()
    (tmp_path / ".a.zip.unpacked").mkdir()
    unpack(archive, tmp_path)
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["x/1.wav", "x/y/2.wav"]
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["../out.wav", "/out.wav", "x/../../out.wav"])
def test_unpack_writes_nowhere_else(tmp_path, name):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zipped({"good.wav": b"1", name: b"2"}))
    with pytest.raises(UserError, match="unsafe member .* nothing was unpacked"):
        unpack(folder / "a.zip", folder)
    assert names(folder) == ["a.zip"]
    assert names(tmp_path) == ["root"]


def test_unpack_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a\.zip: not a zip file"):
        unpack(tmp_path / "a.zip", tmp_path)


# ---- --download of a corpus script ---------------------------------------------------------------


def script(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(
        '"""Toy.\n\nLayout: toy/x.wav\n"""\n'
        "from espnet_mtkd.data.corpus import Utterance, find_audio, main\n"
        "from espnet_mtkd.data.download import Zenodo\n"
        "def utterances(root):\n"
        "    for path in find_audio(root, '**/*'):\n"
        "        name = f'toy_{path.stem}'\n"
        "        yield Utterance(f'{name}_1', name, path, 'neutral', 'en')\n"
        "if __name__ == '__main__':\n"
        "    main(__doc__, utterances, download=[Zenodo('12', 'toy.zip')])\n"
    )
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    import runpy
    import sys

    def run(*options: str) -> tuple[int, str]:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        argv = [str(script(tmp_path)), "--root", root, "--out", out, *options]
        monkeypatch.setattr(sys, "argv", argv)
        code = 0
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_nothing_is_downloaded_unless_asked_for(tmp_path, server, run):
    put_record(server, "12", "toy.zip", zipped({"toy/a.wav": b"", "toy/b.wav": b""}))
    (tmp_path / "in").mkdir()
    code, text = run()
    assert code == 1
    assert "no utterance found" in text
    assert server.requests == []
    code, text = run("--download")
    assert code == 0, text
    assert "toy: 2 utterances, 2 speakers" in text
    assert names(tmp_path / "in") == ["toy"]
    asked = len(server.requests)
    code, text = run("--toy.download")
    assert code == 0, text
    assert "holds the corpus; nothing is downloaded" in text
    assert len(server.requests) == asked


def test_download_makes_the_folder(tmp_path, server, run):
    put_record(server, "12", "toy.zip", zipped({"toy/a.wav": b""}))
    code, text = run("--download")
    assert code == 0, text


def test_an_unpacking_that_was_killed_is_done_again(tmp_path, server, run):
    put_record(server, "12", "toy.zip", zipped({"toy/a.wav": b"", "toy/b.wav": b""}))
    (tmp_path / "in" / "toy").mkdir(parents=True)
    (tmp_path / "in" / "toy" / "a.wav").touch()
    (tmp_path / "in" / "toy.zip").write_bytes(zipped({"toy/a.wav": b"", "toy/b.wav": b""}))
    code, text = run("--download")
    assert code == 0, text
    assert "toy: 2 utterances" in text
    assert names(tmp_path / "in") == ["toy"]


def test_a_failed_download_is_one_line(tmp_path, server, run):
    code, text = run("--download")
    assert code == 1
    assert text.startswith("error: ")
    assert "the server answers 404" in text
    assert len(text.splitlines()) == 1
    assert not (tmp_path / "out").exists()
