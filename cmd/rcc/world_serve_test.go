package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// countedPorts is how many ports from 20000 on have a server that tells its own
// address and then echoes, in every network: so that each probe has one of its own.
const (
	countedFirst = 20000
	countedPorts = 300
)

func listenCounted(hits worldHits) error {
	abstract, err := net.Listen("unix", "@rcc-world") // of this network namespace (unix(7))
	if err != nil {
		return err
	}
	go serveConns(abstract, func(c net.Conn) { fmt.Fprintln(c, "this is the host") })
	for port := countedFirst; port < countedFirst+countedPorts; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		go serveConns(countedListener{l, hits}, func(c net.Conn) {
			fmt.Fprintf(c, "this is %s\n", c.LocalAddr())
			io.Copy(c, c)
		})
	}
	return nil
}

// serveWeb answers on the ports of HTTP and HTTPS, for every name and address:
//
//	/                   which name and address was asked
//	/redirect?to=URL    goes there
//	/bytes?n=N          N bytes
//	/drip?ms=N          ten lines, N ms between them
//	/upload             tells how many bytes came
//	/git/…              the bare repositories in $WORK/world/git, over git's protocol
//	else                files of $WORK/world/www/NAME; "index" for a folder
//
// Port 2007 takes bytes until the client's half is closed, and tells how many.
func (c worldConfig) serveWeb(hits worldHits) error {
	handler := c.webHandler()
	for _, port := range []int{80, 8080, 443, 8443, 2007} {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		counted := countedListener{l, hits}
		web := &http.Server{Handler: handler, TLSConfig: &tls.Config{GetCertificate: c.certificate}, ErrorLog: log.New(io.Discard, "", 0)}
		switch port {
		case 443, 8443:
			go web.ServeTLS(counted, "", "")
		case 2007:
			go serveConns(counted, func(c net.Conn) {
				tellBytes(c, c)
			})
		default:
			go web.Serve(counted)
		}
	}
	return nil
}

// tellBytes takes all that comes and tells how much it was.
func tellBytes(w io.Writer, r io.Reader) {
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		fmt.Fprintf(w, "%d bytes, then %v\n", n, err)
		return
	}
	fmt.Fprintf(w, "%d bytes\n", n)
}

func (c worldConfig) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.FormValue("to"))
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		block := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		for ; n > 0; n -= int64(len(block)) {
			if _, err := w.Write(block[:min(n, int64(len(block)))]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		for i := range 10 {
			fmt.Fprintln(w, "drop", i)
			http.NewResponseController(w).Flush()
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		tellBytes(w, r.Body)
	})
	repositories := filepath.Join(c.Dir, "git")
	mux.Handle("/git/", &cgi.Handler{
		Path: gitHTTPBackend(), Root: "/git", Env: []string{"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(c.Dir, "git/config")},
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if file := filepath.Join(c.Dir, "www", filepath.Base(host), filepath.Clean(r.URL.Path)); r.URL.Path != "/" {
			for _, file := range []string{file, filepath.Join(file, "index")} {
				if data, err := os.ReadFile(file); err == nil {
					w.Write(data)
					return
				}
			}
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%s at %s\n", r.Host, r.Context().Value(http.LocalAddrContextKey))
	})
	return mux
}

// gitHTTPBackend is git's own server program.
func gitHTTPBackend() string {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return "/no-git"
	}
	return filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
}

// serveSSH gives each connection to port 22 a server of its own, as inetd(8)
// would. It runs as who runs the tests: the ordinary user in a user namespace
// where his id is his own, root where the folder that sshd asks for can be made.
// The configuration is the script's, in $WORK/world/sshd_config.
func (c worldConfig) serveSSH(hits worldHits) error {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // not on an ordinary user's path
	}
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return err
	}
	go serveConns(l, func(conn net.Conn) {
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			return
		}
		defer file.Close()
		cmd := exec.Command(sshd, "-i", "-e", "-f", filepath.Join(c.Dir, "sshd_config"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		if c.UID == 0 {
			cmd = exec.Command("sh", "-c", `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$0" "$@"`, sshd, "-i", "-e", "-f", filepath.Join(c.Dir, "sshd_config"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		} else {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: c.UID, HostID: 0, Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: c.GID, HostID: 0, Size: 1}}
		}
		out, err := os.OpenFile(filepath.Join(c.Dir, "sshd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return
		}
		defer out.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, out
		hits.add("ssh")
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(out, err)
		}
	})
	return nil
}

// makeCA makes the authority that all servers' certificates are from.
func (c worldConfig) makeCA() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The World's CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.Dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(filepath.Join(c.Dir, "ca.key"), private, 0o600),
	)
}

// certificate is made for whatever name is asked for, or the address.
func (c worldConfig) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	caPEM, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	private, err := os.ReadFile(filepath.Join(c.Dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(caPEM)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	caKey, err := x509.ParseECPrivateKey(private)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a server of the world"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if hello.ServerName != "" {
		template.DNSNames = []string{hello.ServerName}
	} else if tcp, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
		template.IPAddresses = []net.IP{tcp.IP}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
