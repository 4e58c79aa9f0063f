package command

import (
	"reflect"
	"testing"
)

const passwd = "root:x:0:0:root:/root:/bin/bash\nbroken line\nada:x:1000:100:,:/home/ada:\n"

func TestFindAccount(t *testing.T) {
	for _, test := range []struct {
		user string
		want Account
		ok   bool
	}{
		{"root", Account{Name: "root", Home: "/root", Shell: "/bin/bash"}, true},
		{"0", Account{Name: "root", Home: "/root", Shell: "/bin/bash"}, true},
		{"ada", Account{Name: "ada", Home: "/home/ada", Shell: "/bin/sh", UID: 1000, GID: 100}, true},
		{"1000", Account{Name: "ada", Home: "/home/ada", Shell: "/bin/sh", UID: 1000, GID: 100}, true},
		{"4242", Account{Name: "4242", Home: "/", Shell: "/bin/sh", UID: 4242, GID: 4242}, true},
		{"4294967295", Account{}, false},
		{"nobody-knows", Account{}, false},
	} {
		got, ok := findAccount(passwd, test.user)
		if ok != test.ok || ok && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %+v %v", test.user, got, ok)
		}
	}
	if root, ok := findAccount("", "root"); !ok || root.Home != "/root" {
		t.Errorf("without passwd: %+v", root)
	}
}

func TestFindGroups(t *testing.T) {
	got := findGroups("wheel:x:10:root,ada\nadam:x:11:adam\ndisk:x:6:\naudio:x:29:ada", "ada")
	if !reflect.DeepEqual(got, []uint32{10, 29}) {
		t.Error(got)
	}
}

func TestEnvironmentOrder(t *testing.T) {
	e := &Environment{}
	e.Set([]string{"A=vm", "PATH=/vm"})
	env := e.merge(&Account{Name: "ada", Home: "/h", Shell: "/s"}, &Spec{Environment: []string{"A=own", "A=last"}})
	want := []string{"PATH=/vm", "HOME=/h", "USER=ada", "LOGNAME=ada", "SHELL=/s", "LANG=C.UTF-8", "A=last"}
	if !reflect.DeepEqual(env, want) {
		t.Error(env)
	}
}

func TestTerminalTypeIsADefault(t *testing.T) {
	e := &Environment{}
	if term := lookupEnv(e.merge(&Account{}, &Spec{}), "TERM"); term != "" {
		t.Errorf("without a terminal: %q", term)
	}
	if term := lookupEnv(e.merge(&Account{}, &Spec{Terminal: true}), "TERM"); term != "xterm-256color" {
		t.Errorf("with one: %q", term)
	}
	e.Set([]string{"TERM=vt100"})
	if term := lookupEnv(e.merge(&Account{}, &Spec{Terminal: true}), "TERM"); term != "vt100" {
		t.Errorf("with one of the VM: %q", term)
	}
}
