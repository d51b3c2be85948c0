package report

import "bytes"

// indent lays out compact JSON with two spaces a level, as json.Indent does,
// but keeps arrays of plain numbers on one line: the similarity matrices would
// otherwise be most of a result file, and mostly white space. src must be valid
// JSON; the result ends with a newline.
func indent(src []byte) []byte {
	src = bytes.TrimSpace(src)
	out := make([]byte, 0, len(src)+len(src)/2)
	depth := 0
	line := func() {
		out = append(out, '\n')
		for range depth {
			out = append(out, ' ', ' ')
		}
	}
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case '"':
			end := i + 1
			for src[end] != '"' {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			out = append(out, src[i:end+1]...)
			i = end
		case '[', '{':
			if c == '[' {
				if end := bytes.IndexAny(src[i+1:], `]["{`); end >= 0 && src[i+1+end] == ']' {
					row := bytes.ReplaceAll(src[i:i+end+2], []byte(","), []byte(", "))
					out = append(out, row...)
					i += end + 1
					continue
				}
			}
			out = append(out, c)
			if src[i+1] == ']' || src[i+1] == '}' {
				out = append(out, src[i+1])
				i++
				continue
			}
			depth++
			line()
		case ']', '}':
			depth--
			line()
			out = append(out, c)
		case ',':
			out = append(out, c)
			line()
		case ':':
			out = append(out, c, ' ')
		default:
			out = append(out, c)
		}
	}
	return append(out, '\n')
}
