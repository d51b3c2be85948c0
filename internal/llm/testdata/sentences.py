"""Another implementation of the rules on sentences, to compare with.

Reads a JSON list of responses and prints for each, as a line of JSON, the
sentences as [start, end) in code points, and how many there are with two defects
of the reference scripts put in: "swallow", an abbreviation takes the white space
behind it along, newlines included; "everywhere", every occurrence of a text that
was matched once is protected, wherever it stands.

Marks that end no sentence are replaced by private characters in a copy of the
text, so that places hold; what is left divides the copy.
"""
import json
import re
import sys

PRIVATE = {".": "\ue000", "!": "\ue001", "\n": "\ue002"}


def thinking(text):
    start = text.rfind("<think>")
    start = 0 if start < 0 else start + len("<think>")
    end = text.find("</think>", start)
    inner = text[start:] if end < 0 else text[start:end]
    return start + len(inner) - len(inner.lstrip()), inner.strip()


def protect(text, swallow, everywhere):
    copy = list(text)

    def hide(at, found, mark, newlines):
        for i, c in enumerate(found):
            if c == mark or newlines and c == "\n":
                copy[at + i] = PRIVATE[c]

    def each(pattern, mark, newlines=False):
        matches = list(re.finditer(pattern, text))
        for m in matches:
            hide(m.start(), m.group(), mark, newlines)
        for found in {m.group() for m in matches} if everywhere else ():
            at = text.find(found)
            while at >= 0:
                hide(at, found, mark, newlines)
                at = text.find(found, at + 1)

    each(r"\d+\.\d+" if everywhere else r"\d\.(?=\d)", ".")
    each(r"(?<!\w)[A-Za-z]\.\s+[A-Za-z]" if everywhere else r"(?<!\w)[A-Za-z]\.\s+(?=[A-Za-z])", ".", swallow)
    each(r"(?<!\w)[A-Za-z]!(?!!)", "!")
    return "".join(copy)


def sentences(text, swallow=False, everywhere=False, min_words=3):
    out, previous = [], None
    for m in re.finditer(r"[^.!?;\n]*(?:\.+|!+|\?+|;+|\n|$)", protect(text, swallow, everywhere)):
        piece = text[m.start():m.end()]
        start = m.start() + len(piece) - len(piece.lstrip())
        end = m.start() + len(piece.rstrip())
        if start >= end:
            continue
        if text[start] == '"' and m.start() > 0:
            if previous is not None:
                out[previous][1] = start + 1
            start += 1
            while start < end and text[start].isspace():
                start += 1
            if start >= end:
                continue
        previous = None
        if len(text[start:end].split()) >= min_words:
            previous = len(out)
            out.append([start, end])
    return out


for response in json.load(sys.stdin):
    offset, text = thinking(response)
    print(json.dumps({
        "sentences": [[offset + a, offset + b] for a, b in sentences(text)],
        "swallow": len(sentences(text, True)),
        "everywhere": len(sentences(text, True, True)),
    }))
