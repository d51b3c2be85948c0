// Tokenizes a JSON list of texts with one of Hugging Face's npm packages, in
// this thread, a number of times:
//
//   node peer.mjs PACKAGE NODE_MODULES TOKENIZER_DIR TEXTS.json IDS.jsonl PASSES
//
// Prints the seconds that loading and each pass took as JSON and writes the ids
// of each text as one line.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const [, , name, modules, dir, input, output, passes] = process.argv;
const { Tokenizer } = createRequire(modules + '/')(name);
const texts = JSON.parse(fs.readFileSync(input, 'utf8'));

const seconds = (from) => (performance.now() - from) / 1000;
const begin = performance.now();
let encode;
if (name === 'tokenizers') { // the Rust library's binding
  const t = Tokenizer.fromFile(dir + '/tokenizer.json');
  encode = async (text) => (await t.encode(text, null, { addSpecialTokens: false })).getIds();
} else {
  const read = (file) => JSON.parse(fs.readFileSync(`${dir}/${file}`, 'utf8'));
  const t = new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
  encode = (text) => t.encode(text, { add_special_tokens: false }).ids;
}
const times = { load: seconds(begin), passes: [] };
let ids = [];
for (let i = 0; i < Number(passes); i++) {
  ids = [];
  const start = performance.now();
  for (const text of texts) {
    const got = encode(text);
    ids.push(got instanceof Promise ? await got : got);
  }
  times.passes.push(seconds(start));
}
fs.writeFileSync(output, ids.map((x) => JSON.stringify(x) + '\n').join(''));
console.log(JSON.stringify(times));
