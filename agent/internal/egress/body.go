package egress

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

const (
	// bodyBuffer is also the longest line within a chunked body, in bytes.
	bodyBuffer = 4096
	// trailerLimit bounds the fields after a chunked body, in bytes.
	trailerLimit = 16 << 10
	// chunkDigits bounds the hexadecimal digits of a chunk's size.
	chunkDigits = 15
)

var errBody = errors.New("the body of the request is malformed")

// copyBody passes on the body of a request, and not a byte behind it.
func (r *request) copyBody(to io.Writer, from *bufio.Reader) error {
	if !r.chunked {
		_, err := io.CopyN(to, from, r.length)
		return err
	}
	for {
		line, err := bodyLine(from)
		if err != nil {
			return err
		}
		size, err := chunkSize(line)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(to, line+"\r\n"); err != nil {
			return err
		}
		if size == 0 {
			return copyTrailer(to, from)
		}
		if _, err := io.CopyN(to, from, size); err != nil {
			return err
		}
		if line, err := bodyLine(from); err != nil || line != "" {
			return errBody
		}
		if _, err := io.WriteString(to, "\r\n"); err != nil {
			return err
		}
	}
}

func chunkSize(line string) (int64, error) {
	digits, extension, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil || len(digits) > chunkDigits || !isFieldValue(extension) {
		return 0, errBody
	}
	return int64(size), nil
}

func copyTrailer(to io.Writer, from *bufio.Reader) error {
	for left := trailerLimit; ; {
		line, err := bodyLine(from)
		if err != nil {
			return err
		}
		name, value, found := strings.Cut(line, ":")
		if left -= len(line) + 2; left < 0 || line != "" && (!found || !isToken(name) || !isFieldValue(value)) {
			return errBody
		}
		if _, err := io.WriteString(to, line+"\r\n"); err != nil || line == "" {
			return err
		}
	}
}

// bodyLine reads a line and cuts its end off.
func bodyLine(from *bufio.Reader) (string, error) {
	line, err := from.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errBody
	}
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(string(line), "\r\n") {
		return "", errBody
	}
	return string(line[:len(line)-2]), nil
}
