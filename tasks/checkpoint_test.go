package tasks_test

import (
	"testing"

	"clusterflow/internal/llm/llmtest"
)

const oneToken = llmtest.OneToken

// makeCheckpoint writes a small random decoder to dir, and returns dir.
func makeCheckpoint(t testing.TB, dir, modelType string, seed int64) string {
	t.Helper()
	if err := (llmtest.Checkpoint{ModelType: modelType, Seed: seed}).Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
