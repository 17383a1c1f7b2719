"""Upload to and download from a hub on this machine that keeps what it gets in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """The part of the Hugging Face hub that an upload and a download of regular files need."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, status: int, **facts: object) -> None:
        self.answer(status, json.dumps(facts).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        hub = self.server
        if self.headers.get("Authorization") != "Bearer hf_secret":
            return self.answer(401, X_Error_Message="Invalid username or password.")
        if path == "/api/repos/create":
            facts = json.loads(body)
            private = facts.get("visibility") == "private"
            hub.repos[f"{facts['organization']}/{facts['name']}"] = private
            return self.say(200, url=f"{hub.url}/{facts['organization']}/{facts['name']}")
        if path == "/api/validate-yaml":
            return self.say(200, errors=[], warnings=[])
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [dict(path=f["path"], uploadMode="regular", shouldIgnore=False) for f in files]
            return self.say(200, files=modes)
        if "/commit/" in path:
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    hub.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            facts = dict(commitUrl=f"{hub.url}/user/ser/commit/{SHA}", commitOid=SHA, success=True)
            return self.say(200, **facts)
        return self.answer(404)

    def do_GET(self) -> None:
        path, hub = unquote(urlsplit(self.path).path), self.server
        if not hub.files or "user/ser" not in path:
            return self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="no such repo")
        if "/tree/" in path:
            tree = [
                dict(type="file", path=name, size=len(content), oid=self.oid(content))
                for name, content in hub.files.items()
            ]
            return self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        if path.startswith("/api/models/user/ser"):
            names = [dict(rfilename=name) for name in hub.files]
            return self.say(200, id="user/ser", sha=SHA, siblings=names, private=False)
        content = hub.files[path.partition(f"/resolve/{SHA}/")[2]]
        etag = f'"{self.oid(content)}"'
        return self.answer(200, content, ETag=etag, X_Repo_Commit=SHA, Accept_Ranges="bytes")

    do_HEAD = do_GET

    @staticmethod
    def oid(content: bytes) -> str:
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub(tmp_path):
    """A hub that runs for a test; ``run`` starts a command that knows no other."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.files, server.repos = {}, {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def run(*argv: str, **more: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1", **more}
        command = [sys.executable, "-m", "espnet_mtkd.bin.mtkd", *argv]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    server.run = run
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_up_and_down(trained, recordings, hub, tmp_path):
    archive = trained.packed("whisper")
    argv = ["upload", "--archive", str(archive), "--repo", "user/ser", "--private"]
    done = hub.run(*argv, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {hub.url}/user/ser" in done.stdout
    assert hub.repos == {"user/ser": True}
    with zipfile.ZipFile(archive) as file:
        assert hub.files == {name: file.read(name) for name in file.namelist()}
    predict = ["predict", str(recordings["a.wav"]), "--model"]
    there = hub.run(*predict, "user/ser")
    assert there.returncode == 0, there.stderr
    assert f"user/ser: no such path here; looking for it in {hub.url}" in there.stderr
    here = hub.run(*predict, str(archive))
    assert json.loads(there.stdout) == json.loads(here.stdout)
    # A second time without the hub.
    offline = hub.run(*predict, "user/ser", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1")
    assert json.loads(offline.stdout) == json.loads(here.stdout)


def only_error(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    return line


def test_what_is_not_to_be_had(recordings, hub):
    argv = ["predict", str(recordings["a.wav"]), "--model", "user/gone"]
    message = "error: user/gone: no such archive or folder here, and not found in "
    assert only_error(hub.run(*argv)).startswith(message + hub.url)
    found = only_error(hub.run(*argv, HF_HUB_OFFLINE="1"))
    assert found.startswith(message + "what was downloaded before: ")
    assert only_error(hub.run(*argv, HF_ENDPOINT="http://127.0.0.1:1")).startswith(message)


def test_uploads_that_are_refused(trained, hub, tmp_path):
    argv = ["upload", "--repo", "user/ser", "--archive"]
    found = only_error(hub.run(*argv, str(trained.packed("fbank")), HF_TOKEN="hf_wrong"))
    assert found.startswith(f"error: user/ser: not uploaded to {hub.url}: ")
    found = only_error(hub.run(*argv, "gone.zip"))
    assert found == "error: gone.zip: no such archive; stage 12 or mtkd pack makes it"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("notes.txt", "")
    assert "no archive of a model" in only_error(hub.run(*argv, str(tmp_path / "x.zip")))
    assert not hub.files and not hub.repos
