// Package llm turns responses into what is clustered: it finds their
// sentences, tokenizes them, and runs the blocks of a decoder over them.
//
//   - [Thinking] and [Sentences] work on byte offsets of the response.
//   - [OpenTokenizer] reads Hugging Face's tokenizer.json (byte-level BPE);
//     every token keeps the bytes of the original text that it stands for.
//   - [Open] maps a Hugging Face checkpoint, and [Checkpoint.Forward] gives the
//     residual stream after the blocks that are asked for. The table
//     architectures lists what can be run.
//
// Layers are counted from 0, and the hidden states of layer l are the output
// of block l, before the final norm: what model.model.layers[l] returns in
// transformers.
package llm
