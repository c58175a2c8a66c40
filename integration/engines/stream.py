"""A client of the streams of CRI's Exec and Attach, run as a program inside the machine's network namespace.

stream.py URL STDIN: the web socket of the URL is given STDIN; what comes back is printed as JSON, by channel.
"""

from __future__ import annotations

import json
import sys

import websocket

STDIN, STDOUT, STDERR, STATUS = range(4)


def main(url: str, stdin: str, until: str) -> None:
    """Read to the end, or until this text has come."""
    address = "ws" + url.removeprefix("http")
    connection = websocket.create_connection(address, timeout=30, subprotocols=["v4.channel.k8s.io"])
    received = {STDOUT: "", STDERR: "", STATUS: ""}
    if stdin:
        connection.send_binary(bytes([STDIN]) + stdin.encode())
    try:
        while not until or until not in received[STDOUT]:
            data = connection.recv()
            if not isinstance(data, bytes) or not data:
                break
            received[data[0]] += data[1:].decode()
    except websocket.WebSocketConnectionClosedException:
        pass
    print(json.dumps(received))


if __name__ == "__main__":
    main(*sys.argv[1:])
