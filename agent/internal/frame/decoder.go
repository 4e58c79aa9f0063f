package frame

// keepBuffer is the largest payload buffer, in bytes, that a decoder keeps for the next frame.
const keepBuffer = MaxData

// Decoder cuts a byte stream into frames. The zero value is not ready: set From.
type Decoder struct {
	From Sender

	head    [HeaderSize]byte
	have    int // bytes of head that are there
	header  Header
	payload []byte // collected so far, when a frame does not lie in one piece
}

// Reset forgets a half-received frame.
func (d *Decoder) Reset() {
	d.have = 0
	d.payload = d.payload[:0]
}

// Feed takes the next bytes and calls handle for each frame that they complete. The payload is valid only
// during the call. It stops at the first error, of the format or of handle; then the decoder needs a Reset.
func (d *Decoder) Feed(p []byte, handle func(h Header, payload []byte) error) error {
	for len(p) > 0 {
		if d.have < HeaderSize {
			n := copy(d.head[d.have:], p)
			d.have += n
			p = p[n:]
			if d.have < HeaderSize {
				return nil
			}
			h, err := ParseHeader(d.head[:], d.From)
			if err != nil {
				return err
			}
			d.header = h
		}
		need := int(d.header.Length) - len(d.payload)
		if need > len(p) {
			// Grows with what has come, not with what the header promises.
			d.payload = append(d.payload, p...)
			return nil
		}
		payload := p[:need]
		if len(d.payload) > 0 {
			d.payload = append(d.payload, payload...)
			payload = d.payload
		}
		p = p[need:]
		d.have = 0
		if err := handle(d.header, payload); err != nil {
			return err
		}
		if cap(d.payload) > keepBuffer {
			d.payload = nil
		}
		d.payload = d.payload[:0]
	}
	return nil
}
