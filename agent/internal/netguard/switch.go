package netguard

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"smolvm.dev/agent/internal/egress"
)

// namesInterface follows argv for the passt of the names: it takes its addresses from there.
var namesInterface = []string{"-i", "lo"}

// Config is what a Switch needs.
type Config struct {
	Identity
	Network netip.Prefix // The guests' own.
	Passt   []string     // argv of the passt in the host's network
	// HasNames has the namespace of the names made whatever the policy is; it answers DNS by TCP then.
	HasNames  bool
	Policy    *egress.Policy
	Host      *egress.Host
	Denials   *egress.Denials
	RateLimit int64 // Bytes a second in each direction; 0 for none.
	MTU       int   // Of the guest's interface, in bytes.
	// StartTimeout bounds each start of passt.
	StartTimeout time.Duration
	Log          *Messages
}

// Switch carries frames between one VMM and both passts.
type Switch struct {
	config   Config
	rules    *egress.Rules
	guard    *Guard
	resolver *egress.Resolver
	proxy    *egress.Proxy
	toHost   *backend
	toNames  *backend
	guest    *guestWriter
	up, down *pacer // nil where there is no limit
	quit     chan struct{}
	stopOnce sync.Once

	mutex sync.Mutex // of what follows
	ports map[uint16]bool
	room  *room // nil while there is none
}

// NewSwitch makes one that does nothing yet.
func NewSwitch(config Config) *Switch {
	rules := egress.NewRules(config.Policy, config.Host, config.Network)
	s := &Switch{
		config: config, rules: rules,
		guard:    NewGuard(config.Identity, rules, config.Denials.Note),
		resolver: egress.NewResolver(rules, config.Denials),
		guest:    newGuestWriter(),
		quit:     make(chan struct{}),
		ports:    map[uint16]bool{},
	}
	s.guard.limit = limit{config.RateLimit, config.MTU}
	s.up, s.down = newPacer(s.guard.limit, s.sendToPasst), newPacer(s.guard.limit, s.sendToGuest)
	if s.up != nil {
		s.guard.toPasst, s.guard.toGuest = s.up.queue, s.down.queue
	}
	s.proxy = egress.NewProxy(rules, s.resolver, config.Denials)
	s.toHost = s.newBackend("passt", ToHost, s.startHost)
	s.toNames = s.newBackend("the names' passt", ToNames, s.startNames)
	rules.OnChange(func() { s.end(s.guard.EndRefused()) })
	return s
}

func (s *Switch) newBackend(name string, lane Lane, start func() (*link, error)) *backend {
	b := newBackend(name, s.config.Log)
	b.start = start
	b.serve = func(from *link, quit <-chan struct{}) { s.fromPasst(from, lane, quit) }
	b.ended = func() { s.end(s.guard.EndLane(lane)) }
	return b
}

func (s *Switch) lane(lane Lane) *backend {
	if lane == ToNames {
		return s.toNames
	}
	return s.toHost
}

// Start runs what the policy needs, and returns when it works.
func (s *Switch) Start() error {
	failed := make(chan error, 1)
	go func() { failed <- s.prepare(s.config.Policy) }()
	err := s.toHost.up()
	if prepareErr := <-failed; err == nil {
		err = prepareErr
	}
	if err == nil && s.up != nil {
		go s.up.run(s.quit)
		go s.down.run(s.quit)
	}
	return err
}

// Stop ends both passts.
func (s *Switch) Stop() {
	s.stopOnce.Do(func() { close(s.quit) })
	s.toHost.down()
	s.toNames.down()
}

// Update puts another policy in force. When it fails the old one stays.
func (s *Switch) Update(policy *egress.Policy) error {
	if err := s.prepare(policy); err != nil {
		return err
	}
	s.rules.Update(policy)
	s.toHost.settle()
	s.toNames.settle()
	s.tidy(policy)
	return nil
}

// end tells both sides of connections that they have ended. The guest may be paused: nobody waits for it.
func (s *Switch) end(endings []*Ending) {
	if len(endings) == 0 {
		return
	}
	go func() {
		for _, ending := range endings { // passt's sockets first, whatever the guest takes.
			s.lane(ending.Lane).write(ending.ToPasst, always)
		}
		for _, ending := range endings {
			if !s.guest.tell(ending.ToGuest) {
				return // It is told when it goes on with one of them.
			}
		}
	}()
}

func (s *Switch) endOne(ending *Ending) {
	s.lane(ending.Lane).write(ending.ToPasst, always)
	s.guest.tell(ending.ToGuest)
}

