package studies

import "testing"

func TestSpelled(t *testing.T) {
	for _, c := range []struct {
		s    string
		want bool
	}{
		{"", false}, {"a", true}, {"a-1_b", true}, {"1a", false}, {"-a", false}, {"a b", false}, {"a\n", false}, {"é", false}, {"aé", false},
	} {
		if got := spelled(c.s, letters+"_", letters+digits+"_-"); got != c.want {
			t.Errorf("%q: %v", c.s, got)
		}
	}
	for s, want := range map[string]bool{
		"gpt2": true, "Qwen/Qwen2.5-1.5B": true, "a/b/c": false, "/b": false, "a/": false, "": false, ".a/b": false, "a b": false, "a/b\n": false,
	} {
		if got := isHubID(s); got != want {
			t.Errorf("hub id %q: %v", s, got)
		}
	}
}
