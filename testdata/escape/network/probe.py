#!/usr/bin/python3
"""Attacks on the network of a sandbox, one a line on standard input:

    ID VERB ARG...

For each, a line on standard output: ID, milliseconds, and what came of it: the
word "worked", or why not. The same program runs outside, as the control, and
inside. It runs nowhere but in networks of the test's own: with no link that is
up but lo and those named rcc-*.
"""
import array, ctypes, errno, fcntl, os, shutil, socket, ssl, struct, subprocess, sys, time

LIMIT = 3  # seconds that an attack waits; a refusal must come at once

def check_apart():
    for _, name in socket.if_nameindex():
        ifreq = struct.pack("16sH14x", name.encode(), 0)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        flags = struct.unpack("16xH", fcntl.ioctl(s, 0x8913, ifreq)[:18])[0]  # SIOCGIFFLAGS
        if flags & 1 and name != "lo" and not name.startswith("rcc-"):
            sys.exit("there is a link %s that is not of the world: nothing is sent" % name)

def error(e):
    if isinstance(e, socket.gaierror):
        return "no such name (%s)" % e.args[0]
    if isinstance(e, socket.timeout):
        return "timeout"
    if isinstance(e, OSError) and e.errno:
        return errno.errorcode.get(e.errno, str(e.errno))
    return "%s: %s" % (type(e).__name__, str(e)[:80].replace("\n", " "))

def unescape(s):
    return s.encode().decode("unicode_escape").encode("latin-1")

def addresses(host, port, kind=socket.SOCK_STREAM):
    if host.endswith("%LINK"):  # the one to the company, or what there is
        links = [name for _, name in socket.if_nameindex()]
        host = host[:-4] + ("rcc-hc" if "rcc-hc" in links else links[0])
    return socket.getaddrinfo(host, int(port) or None, type=kind)

def connect(host, port):
    """The first connection that some address of host takes."""
    last = None
    for family, kind, proto, _, addr in addresses(host, port):
        s = socket.socket(family, kind, proto)
        s.settimeout(LIMIT)
        try:
            s.connect(addr)
            return s
        except OSError as e:
            last = e
            s.close()
    raise last

def read(s):
    """What comes back is what shows that somebody is there."""
    b = s.recv(200)
    return "worked" if b else "closed"

# Each verb is a function; what it raises is why the attack did not work.

def tcp(host, port):
    """A server that speaks first."""
    return read(connect(host, port))

def tcp_each(host, port, times):
    """Names looked up again and again, as for rebinding."""
    last = "nothing"
    for _ in range(int(times)):
        try:
            last = tcp(host, port)
        except OSError as e:
            last = error(e)
        time.sleep(0.02)
    return last

def tcp_all(host, port, times):
    """Every address that a name has, each time."""
    came = []
    for _ in range(int(times)):
        for family, kind, proto, _, addr in addresses(host, port):
            s = socket.socket(family, kind, proto)
            s.settimeout(LIMIT)
            try:
                s.connect(addr)
                came.append(read(s))
            except OSError as e:
                came.append(error(e))
            s.close()
    return " ".join(came)

def send(host, port, text):
    """Bytes of the attacker's own, then whatever is answered."""
    s = connect(host, port)
    s.sendall(unescape(text))
    return read(s)

