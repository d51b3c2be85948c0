// Drives a batchd with the official client: node drive.mjs BASE EXPIRING KEY.
// EXPIRING is the base URL of a server whose batches expire at once. good.jsonl
// has three requests that can be answered and then one that cannot; many.jsonl
// has more than are answered before the next call arrives.
import assert from "node:assert/strict";
import * as buffer from "node:buffer";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";

globalThis.File ??= buffer.File; // Node.js 18

const [base, expiring, key] = process.argv.slice(2);
const connect = (baseURL, apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const client = connect(base, key);

const upload = (client, name) => client.files.create({ file: fs.createReadStream(name), purpose: "batch" });
const create = (client, input_file_id, more) =>
  client.batches.create({ input_file_id, endpoint: "/v1/chat/completions", completion_window: "24h", ...more });

async function wait(client, id) {
  for (const end = Date.now() + 120_000; Date.now() < end; await sleep(20)) {
    const b = await client.batches.retrieve(id);
    if (["completed", "failed", "expired", "cancelled"].includes(b.status)) return b;
    assert(["validating", "in_progress", "finalizing", "cancelling"].includes(b.status), b.status);
  }
  assert.fail(`batch ${id} does not end`);
}

async function lines(client, id) {
  const text = await (await client.files.content(id)).text();
  const all = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  const byID = new Map(all.map((r) => [r.custom_id, r]));
  assert.equal(byID.size, all.length, "a request in a file twice");
  return byID;
}

// upload, retrieve, download
const file = await upload(client, "good.jsonl");
assert.equal(file.object, "file");
assert.equal(file.filename, "good.jsonl");
assert.equal(file.purpose, "batch");
assert.equal(file.bytes, fs.statSync("good.jsonl").size);
assert(Math.abs(file.created_at - Date.now() / 1000) < 60);
assert.deepEqual(await client.files.retrieve(file.id), file);
assert.deepEqual(await client.files.waitForProcessing(file.id), file);
assert.equal(await (await client.files.content(file.id)).text(), fs.readFileSync("good.jsonl", "utf8"));

// create, poll, results
const created = await create(client, file.id, { metadata: { run: "7", who: "Zoë" } });
assert.equal(created.object, "batch");
assert.equal(created.status, "validating");
assert.equal(created.input_file_id, file.id);
assert.deepEqual(created.metadata, { run: "7", who: "Zoë" });
const done = await wait(client, created.id);
assert.equal(done.status, "completed");
assert.deepEqual(done.request_counts, { total: 4, completed: 3, failed: 1 });
assert(done.created_at <= done.in_progress_at && done.in_progress_at <= done.finalizing_at && done.finalizing_at <= done.completed_at);
assert.equal(done.expires_at, done.created_at + 86_400);
assert.equal(done.cancelled_at ?? null, null);
assert.equal(done.errors ?? null, null);
const out = await lines(client, done.output_file_id);
const bad = await lines(client, done.error_file_id);
assert.deepEqual([...out.keys()].sort(), ["request-0", "request-1", "request-2"]);
assert.deepEqual([...bad.keys()], ["request-3"]);
for (const r of out.values()) {
  assert.equal(r.error, null);
  assert.equal(r.response.status_code, 200);
  const c = r.response.body;
  assert.equal(c.object, "chat.completion");
  assert.equal(c.choices[0].message.role, "assistant");
  assert.equal(typeof JSON.parse(c.choices[0].message.content).score, "number");
  assert.equal(c.usage.total_tokens, c.usage.prompt_tokens + c.usage.completion_tokens);
}
assert.equal(bad.get("request-3").response.status_code, 400);

// lists, page by page
const made = [created.id];
for (let i = 0; i < 4; i++) {
  const f = await client.files.create({ file: await toFile(fs.readFileSync("good.jsonl"), `in${i}.jsonl`), purpose: "batch" });
  const b = await create(client, f.id);
  made.unshift((await wait(client, b.id)).id);
}
const seen = [];
for await (const b of client.batches.list({ limit: 2 })) seen.push(b.id);
assert.deepEqual(seen, made);
let page = await client.batches.list({ limit: 2 });
const sizes = [page.data.length];
while (page.hasNextPage()) sizes.push((page = await page.getNextPage()).data.length);
assert.deepEqual(sizes, [2, 2, 1]);
const purposes = {};
for await (const f of client.files.list({ limit: 3, order: "asc" })) purposes[f.purpose] = (purposes[f.purpose] ?? 0) + 1;
assert.deepEqual(purposes, { batch: 5, batch_output: 10 });
assert.equal((await client.files.list({ purpose: "batch" })).data.length, 5);
for await (const m of client.models.list()) assert.equal(m.object, "model");

// delete
const deleted = await client.files.delete(done.output_file_id);
assert.deepEqual(deleted, { id: done.output_file_id, object: "file", deleted: true });

// cancel
const long = await create(client, (await upload(client, "many.jsonl")).id);
const stopping = await client.batches.cancel(long.id);
assert.equal(stopping.status, "cancelling");
await refused(client.files.delete(long.input_file_id), OpenAI.ConflictError, 409, null, "id");
const stopped = await wait(client, long.id);
assert.equal(stopped.status, "cancelled");
assert(stopped.cancelled_at >= stopped.cancelling_at);
const spared = await lines(client, stopped.error_file_id);
const kept = stopped.output_file_id ? (await lines(client, stopped.output_file_id)).size : 0;
assert.equal(spared.size + kept, 40_000);
for (const r of spared.values()) assert.equal(r.error.code, "batch_cancelled");

// expiry
const late = connect(expiring, key);
const expired = await wait(late, (await create(late, (await upload(late, "good.jsonl")).id)).id);
assert.equal(expired.status, "expired");
assert(expired.expired_at >= expired.created_at);
assert.equal(expired.output_file_id ?? null, null);
const lost = await lines(late, expired.error_file_id);
assert.equal(lost.size, 4);
for (const r of lost.values()) assert.equal(r.error.code, "batch_expired");

// an input file with mistakes
const twice = fs.readFileSync("good.jsonl", "utf8").split("\n")[0];
const wrong = await client.files.create({ file: await toFile(Buffer.from(`${twice}\n${twice}\n`), "twice.jsonl"), purpose: "batch" });
const failed = await wait(client, (await create(client, wrong.id)).id);
assert.equal(failed.status, "failed");
assert.equal(failed.errors.object, "list");
assert.equal(failed.errors.data[0].code, "duplicate_custom_id");
assert.equal(failed.errors.data[0].line, 2);

// errors have the client's types
async function refused(call, type, status, code, param) {
  await assert.rejects(call, (e) => {
    assert(e instanceof type, `${e?.constructor?.name}: ${e}`);
    assert.equal(e.status, status);
    assert.equal(e.code ?? null, code);
    assert.equal(e.param ?? null, param);
    assert(e.type && e.error.message, String(e));
    return true;
  });
}
const { BadRequestError, AuthenticationError, NotFoundError, ConflictError } = OpenAI;
await refused(client.files.retrieve("file-none"), NotFoundError, 404, null, "id");
await refused(client.files.content("file-none"), NotFoundError, 404, null, "id");
await refused(client.batches.retrieve("batch_none"), NotFoundError, 404, null, "id");
await refused(client.batches.cancel("batch_none"), NotFoundError, 404, null, "id");
await refused(client.batches.cancel(failed.id), ConflictError, 409, null, null);
await refused(client.batches.list({ limit: 101 }), BadRequestError, 400, null, "limit");
await refused(client.batches.list({ after: "batch_none" }), BadRequestError, 400, null, "after");
await refused(create(client, "file-none"), BadRequestError, 400, null, "input_file_id");
await refused(create(client, file.id, { endpoint: "/v1/embeddings" }), BadRequestError, 400, "invalid_value", "endpoint");
await refused(create(client, file.id, { completion_window: "1h" }), BadRequestError, 400, "invalid_value", "completion_window");
await refused(client.files.create({ file: await toFile(Buffer.from("a,b"), "t.csv"), purpose: "batch" }), BadRequestError, 400, "invalid_file_format", "file");
await refused(client.files.create({ file: await toFile(Buffer.from("x"), "x.jsonl"), purpose: "vision" }), BadRequestError, 400, null, "purpose");
await refused(client.images.generate({ prompt: "a server" }), NotFoundError, 404, "unknown_url", null);
await refused(connect(base, "sk-wrong").batches.list(), AuthenticationError, 401, "invalid_api_key", null);

console.log("all said");
