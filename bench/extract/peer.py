"""The same blocks in PyTorch, float32, for clusterflow's bench/extract.

Reads from standard input {"model": folder, "blocks": n, "threads": n, "ids": [[...], ...]} and writes one JSON
object: the seconds, the mean state of each sequence after the last block, and the peak of memory. Like
clusterflow it goes block by block, so that the model need not fit the memory; operations are those of
transformers' eager code.
"""
import json, math, mmap, resource, struct, sys, time
import torch
import torch.nn.functional as F

job = json.load(sys.stdin)
torch.set_num_threads(job["threads"])
torch.set_grad_enabled(False)
if job.get("probe"):  # how fast are this library's products here?
    a, b = torch.randn(1024, 1536), torch.randn(2048, 1536)
    best = 1e9
    for _ in range(8):
        begin = time.time()
        F.linear(a, b)
        best = min(best, time.time() - begin)
    print(json.dumps({"gflops": 2 * 1024 * 1536 * 2048 / best / 1e9, "version": torch.__version__}))
    sys.exit()

config = json.load(open(job["model"] + "/config.json"))
heads, kv, eps = config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]
dim = config["hidden_size"] // heads
file = open(job["model"] + "/model.safetensors", "rb")
data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
(size,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + size])


def raw(name):
    t = header[name]
    begin, end = t["data_offsets"]
    part = bytearray(data[8 + size + begin:8 + size + end])
    return torch.frombuffer(part, dtype=torch.bfloat16).reshape(t["shape"])


def tensor(name):
    return raw(name).float() if name in header else None


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def turn(x, cos, sin):
    half = dim // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


embedding = raw("model.embed_tokens.weight")
states = [embedding[torch.tensor(ids)].float() for ids in job["ids"]]
del embedding
longest = max(map(len, job["ids"]))
inverse = 1.0 / config["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
angle = torch.outer(torch.arange(longest, dtype=torch.float64), inverse)
angle = torch.cat((angle, angle), -1)
cos, sin = angle.cos().float(), angle.sin().float()
begin, cpu = time.time(), time.process_time()
for block in range(job["blocks"]):
    at = f"model.layers.{block}."
    names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    w = {n: (tensor(at + n + ".weight"), tensor(at + n + ".bias")) for n in names}
    before, after = tensor(at + "input_layernorm.weight"), tensor(at + "post_attention_layernorm.weight")
    for i, x in enumerate(states):
        t = len(x)
        h = norm(x, before)
        q = F.linear(h, *w["self_attn.q_proj"]).view(t, heads, dim).transpose(0, 1)
        k = F.linear(h, *w["self_attn.k_proj"]).view(t, kv, dim).transpose(0, 1)
        v = F.linear(h, *w["self_attn.v_proj"]).view(t, kv, dim).transpose(0, 1)
        q, k = turn(q, cos[:t], sin[:t]), turn(k, cos[:t], sin[:t])
        k, v = k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)
        mask = torch.full((t, t), -math.inf).triu(1)
        p = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(dim) + mask, -1)
        x = x + F.linear((p @ v).transpose(0, 1).reshape(t, heads * dim), *w["self_attn.o_proj"])
        h = norm(x, after)
        states[i] = x + F.linear(F.silu(F.linear(h, *w["mlp.gate_proj"])) * F.linear(h, *w["mlp.up_proj"]), *w["mlp.down_proj"])
seconds, cpu = time.time() - begin, time.process_time() - cpu
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": usage.ru_maxrss * 1024, "means": [x.mean(0).tolist() for x in states]}))
