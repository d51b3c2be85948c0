package judge

// Check reads the answer to a prompt as the metrics do, and returns the *Failure
// for which it, or a part of it, counts as failed; nil if all of it can be used.
// user is the prompt's user message.
func Check(user string, r Reply) error {
	content, err := r.Text()
	if err != nil {
		return err
	}
	d, err := ReadData(user)
	if err != nil {
		return err
	}
	ids, used := IDs(d.Sentences), 0
	switch d.Task {
	case TaskTitle:
		_, _, err = ParseTitle(content)
		return err
	case TaskFit:
		_, _, err = ParseFit(content)
		return err
	case TaskSimilarity:
		_, _, err = ParseSimilarity(content)
		return err
	case TaskAccuracy:
		got, failed := ParseAccuracy(content, ids)
		used, err = len(got), failed
	case TaskCompleteness:
		offered := make([]int, len(d.Categories))
		for i, c := range d.Categories {
			offered[i] = c.ID
		}
		got, failed := ParseCompleteness(content, ids, offered)
		used, err = len(got), failed
	}
	if err == nil && used < len(ids) {
		return fail(Missing, "%d of %d sentences are answered", used, len(ids))
	}
	return err
}
