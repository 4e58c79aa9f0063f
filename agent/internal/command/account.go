package command

import (
	"os"
	"strconv"
	"strings"
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
	passwd, _ := os.ReadFile(root + "/etc/passwd")
	if a, ok = findAccount(string(passwd), user); !ok {
		return a, false
	}
	if a.UID != 0 {
		groups, _ := os.ReadFile(root + "/etc/group")
		a.Groups = findGroups(string(groups), a.Name)
	}
	return a, true
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