def later(host, port, text):
    """The same in two halves, with time between them."""
    s = connect(host, port)
    b = unescape(text)
    s.sendall(b[: len(b) // 2])
    time.sleep(0.3)
    s.sendall(b[len(b) // 2 :])
    return read(s)

def tls(host, port, name):
    """A handshake that names a server, or none ("-")."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    c.wrap_socket(connect(host, port), server_hostname=None if name == "-" else name)
    return "worked"

def client_hello(name):
    out = ssl.MemoryBIO()
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        c.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()

def hello(host, port, name, before):
    """A ClientHello after something else, in one piece."""
    s = connect(host, port)
    s.sendall(unescape(before) + client_hello(name))
    return read(s)

def drip(host, port, text):
    return drip_bytes(host, port, unescape(text))

def drip_hello(host, port, name):
    return drip_bytes(host, port, client_hello(name)[:200])

def drip_bytes(host, port, b):
    """One byte at a time."""
    s = connect(host, port)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(len(b)):
        s.send(b[i : i + 1])
        time.sleep(0.002)
    s.shutdown(socket.SHUT_WR)
    return read(s)

def tls_split(host, port, name):
    """A ClientHello over several records, as RFC 8446, 5.1 allows."""
    hello = client_hello(name)[5:]
    half = hello.index(name.encode()) + len(name) - 2  # in the name
    s = connect(host, port)
    s.sendall(b"".join(b"\x16\x03\x01" + struct.pack("!H", len(b)) + b for b in (hello[:half], hello[half:])))
    return read(s)

def http(host, port, name, target="/"):
    return send(host, port, "GET %s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n" % (target, name))

def udp(host, port, text="hello"):
    family, kind, proto, _, addr = addresses(host, port, socket.SOCK_DGRAM)[0]
    s = socket.socket(family, kind, proto)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(unescape(text), addr)
    return "worked"

def udp_connected(host, port):
    """connect(2) and then write(2), as QUIC clients do."""
    family, kind, proto, _, addr = addresses(host, port, socket.SOCK_DGRAM)[0]
    s = socket.socket(family, kind, proto)
    s.connect(addr)
    s.send(b"\xc3\x00\x00\x00\x01\x08" + bytes(1194))
    return "worked"

def ping(host):
    """The ping socket, which needs no privilege (icmp(7))."""
    family, _, _, _, addr = addresses(host, 0, socket.SOCK_DGRAM)[0]
    six = family == socket.AF_INET6
    s = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    s.sendto(struct.pack("!BBHHH", 128 if six else 8, 0, 0, 1, 1) + b"ping", addr)
    return "worked"

def raw(host, proto):
    """A packet of any protocol."""
    family, _, _, _, addr = addresses(host, 0, socket.SOCK_RAW)[0]
    s = socket.socket(family, socket.SOCK_RAW, int(proto))
    s.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", addr)
    return "worked"

def protocol(host, port, kind, proto):
    """Other transports: SCTP 132, DCCP 33, UDP-Lite 136, MPTCP 262."""
    family, _, _, _, addr = addresses(host, port)[0]
    s = socket.socket(family, int(kind), int(proto))
    s.settimeout(LIMIT)
    if int(kind) == socket.SOCK_DGRAM:
        s.sendto(b"hello", addr)
        return "worked"
    s.connect(addr)
    return read(s)

def packet(link):
    """A frame on a link, of a type for experiments."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((link if link in [n for _, n in socket.if_nameindex()] else "lo", 0x88B5))
    s.send(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(46))
    return "worked"

def fastopen(host, port):
    """Data in the SYN: sendto(2) with MSG_FASTOPEN in place of connect(2)."""
    family, kind, proto, _, addr = addresses(host, port)[0]
    s = socket.socket(family, kind, proto)
    s.settimeout(LIMIT)
    s.sendto(b"hello", socket.MSG_FASTOPEN, addr)
    return read(s)

def bound(host, port, source):
    """From an address of the attacker's choice (IP_FREEBIND, ip(7))."""
    family, kind, proto, _, addr = addresses(host, port)[0]
    s = socket.socket(family, kind, proto)
    s.settimeout(LIMIT)
    if source != "lo":
        s.setsockopt(socket.SOL_IP, 15, 1)
        s.bind((source, 0))
    else:
        s.setsockopt(socket.SOL_SOCKET, 25, b"lo\0")  # SO_BINDTODEVICE
    s.connect(addr)
    return read(s)

def dns(server, name, kind, how="udp"):
    """A question in the attacker's own bytes; labels may hold anything."""
    kinds = {"A": 1, "NULL": 10, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255, "HTTPS": 65, "CNAME": 5}
    labels = b"".join(bytes([len(l)]) + l for l in (unescape(l) for l in name.split(".")) if l)
    query = struct.pack("!6H", 0x1234, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kinds[kind], 1)
    family, _, _, _, addr = addresses(server, 53)[0]
    if how == "tcp":
        s = connect(server, 53)
        s.sendall(struct.pack("!H", len(query)) + query)
        answer = s.recv(4096)[2:]
    else:
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(LIMIT)
        s.connect(addr)
        s.send(query)
        answer = s.recv(4096)
    if len(answer) < 12:
        return "no answer"
    code, count = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
    return "worked" if count else "answer code %d, %d records" % (code, count)

def fetch(*args):
    """curl, which follows where a server sends it."""
    if not shutil.which("curl"):
        return "missing curl"
    r = subprocess.run(["curl", "-sSL", "--max-time", str(LIMIT)] + list(args), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "worked" if r.returncode == 0 else r.stderr.strip().splitlines()[-1][:120]

def run(*args):
    """A program that must not succeed."""
    if not os.path.exists(args[0]):
        return "missing " + args[0]
    r = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT)
    said = (r.stderr.strip().splitlines() or ["status %d" % r.returncode])[-1][:120]
    return "worked" if r.returncode == 0 else said

def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return "worked"

def listen(host, port):
    """Taking the place of a listener."""
    family, kind, proto, _, addr = addresses(host, port)[0]
    s = socket.socket(family, kind, proto)
    s.bind(addr)
    s.listen()
    return "worked"

def listen_udp(host, port):
    family, kind, proto, _, addr = addresses(host, port, socket.SOCK_DGRAM)[0]
    socket.socket(family, kind, proto).bind(addr)
    return "worked"

def transparent(host):
    """Options that make a listener take over others' connections."""
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
    return "worked"

def mark():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 36, 1)  # SO_MARK
    return "worked"

def netlink(proto, message, kind, flags):
    """One request; what the kernel answers is an errno, 0 for done."""
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, proto)
    s.settimeout(LIMIT)
    s.send(struct.pack("=IHHII", 16 + len(message), kind, flags, 1, 0) + message)
    answer = s.recv(4096)
    if struct.unpack("=H", answer[4:6])[0] == 2:  # NLMSG_ERROR
        code = struct.unpack("=i", answer[16:20])[0]
        if code:
            raise OSError(-code, "netlink")
    return "worked"

def nflog(group):
    """Taking over what the rules log (NFULNL_CFG_CMD_BIND)."""
    message = struct.pack("!BBH", 0, 0, int(group)) + struct.pack("=HHB3x", 5, 1, 1)
    return netlink(12, message, 4 << 8 | 1, 5)

def destroy():
    """Closing others' connections (SOCK_DESTROY, sock_diag(7)): here one's own."""
    l = socket.create_server(("127.0.0.1", 0))
    port = l.getsockname()[1]
    local = socket.inet_aton("127.0.0.1") + bytes(12)
    ident = struct.pack("!HH", port, 0) + local + bytes(16) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    message = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ident
    return netlink(4, message, 21, 5)

def family(number, kind="2", proto="0"):
    """A family of sockets that nothing needs."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.socket(int(number), int(kind), int(proto))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "socket")
    os.close(fd)
    return "worked"

def unshare(flags):
    """New namespaces: CLONE_NEWUSER 0x10000000, CLONE_NEWNET 0x40000000."""
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(ctypes.get_errno() if libc.unshare(int(flags, 0)) else 0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, "unshare")
    return "worked"

def setns(path):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        os._exit(ctypes.get_errno() if libc.setns(fd, 0) else 0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, "setns")
    return "worked"

def unix(name):
    """An abstract socket, which belongs to the network namespace (unix(7))."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(LIMIT)
    s.connect("\0" + name)
    return read(s)

def main():
    check_apart()
    verbs = {k: v for k, v in globals().items() if callable(v)}
    for line in sys.stdin:
        words = line.split()
        start = time.monotonic()
        try:
            came = verbs[words[1]](*words[2:])
        except Exception as e:
            came = error(e)
        print(words[0], int((time.monotonic() - start) * 1000), came, sep="\t", flush=True)

if __name__ == "__main__":
    main()
