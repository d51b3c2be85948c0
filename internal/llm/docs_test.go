package llm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page for users lists what the tables hold.
func TestDocumentedModels(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "models.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, name := range Architectures() {
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("docs/models.md has no row for model_type %s", name)
		}
	}
	for pattern := range splitPatterns {
		if !strings.Contains(page, "| `"+strings.ReplaceAll(pattern, "|", `\|`)+"` |") {
			t.Errorf("docs/models.md has no row for the pattern\n%s", pattern)
		}
	}
}
