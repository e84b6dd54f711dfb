"""A stand-in for the Hugging Face Hub: what an upload of small files asks of it, on this machine alone."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml

TOKEN = "hf_ofthetests"


@dataclass
class Hub:
    """What it was told."""

    address: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    message: str = ""
    refuses_files: bool = False
    is_a_portal: bool = False
    """Whether a network's page to log in at answers in its place."""


def wrong_in_card(card: str) -> list[str]:
    """Return what the Hub's format of cards forbids in the head of one: of the links to licences."""
    link = yaml.safe_load(card.split("---\n")[1]).get("license_link", "LICENSE")
    if link in ("LICENSE", "LICENSE.md") or re.match("https?://", link):
        return []
    return ['"license_link" must be one of LICENSE, LICENSE.md, or a URL']


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """Answer as the Hub does, to whoever brings the token."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"name": "me", "type": "user", "orgs": []})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self.answer({"url": f"{hub.address}/me/toy", "name": "me/toy"})
            elif "/preupload/" in self.path:
                names = [entry["path"] for entry in json.loads(body)["files"]]
                self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
            elif "/commit/" in self.path and not hub.refuses_files:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "header":
                        hub.message = value["summary"]
                    else:
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                self.answer({"commitUrl": f"{hub.address}/me/toy/commit/0a", "commitOid": "0a", "success": True})
            elif "/commit/" in self.path:
                self.answer({"error": "no room"}, status=507)
            else:
                wrong = wrong_in_card(json.loads(body)["content"])
                told = {"errors": [{"message": message} for message in wrong], "warnings": []}
                self.answer(told, status=400 if wrong else 200)

        def answer(self, told: dict[str, Any], status: int = 200) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                told, status = {"error": "Invalid credentials"}, 401
            content = b"<html>Buy an hour" if hub.is_a_portal else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
