"""A stand-in for Google Cloud Storage on this machine: the calls of gcsfs, TensorStore and Orbax.

By hand: `python -m tests.fake_gcs 4443` prints the environment to set. Every bucket exists.
"""

import contextlib
import datetime
import itertools
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

ROUTE = re.compile(
    r"(?:/upload|/download)?/storage/v1/b/([^/]+)(?P<objects>/o(?:/([^/]+)(?:/moveTo/o/([^/]+))?)?)?"
)


class Refused(Exception):
    """An answer that is no success; its argument is the status."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def answer(self):
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            with self.server.lock:
                status, content, headers = self.act(ROUTE.fullmatch(url.path))
        except Refused as refused:
            (status,), headers = refused.args, {}
            content = {"error": {"code": status, "message": f"{self.command} {self.path}"}}
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        content = b"" if status in (204, 304) else content
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_DELETE(self):
        self.answer()

    def act(self, route):
        if not route:
            raise Refused(501)
        bucket, name, to = (part and unquote(part) for part in route.group(1, 3, 4))
        objects = self.server.buckets.setdefault(bucket, {})
        if "uploadType" in self.query:
            return self.upload(objects, bucket)
        if name is None:
            found = self.listing(objects) if route["objects"] else {"name": bucket}
            return 200, found, {}
        if name not in objects:
            raise Refused(404)
        self.check_generation(objects, name)
        info, data = objects[name]
        if to is not None:
            del objects[name]
            return 200, self.store(objects, bucket, to, data), {}
        if self.command == "DELETE":
            del objects[name]
            return 204, b"", {}
        return self.download(info, data) if self.query.get("alt") == "media" else (200, info, {})

    def check_generation(self, objects, name):
        """Refuses what is asked for only if an object has, or has not, a generation; 0: none."""
        generation = objects[name][0]["generation"] if name in objects else "0"
        if self.query.get("ifGenerationMatch", generation) != generation:
            raise Refused(412)
        if self.query.get("ifGenerationNotMatch") == generation:
            raise Refused(304)

    def store(self, objects, bucket, name, data):
        generation = str(next(self.server.numbers))
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        info = {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(data))}
        info |= {"generation": generation, "timeCreated": now, "updated": now}
        objects[name] = info, data
        return info

    def listing(self, objects):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "\0")
        entries = set()
        for name in objects:
            if name.startswith(prefix):
                head, cut, _ = name[len(prefix) :].partition(delimiter)
                entries.add(prefix + head + cut)
        left = sorted(entry for entry in entries if entry > self.query.get("pageToken", ""))
        page = left[: int(self.query.get("maxResults", 1000))]
        found = {"kind": "storage#objects"}
        found["items"] = [objects[name][0] for name in page if name in objects]
        found["prefixes"] = [name for name in page if name not in objects]
        return found if len(left) == len(page) else {**found, "nextPageToken": page[-1]}

    def download(self, info, data):
        headers = {"x-goog-generation": info["generation"]}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return 200, data, headers
        start = int(asked[1])
        if start >= len(data):
            raise Refused(416)
        part = data[start : int(asked[2] or len(data)) + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return 206, part, headers

    def upload(self, objects, bucket):
        """Takes an object, or opens an upload in pieces: bytes 0-99/*, at last 100-149/150."""
        kind, name, key = (self.query.get(k) for k in ("uploadType", "name", "upload_id"))
        data = self.body
        if kind == "resumable" and key is None:
            key = str(next(self.server.numbers))
            self.server.uploads[key] = b""
            return 200, b"", {"Location": f"{self.server.url}{self.path}&upload_id={key}"}
        if kind == "resumable":
            data = self.server.uploads[key] = self.server.uploads[key] + data
            if self.headers["Content-Range"].endswith("/*"):
                return 308, b"", {"Range": f"bytes=0-{len(data) - 1}"}
        self.check_generation(objects, name)
        info = self.store(objects, bucket, name, data)
        return 200, info, {"x-goog-generation": info["generation"]}

    def log_message(self, *arguments):
        pass


class FakeGcs(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.buckets, self.uploads = {}, {}
        self.numbers = itertools.count(1_700_000_000_000_000)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs and google-cloud-storage
            "FSSPEC_GCS_TOKEN": "anon",  # gcsfs looks for no credentials
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # nor asks Google what kind a bucket is
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # TensorStore looks for no credentials
        }

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # clients may go away
            super().handle_error(request, client_address)


@contextlib.contextmanager
def fake_gcs():
    with FakeGcs() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


if __name__ == "__main__":
    with FakeGcs(int(sys.argv[1])) as server:
        print("export", *(f"{k}={v}" for k, v in server.environment.items()), flush=True)
        server.serve_forever()
