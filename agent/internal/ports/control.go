package ports

import (
	"net/netip"

	"smolvm.dev/agent/internal/control"
)

const maxPort = 1<<16 - 1

type listenRequest struct {
	HostAddress string `json:"hostAddress"`
	HostPort    *int   `json:"hostPort"`
	GuestPort   *int   `json:"guestPort"`
}

type closeRequest struct {
	HostAddress string `json:"hostAddress"`
	HostPort    *int   `json:"hostPort"`
}

type listenAnswer struct {
	HostPort int `json:"hostPort"`
}

type listAnswer struct {
	Ports []Forward `json:"ports"`
}

// Operations are what may be asked for over the control socket.
func (s *Server) Operations() map[string]control.Handler {
	return map[string]control.Handler{
		"listen": control.Handle(s.listen),
		"close":  control.Handle(s.close),
		"list":   control.Handle(func(struct{}) (interface{}, error) { return listAnswer{s.List()}, nil }),
	}
}

func (s *Server) listen(request listenRequest) (interface{}, error) {
	address, err := parseAddress(request.HostAddress)
	if err == nil {
		err = checkPort("hostPort", request.HostPort, 0)
	}
	if err == nil {
		err = checkPort("guestPort", request.GuestPort, 1)
	}
	if err != nil {
		return nil, err
	}
	port, err := s.Listen(address, *request.HostPort, *request.GuestPort)
	if err != nil {
		return nil, err
	}
	return listenAnswer{port}, nil
}

func (s *Server) close(request closeRequest) (interface{}, error) {
	address, err := parseAddress(request.HostAddress)
	if err == nil {
		err = checkPort("hostPort", request.HostPort, 1)
	}
	if err != nil {
		return nil, err
	}
	return nil, s.Close(address, *request.HostPort)
}

func parseAddress(text string) (netip.Addr, error) {
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return address, &control.Error{Code: "EINVAL", Message: "\"hostAddress\" is an IP address"}
	}
	return address, nil
}

func checkPort(name string, port *int, least int) error {
	if port == nil || *port < least || *port > maxPort {
		return &control.Error{Code: "EINVAL", Message: "\"" + name + "\" is a port"}
	}
	return nil
}
