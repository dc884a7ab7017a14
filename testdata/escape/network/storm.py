#!/usr/bin/python3
"""What wears out a listener: storm.py KIND HOST PORT [N], from inside.

Each kind tells in one line how many of its connections came to which end.
"""
import collections, errno, os, random, resource, selectors, socket, struct, sys, time

def outcome(e):
    return errno.errorcode.get(e.errno, str(e)) if isinstance(e, OSError) and e.errno else type(e).__name__

def loop(host, port, n):
    """One after the other: connect, read, close."""
    addr = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    came = collections.Counter()
    for _ in range(n):
        s = socket.socket()
        s.settimeout(10)
        try:
            s.connect(addr)
            came["answered" if s.recv(100) else "closed"] += 1
        except OSError as e:
            came[outcome(e)] += 1
        s.close()
    return came

def many(host, port, n, send=b"", wait=20):
    """All at once; all are held open until all have an answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, n + 100), hard))
    addr = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    came, sel, held = collections.Counter(), selectors.DefaultSelector(), []
    for _ in range(n):
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect(addr)
        except BlockingIOError:
            pass
        except OSError as e:
            came[outcome(e)] += 1
            continue
        held.append(s)
        sel.register(s, selectors.EVENT_WRITE if send else selectors.EVENT_READ)
    end, left = time.monotonic() + wait, len(held)
    while left and time.monotonic() < end:
        for key, mask in sel.select(1):
            s = key.fileobj
            if mask & selectors.EVENT_WRITE:
                try:
                    s.send(send)
                    sel.modify(s, selectors.EVENT_READ)
                except OSError as e:
                    came[outcome(e)] += 1
                    sel.unregister(s)
                    left -= 1
                continue
            try:
                came["answered" if s.recv(100) else "closed"] += 1
            except OSError as e:
                came[outcome(e)] += 1
            sel.unregister(s)
            left -= 1
    if left:
        came["open"] += left
    return came

def slow(host, port, n):
    """Connections that say next to nothing, held open; printed when they stand."""
    addr = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, n + 100), hard))
    held = []
    came = collections.Counter()
    for i in range(n):
        s = socket.socket()
        s.settimeout(5)
        try:
            s.connect(addr)
            s.send([b"", b"\x16", b"\x16\x03\x01\x40\x00\x01", b"GET / HT"][i % 4])
            held.append(s)
            came["stands"] += 1
        except OSError as e:
            came[outcome(e)] += 1
    open("/tmp/standing", "w").close()
    end = time.monotonic() + 30
    while time.monotonic() < end and not os.path.exists("/tmp/enough"):
        time.sleep(0.05)
    return came

def garbage(host, port, n):
    """Malformed beginnings of all kinds, from a fixed seed."""
    r = random.Random(5)
    hello = bytes.fromhex("16030100a5010000a10303") + bytes(32) + bytes.fromhex("20") + bytes(32)
    hello += bytes.fromhex("0004130113020100005400000013001100000e6f6b2e6578616d706c652e6f7267") + bytes(65)
    head = b"GET / HTTP/1.1\r\nHost: ok.example.org\r\nX: y\r\n\r\n"
    came = collections.Counter()
    addr = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    for i in range(n):
        b = bytearray(r.choice([hello, head, r.randbytes(r.randrange(1, 3000)), b"\x16\x03\x01\xff\xff" + bytes(70000)]))
        for _ in range(r.randrange(0, 8)):
            at = r.randrange(len(b))
            b[at:at + r.randrange(0, 3)] = r.randbytes(r.randrange(0, 3))
            b = b or bytearray(b"x")
        s = socket.socket()
        s.settimeout(0.3)
        if r.randrange(4) == 0:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            s.connect(addr)
            for at in range(0, len(b), max(1, len(b) // r.randrange(1, 4))):
                s.send(b[at:at + len(b)])
            if r.randrange(2):
                s.shutdown(socket.SHUT_WR)
            came["answered" if s.recv(100) else "closed"] += 1
        except OSError as e:
            came[outcome(e)] += 1
        s.close()
    return came

def names(host, port, n):
    """Questions without end, and packets that are none."""
    r = random.Random(6)
    came = collections.Counter()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((host, port))
    s.setblocking(False)
    for i in range(n):
        label = b"%x" % r.getrandbits(200)
        q = struct.pack("!6H", i & 0xFFFF, 0x100, 1, 0, 0, 0) + bytes([len(label)]) + label + b"\x04wild\x07example\x03org\0\0\x01\0\x01"
        if r.randrange(3) == 0:
            q = bytearray(q)
            for _ in range(r.randrange(1, 9)):
                q[r.randrange(len(q))] = r.randrange(256)
            q = bytes(q[:r.randrange(len(q))])
        try:
            s.send(q)
        except OSError as e:
            came[outcome(e)] += 1
        try:
            while s.recv(4096):
                came["answered"] += 1
        except OSError:
            pass
    return came

def main():
    kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    start = time.monotonic()
    came = {"loop": loop, "many": many, "slow": slow, "garbage": garbage, "names": names}[kind](host, port, n)
    said = " ".join("%s=%d" % kv for kv in sorted(came.items()))
    print("%s in %d s" % (said, time.monotonic() - start), flush=True)

main()
