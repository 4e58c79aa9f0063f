package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test program runs itself in other network namespaces, as the internet or as a program of the guest.

const (
	roleVariable = "SMOLVM_TAPGUARD_TEST_ROLE"
	patience     = 5 * time.Second
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "internet":
		if err := runInternet(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "wildcard":
		serveEverywhere()
	case "links":
		if err := reportDowns(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "guest":
		fmt.Println(runGuest(os.Args[1], os.Args[2:]))
	}
}

// runInternet serves until stdin ends: DNS on one address, HTTP and TLS on all. It says what comes in.
func runInternet() error {
	lines := make(chan string, 100)
	go func() {
		for line := range lines {
			fmt.Println(line)
		}
	}()
	report := func(line string) { lines <- line }
	table := map[string][]string{
		"ok.example": {siteAddress}, "deep.wild.example": {siteAddress}, "bad.example": {siteAddress},
		"rebind.example": {"10.1.2.3"},
	}
	if err := serveDNS(resolverAddress, table, report); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s by %s", r.Host, r.Proto)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "more\n")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	for _, port := range []string{"80", "443"} {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		if port == "443" {
			go func() { _ = server.ServeTLS(listener, "", "") }()
			continue
		}
		go func() { _ = server.Serve(listener) }()
	}
	report("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// runGuest does one thing and puts its result into words.
func runGuest(what string, args []string) string {
	switch what {
	case "http": // ADDRESS HOST
		return ask("http", args[0], args[1])
	case "https":
		return ask("https", args[0], args[1])
	case "dns": // NETWORK SERVER NAME
		return askDNS(args[0], args[1], args[2])
	case "connect": // NETWORK ADDRESS
		return connect(args[0], args[1])
	case "endless": // ADDRESS HOST: says "begun", then how it ended
		return readEndless(args[0], args[1])
	case "flood": // ADDRESS: a packet to each of its ports
		return flood(args[0])
	}
	return "unknown"
}

func flood(address string) string {
	socket, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return describe(err)
	}
	defer socket.Close()
	for port := 1; port < 1<<16; port++ {
		_, _ = socket.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(address), Port: port})
	}
	return "sent"
}

// ask gets a page from an address by a name, whatever the name's address is.
func ask(scheme, address, name string) string {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint: the test's own server
		Dial:            func(string, string) (net.Conn, error) { return net.DialTimeout("tcp", address, patience) },
	}
	client := &http.Client{Transport: transport, Timeout: patience}
	response, err := client.Get(scheme + "://" + name + "/")
	if err != nil {
		return describe(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return describe(err)
	}
	return fmt.Sprintf("%d %s", response.StatusCode, strings.ReplaceAll(string(body), "\n", " "))
}

func connect(network, address string) string {
	connection, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return describe(err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		_, _ = connection.Write([]byte("x"))
	}
	if _, err := connection.Read(make([]byte, 1)); err != nil {
		return describe(err)
	}
	return "data"
}

func readEndless(address, name string) string {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return describe(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET /endless HTTP/1.1\r\nHost: %s\r\n\r\n", name)
	reader := bufio.NewReader(connection)
	_ = connection.SetReadDeadline(time.Now().Add(2 * patience)) // Endless as it is, it counts as silence then.
	for begun := false; ; {
		line, err := reader.ReadString('\n')
		if err != nil {
			return describe(err)
		}
		if !begun && strings.HasPrefix(line, "more") {
			fmt.Println("begun")
			begun = true
		}
	}
}

func describe(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return "error: " + errno.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "error: silence"
	}
	return "error: " + err.Error()
}
