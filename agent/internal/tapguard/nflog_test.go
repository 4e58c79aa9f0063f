package tapguard

import (
	"bytes"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/netlink"
)

// loggedMessage is a packet message as the kernel writes it.
func loggedMessage(family byte, attributes []byte) []byte {
	body := append([]byte{family, 0, 0x40, 0x07}, attributes...)
	message := make([]byte, syscall.SizeofNlMsghdr)
	netlink.Native.PutUint32(message, uint32(len(message)+len(body)))
	netlink.Native.PutUint16(message[4:], logPacket)
	return append(message, body...)
}

func TestParseLogged(t *testing.T) {
	attributes := netlink.AppendAttribute(nil, 1, []byte{8, 0, 1, 0})
	attributes = netlink.AppendAttribute(attributes, packetPrefix, []byte("not-allowed\x00"))
	attributes = netlink.AppendAttribute(attributes, packetPayload, []byte{0x45, 1, 2})
	data := loggedMessage(syscall.AF_INET, attributes)
	data = append(data, loggedMessage(syscall.AF_INET6, netlink.AppendAttribute(nil, packetPrefix, []byte("ip6\x00")))...)
	got := parseLogged(data)
	if len(got) != 2 {
		t.Fatalf("%d packets: %+v", len(got), got)
	}
	if got[0].Prefix != "not-allowed" || got[0].Family != syscall.AF_INET || !bytes.Equal(got[0].Packet, []byte{0x45, 1, 2}) {
		t.Errorf("first: %+v", got[0])
	}
	if got[1].Prefix != "ip6" || got[1].Family != syscall.AF_INET6 || got[1].Packet != nil {
		t.Errorf("second: %+v", got[1])
	}
}

func TestParseLoggedTakesAnything(t *testing.T) {
	whole := loggedMessage(syscall.AF_INET, netlink.AppendAttribute(nil, packetPayload, []byte{0x45, 1, 2}))
	for cut := range whole {
		parseLogged(whole[:cut])
		for _, value := range []byte{0, 1, 0x7f, 0xff} {
			changed := append([]byte(nil), whole...)
			changed[cut] = value
			parseLogged(changed)
		}
	}
}

func TestConfigRequest(t *testing.T) {
	want := []byte{
		48, 0, 0, 0, 0x01, 0x04, 0x05, 0x00, 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
		0, 0, 0x40, 0x07, // nfgenmsg with the group
		5, 0, 1, 0, 1, 0, 0, 0, // bind
		10, 0, 2, 0, 0, 0, 0, 128, 2, 0, 0, 0, // copy 128 bytes
		8, 0, 4, 0, 0, 0, 0, 1, // flush after 10 ms
	}
	if got := configRequest(0x4007); !bytes.Equal(got, want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
}

func TestAnswerOf(t *testing.T) {
	answer := make([]byte, syscall.SizeofNlMsghdr+20)
	netlink.Native.PutUint32(answer, uint32(len(answer)))
	netlink.Native.PutUint16(answer[4:], syscall.NLMSG_ERROR)
	if done, err := answerOf(answer); !done || err != nil {
		t.Errorf("no error: %v %v", done, err)
	}
	busy := int32(syscall.EBUSY)
	netlink.Native.PutUint32(answer[syscall.SizeofNlMsghdr:], uint32(-busy))
	if done, err := answerOf(answer); !done || err != syscall.EBUSY {
		t.Errorf("EBUSY: %v %v", done, err)
	}
	if done, err := answerOf(loggedMessage(syscall.AF_INET, nil)); done || err != nil {
		t.Errorf("a packet before the answer: %v %v", done, err)
	}
}
