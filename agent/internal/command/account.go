package command

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Account is what /etc/passwd and /etc/group say about a user. They are read by hand because the image may use
// any libc or none.
type Account struct {
	Name, Home, Shell string
	UID, GID          uint32
	Groups            []uint32
}

const defaultShell = "/bin/sh"

// LookupAccount finds a user by name or number below root, the directory that holds etc. A number without an
// entry is a user too, with nothing but that number. ok is false for an unknown name.
func LookupAccount(root, user string) (a Account, ok bool) {
	if a, ok = findAccount(passwdFile.read(root+"/etc/passwd"), user); !ok {
		return a, false
	}
	if a.UID != 0 {
		a.Groups = findGroups(groupFile.read(root+"/etc/group"), a.Name)
	}
	return a, true
}

var passwdFile, groupFile cachedFile

// cachedFile keeps a small file's content as long as the file looks the same.
type cachedFile struct {
	mu      sync.Mutex
	path    string
	seen    syscall.Stat_t
	content string
}

// racy is how old a file must be before it is believed that another change would show: times in a file system are as
// coarse as the kernel's tick, and some have whole seconds.
const racy = 2 * time.Second

func (c *cachedFile) read(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var now syscall.Stat_t
	if syscall.Stat(path, &now) != nil {
		return ""
	}
	now.Atim = c.seen.Atim // changes with every reading
	if c.path == path && c.seen == now {
		return c.content
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	c.path = ""
	if changed := time.Unix(now.Ctim.Unix()); time.Since(changed) > racy {
		c.path, c.seen, c.content = path, now, string(content)
	}
	return string(content)
}

func findAccount(passwd, user string) (a Account, ok bool) {
	number, numberErr := strconv.ParseUint(user, 10, 32)
	byNumber := numberErr == nil
	var found *Account
	eachLine(passwd, 7, func(f []string) bool {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return true
		}
		if f[0] != user && (!byNumber || uid != number) {
			return true
		}
		found = &Account{Name: f[0], Home: f[5], Shell: f[6], UID: uint32(uid), GID: uint32(gid)}
		return false
	})
	switch {
	case found != nil:
		a = *found
	case user == "root" || byNumber && number == 0:
		a = Account{Name: "root", Home: "/root"}
	case byNumber && number != 1<<32-1: // -1 means "no change" to the kernel
		a = Account{Name: user, UID: uint32(number), GID: uint32(number)}
	default:
		return a, false
	}
	if a.Home == "" {
		a.Home = "/"
	}
	if a.Shell == "" {
		a.Shell = defaultShell
	}
	return a, true
}

func findGroups(groups, name string) (ids []uint32) {
	eachLine(groups, 4, func(f []string) bool {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return true
		}
		for _, member := range strings.Split(f[3], ",") {
			if member == name {
				ids = append(ids, uint32(gid))
				break
			}
		}
		return true
	})
	return ids
}

// eachLine visits the lines that have at least the given number of fields, until visit returns false.
func eachLine(text string, fields int, visit func([]string) bool) {
	for len(text) > 0 {
		line := text
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		if parts := strings.Split(line, ":"); len(parts) >= fields && !visit(parts) {
			return
		}
	}
}
