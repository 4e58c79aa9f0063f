package session

import (
	"encoding/binary"
	"sync"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// killLimit bounds the wait for the processes of a killed command: one may hang in the kernel.
const killLimit = 3 * time.Second

// run is the life of a command, from the request to EXITED or FAILED.
func (e *exec) run() {
	request := e.request
	process, outputs, failed := e.start()
	e.request.spec = command.Spec{}
	e.conn.settle(request.size)
	if failed != nil {
		if e.input != nil {
			e.input.stop()
		}
		e.conn.forget(e.id)
		_ = e.conn.outlet.send(failedMessage(e.id, failed))
		return
	}
	started := frame.AppendU32(nil, 1, uint32(process.Pid))
	// Before adopt: a signal that waited may end the command, and STARTED comes first all the same.
	_ = e.conn.outlet.send(message{kind: frame.Started, stream: e.id, payload: started})
	e.adopt(process, outputs)
	if e.input != nil {
		e.conn.spawn(e, e.input.run)
	}
	var pumps sync.WaitGroup
	pumps.Add(len(outputs))
	for _, p := range outputs {
		p := p
		e.conn.spawn(e, func() {
			defer pumps.Done()
			p.run()
		})
	}
	<-process.Done
	if !request.keepOrphans {
		process.KillAll()
	}
	if e.wasKilled() {
		// Whoever kills a command is told of its end when all of it is gone.
		process.AwaitEmpty(killLimit)
	}
	e.mu.Lock()
	e.ended = true
	e.interruptOutputs()
	e.mu.Unlock()
	e.changed.Broadcast()
	if e.input != nil {
		e.input.stop()
	}
	pumps.Wait()
	process.Release()
	e.conn.forget(e.id)
	e.report(process, outputs)
	prepareOutputs()
}

// start makes the pipes and starts the command.
func (e *exec) start() (*command.Process, [2]*pump, *command.Failure) {
	var none [2]*pump
	if e.request.invalid != nil {
		return nil, none, e.request.invalid
	}
	files, err := takeFiles(e.input != nil)
	if err != nil {
		return nil, none, &command.Failure{Code: command.ErrnoName(err),
			Message: "Cannot make pipes for a command: " + err.Error()}
	}
	process, failed := e.conn.config.Starter.Start(&e.request.spec, files.child())
	files.closeChildEnds()
	if failed != nil {
		files.close()
		return nil, none, failed
	}
	if e.input != nil {
		e.input.attach(files.stdin.ours)
	}
	return process, [2]*pump{
		newPump(e, frame.Stdout, files.outputs[0].ours, e.request.limits[frame.Stdout]),
		newPump(e, frame.Stderr, files.outputs[1].ours, e.request.limits[frame.Stderr]),
	}, nil
}

// report sends how the command has ended.
func (e *exec) report(process *command.Process, outputs [2]*pump) {
	var payload []byte
	if status := process.Status; status.Signaled() {
		payload = frame.AppendU32(payload, 2, uint32(status.Signal()))
	} else {
		payload = frame.AppendU32(payload, 1, uint32(status.ExitStatus()))
	}
	payload = frame.AppendU64(payload, 3, outputs[0].dropped)
	payload = frame.AppendU64(payload, 4, outputs[1].dropped)
	payload = frame.AppendU64(payload, 5, uint64(process.RunTime.Microseconds()))
	_ = e.conn.outlet.send(
		message{kind: frame.End, channel: frame.Stdout, stream: e.id},
		message{kind: frame.End, channel: frame.Stderr, stream: e.id},
		message{kind: frame.Exited, stream: e.id, payload: payload},
	)
}

// sendCredit lets the client send n more bytes of stdin.
func (e *exec) sendCredit(n int) {
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], uint32(n))
	_ = e.conn.outlet.send(message{kind: frame.Credit, channel: frame.Stdin, stream: e.id, payload: payload[:]})
}
