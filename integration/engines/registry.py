"""A registry of images on the loopback, which an engine asks for every name: for suites that pull what they run.

python registry.py PORT DIRECTORY    serves what `store` has written there
"""

from __future__ import annotations

import hashlib
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def store(directory: str, manifests: dict[str, bytes], blobs: dict[str, bytes]) -> None:
    """Write manifests by NAME:TAG and blobs by digest. Manifests are among the blobs, too."""
    for name, manifest in manifests.items():
        _write(f"{directory}/manifests/{name.replace(':', '/')}", manifest)
    for digest, blob in blobs.items():
        _write(f"{directory}/blobs/{digest}", blob)


def main() -> None:
    os.chdir(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Registry).serve_forever()


class Registry(BaseHTTPRequestHandler):
    """What of the OCI distribution specification a pull needs."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> bytes:
        """The content; what stands before it has been sent."""
        found = self._find(self.path.partition("?")[0].removeprefix("/v2/"))
        self.send_response(404 if found is None else 200)
        kind, digest, content = found or ("", "", b"")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        return content

    def _find(self, path: str) -> tuple[str, str, bytes] | None:
        """Media type, digest and content of NAME/manifests/TAG, NAME/manifests/DIGEST or NAME/blobs/DIGEST."""
        name, _, reference = path.rpartition("/")
        name, _, kind = name.rpartition("/")
        place = (
            f"manifests/{name}/{reference}" if kind == "manifests" and ":" not in reference else f"blobs/{reference}"
        )
        if not path:
            return "application/json", "", b"{}"
        try:
            with open(place, "rb") as file:
                content = file.read()
        except OSError:
            return None
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        return MANIFEST if kind == "manifests" else "application/octet-stream", digest, content


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main()
