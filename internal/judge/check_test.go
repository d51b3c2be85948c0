package judge

import "testing"

func TestCheck(t *testing.T) {
	s := Numbered([]string{"One is first.", "Two is next."})
	cats := []Category{{ID: 4, Title: "Counting", Description: "It counts."}, {ID: 9, Title: "Waiting", Description: "It waits."}}
	accuracy, completeness := AccuracyPrompt(cats[0], s, true).User, CompletenessPrompt(cats, s, true).User
	for _, tc := range []struct {
		user, content, finish string
		want                  Reason
	}{
		{TitlePrompt(TitleInput{Sentences: s}).User, `{"title": "Counting", "description": "It counts."}`, "stop", ""},
		{TitlePrompt(TitleInput{Sentences: s}).User, `{"description": "It counts."}`, "stop", Unreadable},
		{accuracy, `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 2, "answer": "No"}]}`, "stop", ""},
		{accuracy, `{"answers": [{"id": 1, "answer": "Yes"}, {"id": 2, "answer": "No"}]}`, "length", CutOff},
		{accuracy, `{"answers": [{"id": 1, "answer": "Yes"}]}`, "stop", Missing},
		{accuracy, `{"answers": [{"id": 3, "answer": "Yes"}]}`, "stop", BadID},
		{completeness, `{"answers": [{"id": 1, "category": "4", "confidence": 7}, {"id": 2, "category": "None", "confidence": 0}]}`, "stop", ""},
		{completeness, `{"answers": [{"id": 1, "category": "4", "confidence": 7}, {"id": 2, "category": "5", "confidence": 3}]}`, "stop", Missing},
		{FitPrompt(cats[0], s[0], true).User, `{"score": 11}`, "stop", BadValue},
		{FitPrompt(cats[0], s[0], true).User, `{"score": 10}`, "stop", ""},
		{SimilarityPrompt(cats[0], cats[1]).User, `{"score": 3}`, "stop", ""},
		{SimilarityPrompt(cats[0], cats[1]).User, ``, "stop", Empty},
		{"no prompt of ours", `{"score": 3}`, "stop", Unreadable},
	} {
		if got := ReasonOf(Check(tc.user, Reply{Content: tc.content, FinishReason: tc.finish})); got != tc.want {
			t.Errorf("%.40q answered with %q: %q, want %q", tc.user, tc.content, got, tc.want)
		}
	}
}
