package egress

import (
	"encoding/json"
	"net/netip"
	"os"
	"sort"
	"sync"
	"time"
)

const (
	// denialWindow is how long refusals of one kind are counted into one line.
	denialWindow = 10 * time.Second
	// denialTick is how often it is looked whether lines are due.
	denialTick = time.Second
	// denialLinesPerSecond bounds the lines; what is over waits, and is counted meanwhile.
	denialLinesPerSecond = 20
	// denialsRemembered bounds the kinds in memory. What is over is counted by protocol and rule alone.
	denialsRemembered = 4096
	// denialNameLimit bounds a name in a line, in bytes.
	denialNameLimit = 255
	// denialFileLimit bounds the file, in bytes; when it is reached the newer half is kept.
	denialFileLimit = 1 << 20
)

// Denial is one refusal. Address, Port, Name and Allow are left zero where there is none.
type Denial struct {
	Protocol Protocol
	Address  netip.Addr
	Port     uint16
	Name     string
	Rule     Rule
	Allow    string // the entry that would allow it
}

// Denials writes refusals as lines of JSON, few enough for a file of 1 MiB whatever the guest does. Each line counts
// for itself: the first refusal of its kind has a line at once, with count 1, and what follows within 10 s has one
// together. A nil *Denials forgets them.
type Denials struct {
	now  func() time.Time
	wake func(time.Duration, func())

	mu     sync.Mutex
	file   *os.File
	known  map[denialKind]*denialCount
	awake  bool
	second time.Time // when the counting of lines began
	lines  int       // since then
}

type denialKind struct {
	protocol Protocol
	address  netip.Addr
	port     uint16
	name     string
	rule     Rule
}

type denialCount struct {
	denialKind
	allow string
	count int       // not yet written
	at    time.Time // of the newest of them
	due   time.Time // when they may be written, or the kind is forgotten
}

type denialLine struct {
	At       int64    `json:"at"` // ms since 1970
	Protocol Protocol `json:"protocol"`
	Address  *string  `json:"address"`
	Port     *uint16  `json:"port"`
	Name     *string  `json:"name"`
	Rule     Rule     `json:"rule"`
	Count    int      `json:"count"`
	Allow    *string  `json:"allow"`
}

// NewDenials appends to the file, which must be open for reading and for appending. A nil file gives nil.
func NewDenials(file *os.File) *Denials {
	if file == nil {
		return nil
	}
	return &Denials{
		file:  file,
		known: map[denialKind]*denialCount{},
		now:   time.Now,
		wake:  func(after time.Duration, f func()) { time.AfterFunc(after, f) },
	}
}

// Note records a refusal. The first of its kind is in the file when Note returns.
func (d *Denials) Note(denial Denial) {
	if d == nil {
		return
	}
	if len(denial.Name) > denialNameLimit {
		denial.Name = denial.Name[:denialNameLimit]
	}
	kind := denialKind{denial.Protocol, denial.Address, denial.Port, denial.Name, denial.Rule}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	entry := d.known[kind]
	if entry == nil && len(d.known) >= denialsRemembered {
		kind, denial.Allow = denialKind{protocol: denial.Protocol, rule: denial.Rule}, ""
		entry = d.known[kind]
	}
	if entry == nil {
		entry = &denialCount{denialKind: kind, allow: denial.Allow, due: now}
		d.known[kind] = entry
	}
	entry.count++
	entry.at = now
	if !now.Before(entry.due) && d.mayWrite(now) {
		d.write(entry, now)
	}
	d.sleep()
}

// Flush writes what has been counted and not yet written. Call it before the program ends.
func (d *Denials) Flush() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for _, entry := range d.waiting(func(entry *denialCount) bool { return true }) {
		d.write(entry, now)
	}
}

// tick writes what is due, and forgets kinds that have not come again.
func (d *Denials) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.awake = false
	now := d.now()
	for _, entry := range d.waiting(func(entry *denialCount) bool { return !now.Before(entry.due) }) {
		if !d.mayWrite(now) {
			break
		}
		d.write(entry, now)
	}
	for kind, entry := range d.known {
		if entry.count == 0 && !now.Before(entry.due) {
			delete(d.known, kind)
		}
	}
	d.sleep()
}

// sleep has tick called again while there is anything to count.
func (d *Denials) sleep() {
	if !d.awake && len(d.known) > 0 {
		d.awake = true
		d.wake(denialTick, d.tick)
	}
}

// waiting returns what is to be written, those that have waited longest first.
func (d *Denials) waiting(wanted func(*denialCount) bool) []*denialCount {
	var entries []*denialCount
	for _, entry := range d.known {
		if entry.count > 0 && wanted(entry) {
			entries = append(entries, entry)
		}
	}
	sort.Slice(entries, func(i, j int) bool {
		if !entries[i].due.Equal(entries[j].due) {
			return entries[i].due.Before(entries[j].due)
		}
		return entries[i].at.Before(entries[j].at)
	})
	return entries
}

func (d *Denials) mayWrite(now time.Time) bool {
	if now.Sub(d.second) >= time.Second {
		d.second, d.lines = now, 0
	}
	d.lines++
	return d.lines <= denialLinesPerSecond
}

// write appends the line. A full disk loses lines; nothing of the network depends on them.
func (d *Denials) write(entry *denialCount, now time.Time) {
	line := denialLine{
		At:       entry.at.UnixMilli(),
		Protocol: entry.protocol,
		Name:     orNull(entry.name),
		Rule:     entry.rule,
		Count:    entry.count,
		Allow:    orNull(entry.allow),
	}
	if entry.address.IsValid() {
		line.Address = orNull(entry.address.String())
	}
	if entry.port != 0 {
		line.Port = &entry.port
	}
	entry.count, entry.due = 0, now.Add(denialWindow)
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	text = append(text, '\n')
	d.makeRoom(int64(len(text)))
	_, _ = d.file.Write(text)
}

// makeRoom keeps the newer half of a file that would become too long. A reader may see it empty for a moment.
func (d *Denials) makeRoom(more int64) {
	info, err := d.file.Stat()
	if err != nil || info.Size()+more <= denialFileLimit {
		return
	}
	kept := make([]byte, denialFileLimit/2)
	n, _ := d.file.ReadAt(kept, info.Size()-int64(len(kept)))
	kept = kept[:n]
	for i, c := range kept {
		if c == '\n' { // The first line is cut.
			kept = kept[i+1:]
			break
		}
	}
	if d.file.Truncate(0) == nil {
		_, _ = d.file.Write(kept)
	}
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
