"""Witnesses of a restart in Python: restart-client.py url. For each line of its input it prints what they have noticed."""
import json
import os
import sys

import engineio.payload
import socketio

engineio.payload.Payload.max_decode_packets = 1000  # else one poll may bring 16 packets at most, and it gives up
url = sys.argv[1]
witnesses = {}


def watch(name, transports):
    noted = witnesses[name] = {"connects": [], "joined": 0, "reasons": [], "errors": [], "heard": []}
    io = socketio.Client()

    @io.event
    def connect():
        noted["connects"].append({"id": io.get_sid(), "recovered": False})
        io.emit("join", {"room": "lobby"}, callback=joined)

    def joined(*problems):
        noted["joined"] += 1
        noted["errors"].extend(map(str, problems))

    @io.event
    def connect_error(error):
        noted["errors"].append(str(error))

    @io.event
    def disconnect(*reason):
        noted["reasons"].extend(reason or ["disconnect"])

    @io.on("said")
    def said(message, *offset):
        noted["heard"].append(int(message["key"]))

    io.connect(url, auth={"name": name, "password": "atrium"}, transports=transports)


watch("Python", None)
watch("Python, WebSocket", ["websocket"])
for _ in sys.stdin:
    print(json.dumps(witnesses), flush=True)
os._exit(0)  # without waiting for the clients' threads
