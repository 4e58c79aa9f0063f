package tapguard

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/netlink"
)

// From <linux/netfilter/nfnetlink.h> and <linux/netfilter/nfnetlink_log.h>.
const (
	netlinkNetfilter = 12 // NETLINK_NETFILTER
	solNetlink       = 270
	netlinkNoEnobufs = 5 // NETLINK_NO_ENOBUFS: messages that did not fit are dropped without a word

	logPacket = 4<<8 | 0 // NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET
	logConfig = 4<<8 | 1 // NFULNL_MSG_CONFIG

	configCommand = 1  // NFULA_CFG_CMD
	configMode    = 2  // NFULA_CFG_MODE
	configTimeout = 4  // NFULA_CFG_TIMEOUT
	commandBind   = 1  // NFULNL_CFG_CMD_BIND
	copyPacket    = 2  // NFULNL_COPY_PACKET
	packetPayload = 9  // NFULA_PAYLOAD
	packetPrefix  = 10 // NFULA_PREFIX
	familyHeader  = 4  // struct nfgenmsg
)

const (
	// copyRange is how much of a packet is copied, in bytes: an IPv4 header with all options, and the ports.
	copyRange = 128
	// flushAfter is how long the kernel may collect packets before it hands them over, in hundredths of a second.
	flushAfter = 1
	// logReceive is the longest message taken, in bytes. The kernel collects a page at most.
	logReceive = 64 << 10
	// packetsPerSecond bounds the work for a guest that knocks without end. What comes beyond it waits in the socket's
	// buffer, and what does not fit there is dropped by the kernel.
	packetsPerSecond = 200
	// answerLimit is how long the kernel may take to answer.
	answerLimit = 2 * time.Second
	// busyLimit is how long a group may still belong to a process that is just ending.
	busyLimit = 2 * time.Second
	busyPause = 20 * time.Millisecond
)

// Logged is one packet that a rule logged.
type Logged struct {
	// Prefix is the text of the rule that logged it.
	Prefix string
	// Family is the protocol family in whose rules it was: AF_INET, AF_INET6...
	Family uint8
	// Packet is the beginning of the packet, from its network header on.
	Packet []byte
}

// Log receives what the packet filter logs to one group (nfnetlink_log).
type Log struct {
	file *os.File
	raw  syscall.RawConn
}

// OpenLog binds a group, which needs CAP_NET_ADMIN. Receiving needs nothing any more.
func OpenLog(group uint16) (*Log, error) {
	for start := time.Now(); ; time.Sleep(busyPause) {
		log, err := openLog(group)
		if !errors.Is(err, syscall.EBUSY) || time.Since(start) > busyLimit {
			return log, err
		}
	}
}

func openLog(group uint16) (*Log, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkNetfilter)
	if err != nil {
		return nil, err
	}
	limit := syscall.NsecToTimeval(int64(answerLimit))
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	_ = syscall.SetsockoptInt(fd, solNetlink, netlinkNoEnobufs, 1)
	if err := bindGroup(fd, group); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "nflog")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Log{file: file, raw: raw}, nil
}

// bindGroup asks for a group's packets and waits for the kernel's answer.
func bindGroup(fd int, group uint16) error {
	request := configRequest(group)
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, logReceive)
	for {
		n, from, err := syscall.Recvfrom(fd, buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if !netlink.IsKernel(from) {
			continue
		}
		if done, err := answerOf(buffer[:n]); done {
			return err
		}
	}
}

// configRequest binds a group and says how much of each packet is wanted, and how soon.
func configRequest(group uint16) []byte {
	body := []byte{syscall.AF_UNSPEC, 0, byte(group >> 8), byte(group)}
	body = netlink.AppendAttribute(body, configCommand, []byte{commandBind})
	body = netlink.AppendAttribute(body, configMode, []byte{0, 0, copyRange >> 8, copyRange & 0xff, copyPacket, 0})
	body = netlink.AppendAttribute(body, configTimeout, []byte{0, 0, 0, flushAfter})
	return netlink.Message(logConfig, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK, 1, body)
}

// answerOf finds the answer to a request among packets, which may come before it.
func answerOf(data []byte) (done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return true, err
	}
	for _, message := range messages {
		if message.Header.Type != syscall.NLMSG_ERROR {
			continue // NLMSG_DONE ends a row of packets.
		}
		return netlink.Answer(message)
	}
	return false, nil
}

// Run hands each packet to take until the log is closed. Packet is only valid during the call.
func (l *Log) Run(take func(Logged)) error {
	buffer := make([]byte, logReceive)
	window, taken := time.Now(), 0
	for {
		n, from, err := l.receive(buffer)
		switch {
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ENOBUFS):
			continue
		case err != nil:
			return fmt.Errorf("cannot read refused packets: %w", err)
		case !netlink.IsKernel(from):
			continue
		}
		for _, logged := range parseLogged(buffer[:n]) {
			take(logged)
			taken++
		}
		if taken < packetsPerSecond {
			continue
		}
		if left := time.Second - time.Since(window); left > 0 {
			time.Sleep(left)
		}
		window, taken = time.Now(), 0
	}
}

func (l *Log) receive(buffer []byte) (n int, from syscall.Sockaddr, err error) {
	failure := l.raw.Read(func(fd uintptr) bool {
		n, from, err = syscall.Recvfrom(int(fd), buffer, 0)
		return err != syscall.EAGAIN
	})
	if failure != nil {
		return 0, nil, failure
	}
	return n, from, err
}

// Close lets go of the group.
func (l *Log) Close() error { return l.file.Close() }

// parseLogged reads the packets of one datagram of the kernel; what does not parse is left out.
func parseLogged(data []byte) []Logged {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil
	}
	var all []Logged
	for _, message := range messages {
		if message.Header.Type != logPacket || len(message.Data) < familyHeader {
			continue
		}
		logged := Logged{Family: message.Data[0]}
		netlink.Attributes(message.Data[familyHeader:], func(kind uint16, value []byte) {
			switch kind {
			case packetPayload:
				logged.Packet = value
			case packetPrefix:
				logged.Prefix = netlink.Text(value)
			}
		})
		all = append(all, logged)
	}
	return all
}
