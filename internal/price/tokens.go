package price

import (
	"encoding/json"
	"sync"

	"github.com/tiktoken-go/tokenizer/codec"
)

// encoding is o200k_base, with which gpt-4o and all later models of OpenAI read.
// Making it takes some 15 ms.
var encoding = sync.OnceValue(codec.NewO200kBase)

// Tokens counts the tokens of a text as gpt-4o and OpenAI's later models count
// them. For others it is an estimate: vocabularies differ by some percent on
// English text. It is safe for concurrent use.
func Tokens(text string) int {
	n, err := encoding().Count(text)
	if err != nil { // bytes that are no text: each could be a token
		return len(text)
	}
	return n
}

// What the chat format adds: each message is opened, named and closed, and the
// answer is opened
// (https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken).
const (
	perMessage = 4
	perAnswer  = 3
)

// Prompt counts the prompt tokens of the body of a chat completion: its messages
// with what the chat format adds, and the schema that the answer is held to,
// which is shown to the model as well. The format of the latter is not published,
// so the count can be off by a few tokens; servers bill by their own count.
func Prompt(body []byte) (int, error) {
	var b struct {
		Messages []struct {
			Content string `json:"content"`
		} `json:"messages"`
		ResponseFormat struct {
			JSONSchema struct {
				Schema json.RawMessage `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return 0, err
	}
	n := perAnswer + Tokens(string(b.ResponseFormat.JSONSchema.Schema))
	for _, m := range b.Messages {
		n += perMessage + Tokens(m.Content)
	}
	return n, nil
}

// Limit is the most completion tokens that the body of a chat completion allows;
// 0 where it sets no limit.
func Limit(body []byte) (int, error) {
	var b struct {
		Most int `json:"max_completion_tokens"`
	}
	err := json.Unmarshal(body, &b)
	return b.Most, err
}
