"""What a client written in Python does, with Debian's python3-socketio: socketio-client.py lab transports.

The lab is the address of the other side (lab_test.go); transports are comma-separated, or "default".
"""
import functools
import json
import os
import queue
import sys
import threading
import traceback
import urllib.parse
import urllib.request

import engineio.payload
import socketio

engineio.payload.Payload.max_decode_packets = 1000  # else one poll may bring 16 packets at most, and it gives up
PATIENCE = 30  # seconds
lab, transports = sys.argv[1], sys.argv[2]
transports = None if transports == "default" else transports.split(",")
upgrades = transports is None


def ask(path, **params):
    request = urllib.request.Request(f"{lab}/lab/{path}?{urllib.parse.urlencode(params)}", method="POST")
    with urllib.request.urlopen(request, timeout=2 * PATIENCE) as response:
        return json.load(response)


def equal(got, want, what):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


class Person:
    """One client, and all that it heard in the main namespace."""

    def __init__(self, url, **options):
        self.heard = queue.Queue()
        self.io = socketio.Client(**options)
        for event in "msg", "error", "goodbye", "picture", "down", "connect_error", "disconnect":
            self.io.on(event, functools.partial(self.hear, event))
        self.io.on("welcome", functools.partial(self.hear, "welcome"), namespace="/admin")
        self.io.on("sure?", lambda n: f"sure, {n}")
        self.url = url

    def hear(self, *event):
        self.heard.put(event)

    def connect(self, namespaces=("/",), token="ok", patience=PATIENCE):
        self.io.connect(self.url, auth={"token": token, "name": "Ada"}, transports=transports, namespaces=list(namespaces), wait_timeout=patience)
        return self

    def call(self, event, *data, **options):
        return self.io.call(event, data, timeout=PATIENCE, **options)

    def next(self):
        return self.heard.get(timeout=PATIENCE)


def main():
    hub = ask("start")
    url = hub["url"]

    refused = Person(url, reconnection=False)
    try:
        refused.connect(token="bad", patience=3)  # it waits that long, refused or not
    except socketio.exceptions.ConnectionError:
        pass
    equal(refused.next(), ("connect_error", {"message": "Auth failed", "data": {"code": 401}}), "refused")

    ada, ben = Person(url).connect(["/", "/admin"]), Person(url).connect()
    equal(ada.next(), ("welcome", "Ada"), "another namespace")
    equal(ada.call("whoami", namespace="/admin"), "/admin Ada", "an ack there")
    if upgrades:
        equal(ada.io.transport(), "websocket", "transport")

    for who in ada, ben:
        who.call("join-room", "garden")
    equal(ada.call("send-msg", {"room": "garden", "text": "Hello 🌿"}), {"success": True, "id": 1}, "receipt")
    equal([ada.next(), ben.next()], [("msg", "Hello 🌿")] * 2, "with the sender")
    ben.call("send-others", {"room": "garden", "text": "without the sender"})
    equal(ada.next(), ("msg", "without the sender"), "without the sender")
    equal(ada.call("send-msg", {"room": "garden", "text": ""}), {"error": {"message": "Invalid", "data": {"field": "text"}}}, "validation")
    ada.io.emit("send-msg", {"room": "garden", "text": ""})
    equal(ada.next(), ("error", {"event": "send-msg", "message": "Invalid", "data": {"field": "text"}}), "without an ack")
    equal(ada.call("ask", 7), "sure, 7", "the hub asks")
    equal(ada.call("echo", 1, "two", [3], {"four": None}), (1, "two", [3], {"four": None}), "several arguments")
    long = "ž\u2028\x1e" * 30_000
    equal(ada.call("echo", long), long, "a long text")

    for n in 0, 1, 3000, 70_000:
        data = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(n))
        equal(ada.call("upload", {"name": "x", "data": data}, data), {"name": "x", "length": [n, n], "sum": 2 * sum(data)}, "binary up")
        equal(ada.call("download", n), {"length": n, "data": data}, "binary down")
        ada.call("picture", data)
        equal(ben.next(), ("picture", data), "a broadcast of it")

    # Many at once. The client gives each message to a thread, so their order is not seen here.
    answers = []
    done = threading.Event()
    for i in range(200):
        ben.io.emit("up", i, callback=lambda n: (answers.append(n), len(answers) == 200 and done.set()))
    assert done.wait(PATIENCE), f"{len(answers)} of 200 answers"
    equal(sorted(answers), list(range(200)), "answers")
    equal(sorted(ben.next() for _ in range(200)), [("down", n) for n in range(200)], "events")

    ada_id, ben_id = ada.io.get_sid(), ben.io.get_sid()
    ada.io.disconnect()
    # This client may close its WebSocket while another thread of its is still about to send what it says before.
    reason = ask(f"{hub['id']}/left", socket=ada_id)["reason"]
    assert reason in ("client namespace disconnect", "transport close"), f"reason on the server: {reason}"
    ben.io.emit("kick")
    equal(ben.next(), ("goodbye", "the last word"), "what was sent before")
    equal(ben.next(), ("disconnect",), "the server disconnects")
    equal(ask(f"{hub['id']}/left", socket=ben_id)["reason"], "server namespace disconnect", "reason on the server")
    ben.io.disconnect()
    ask(f"{hub['id']}/stop")


try:
    main()
    print("ok", flush=True)
    os._exit(0)  # without waiting for the clients' threads
except BaseException:
    traceback.print_exc()
    os._exit(1)
