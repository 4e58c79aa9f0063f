package files

import (
	"os"
	"testing"
)

// FuzzReceive feeds trees that may be anything. Whatever comes, nothing is left beside the destination, nothing outside
// of it changes, and no descriptor stays open.
func FuzzReceive(f *testing.F) {
	for _, data := range brokenTrees() {
		if len(data) < maxFields {
			f.Add(data)
		}
	}
	f.Add(tree(directoryRecord(""), directoryRecord("d"), fileRecord("d/f", 10), contentRecord(1, "abc"),
		contentRecord(5, "d"), leftOutRecord("d/pipe"), linkRecord("d/l", "../d/f"), fileRecord("late", 1<<30)))
	f.Add(tree(linkRecord("", "x")))
	f.Add(tree(fileRecord("", 3), contentRecord(0, "abc")))
	dir := f.TempDir()
	put(f, dir+"/outside/secret", "old")
	before := look(f, dir+"/outside")
	f.Fuzz(func(t *testing.T, data []byte) {
		descriptors := countDescriptors(t)
		reply, code := perform(t, newExchange(data), "receive", text(tagPath, dir+"/in/to"))
		if after := countDescriptors(t); after != descriptors {
			t.Errorf("%d descriptors, %d before", after, descriptors)
		}
		if after := look(t, dir+"/outside"); after != before {
			t.Errorf("outside: %s", after)
		}
		names, _ := os.ReadDir(dir)
		inside, _ := os.ReadDir(dir + "/in")
		if code != "" && len(names) != 1 || code == "" && (len(names) != 2 || len(inside) != 1) {
			t.Errorf("%q left %v %v", code, names, inside)
		}
		if code == "" {
			if number(reply[tagEntries]) == 0 {
				t.Error("nothing came")
			}
			// What was taken can be sent again.
			x := newExchange(nil)
			expect(t, "", x, "send", text(tagPath, dir+"/in/to"))
			records(t, x.output.Bytes())
			must(t, os.RemoveAll(dir+"/in"))
		}
	})
}