func always() bool { return true }

// FromGuest carries frames until the VMM ends its connection.
func (s *Switch) FromGuest(vmm net.Conn) {
	s.guest.set(vmm)
	var epoch uint64
	still := func() bool { return s.guard.Epoch() == epoch }
	var of *connection // of the frame that is added
	var ways [lanes]batch
	for lane := range ways {
		lane, to := Lane(lane), s.lane(Lane(lane))
		ways[lane].write = func(messages []byte) {
			if !to.write(messages, still) {
				s.guard.lost(messages)
			}
		}
		if s.up != nil {
			ways[lane].queue = func(message []byte) {
				if !s.up.queue.push(waiting{message: message, lane: lane, epoch: epoch, of: of}) {
					s.guard.lost(message)
				}
			}
		}
	}
	flush := func() {
		for lane := range ways {
			ways[lane].flush()
		}
	}
	isFirst := true
	frames := &splitter{source: s.guard.guestMAC[:]}
	_ = relay(vmm, frames, func(buffer []byte, start, end int) {
		if isFirst {
			epoch, isFirst = s.guard.Epoch(), false
		}
		verdict := s.guard.Outbound(buffer[start+lengthSize : end])
		if verdict.Forward {
			of = verdict.of
			ways[verdict.Lane].add(buffer, start, end)
		} else if verdict.Question != nil {
			s.answer(verdict.Question, verdict.From)
		} else if verdict.Reply != nil {
			s.guest.tell(verdict.Reply)
		}
		if verdict.Ended != nil {
			flush() // What goes to passt of that one goes before its end.
			s.endOne(verdict.Ended)
		}
	}, func() {
		flush()
		isFirst = true
	})
}

// answer answers a DNS question. Where the guest cannot ask by TCP a long answer goes by UDP.
func (s *Switch) answer(question []byte, from conversation) {
	transport := egress.TransportLongUDP
	if s.guard.HasNames() {
		transport = egress.TransportUDP
	}
	s.resolver.TryAnswer(question, transport, func(answer []byte) {
		message := s.guard.answer(from, answer)
		if s.down != nil {
			s.down.queue.push(waiting{message: message, isOurs: true})
			return
		}
		s.guest.tell(message)
	})
}

// isStale tells that a frame must not go on any more.
func (s *Switch) isStale(w waiting) bool {
	return !w.isOurs && (isClosed(w.quit) || s.guard.isStale(w))
}

func (s *Switch) sendToPasst(w waiting) bool {
	sent := s.lane(w.lane).write(w.message, func() bool { return !s.isStale(w) })
	if !sent {
		s.guard.lost(w.message)
	}
	return sent
}

// sendToGuest tells also of what the guest has taken a part of that it was sent.
func (s *Switch) sendToGuest(w waiting) bool {
	if w.isOurs {
		s.guest.tell(w.message)
		return true
	}
	if s.isStale(w) {
		return false
	}
	s.guest.write(w.message, func() bool { return s.isStale(w) })
	return true
}

// fromPasst carries frames of a passt. What a stalled guest has not taken when the rules change is dropped: the guest
// must not get it under other rules, and the frames that are allowed are sent again.
func (s *Switch) fromPasst(from *link, lane Lane, quit <-chan struct{}) {
	var epoch uint64
	isFirst := true
	stop := func() bool { return isClosed(quit) || s.guard.Epoch() != epoch }
	way := batch{write: func(messages []byte) { s.guest.write(messages, stop) }}
	if s.down != nil {
		way.queue = func(message []byte) { s.down.queue.push(waiting{message: message, epoch: epoch, quit: quit}) }
	}
	err := relay(from, &splitter{}, func(buffer []byte, start, end int) {
		if isFirst {
			epoch, isFirst = s.guard.Epoch(), false
		}
		if s.guard.Inbound(buffer[start+lengthSize:end], lane) {
			way.add(buffer, start, end)
		}
	}, func() {
		way.flush()
		isFirst = true
	})
	if errors.Is(err, errBadFrame) {
		_ = from.Close()
	}
}

func (s *Switch) startHost() (*link, error) {
	l, err := startPasst(s.config.Passt, s.config.Log)
	if err != nil {
		return nil, err
	}
	return l, s.awaitReady(l)
}

func (s *Switch) awaitReady(l *link) error {
	gateway, err := l.awaitReady(&s.guard.crafter, s.config.StartTimeout)
	if err != nil {
		l.stop()
		return err
	}
	s.guard.setGatewayMAC(gateway)
	return nil
}
