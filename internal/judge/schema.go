package judge

import (
	"encoding/json"
	"slices"
	"strconv"
)

// JSON schemas for structured outputs, in the subset that strict mode takes:
// every property required, no further ones, no numeric bounds (the parsers
// check ranges). The explanation comes before the verdict, so that a model
// writes its reasons first.

type property struct {
	name   string
	schema string
}

// object renders the schema of an object with the properties in that order.
func object(properties ...property) string {
	s := `{"type":"object","properties":{`
	required := ""
	for i, p := range properties {
		if i > 0 {
			s += ","
			required += ","
		}
		s += strconv.Quote(p.name) + ":" + p.schema
		required += strconv.Quote(p.name)
	}
	return s + `},"required":[` + required + `],"additionalProperties":false}`
}

func answerList(item string) json.RawMessage {
	return json.RawMessage(object(property{"answers", `{"type":"array","items":` + item + `}`}))
}

const (
	stringType  = `{"type":"string"}`
	integerType = `{"type":"integer"}`
)

func titleSchema() json.RawMessage {
	return json.RawMessage(object(property{"title", stringType}, property{"description", stringType}))
}

func accuracySchema(explain bool) json.RawMessage {
	return answerList(explained(explain,
		property{"id", integerType},
		property{"explanation", stringType},
		property{"answer", `{"type":"string","enum":["Yes","No"]}`},
	))
}

// explained is object, without the explanation where none is wanted.
func explained(explain bool, properties ...property) string {
	if !explain {
		properties = slices.DeleteFunc(properties, func(p property) bool { return p.name == "explanation" })
	}
	return object(properties...)
}

func completenessSchema(cs []Category, explain bool) json.RawMessage {
	ids := make([]string, 0, len(cs)+1)
	for _, c := range cs {
		ids = append(ids, strconv.Itoa(c.ID))
	}
	return answerList(explained(explain,
		property{"id", integerType},
		property{"explanation", stringType},
		property{"category", `{"type":"string","enum":` + encode(append(ids, none)) + `}`},
		property{"confidence", integerType},
	))
}

func scoreSchema(explain bool) json.RawMessage {
	return json.RawMessage(explained(explain, property{"explanation", stringType}, property{"score", integerType}))
}
