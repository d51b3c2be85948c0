"""transformers on the same card, for clusterflow's bench/cuda. Commands follow each
other after a plus sign:

make FOLDER KIND SHAPE           a checkpoint of random weights, saved by transformers; of the shape
                                 outliers, with some columns of the norms large, as in trained models
states FOLDER IDS OUT PRECISION  states after every block, float32, as safetensors layer.N
speed FOLDER IDS LAYER SIZE...   tokens a second to the block, hidden states only: kinds of attention (all, or sdpa
                                 alone where sizes are given) and tokens a batch
"""
import json, sys, time
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

torch.set_grad_enabled(False)
torch.backends.cuda.matmul.allow_tf32 = False

SHAPES = {
    "small": dict(hidden_size=320, intermediate_size=904, num_hidden_layers=4, num_attention_heads=5, num_key_value_heads=1, vocab_size=152064),
    "1.5b": dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=13, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=13, num_attention_heads=32, num_key_value_heads=8, vocab_size=152064),
    "70b": dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=4, num_attention_heads=64, num_key_value_heads=8, vocab_size=152064),
}

SHAPES["outliers"] = SHAPES["small"]


def make(folder, kind, shape):
    torch.manual_seed(1)
    extra = dict(max_position_embeddings=131072, tie_word_embeddings=True)
    if kind == "qwen3":
        extra["head_dim"] = 128
    if kind == "llama":
        extra["rope_theta"] = 500000.0
        extra["rope_scaling"] = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    config = AutoConfig.for_model(kind, **SHAPES[shape], **extra)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.normal_(0, 0.1)
        elif "norm" in name:
            p.normal_(1, 0.1)
            if shape == "outliers" and len(p) == config.hidden_size:
                p[7::40] *= 8
    model.to(torch.bfloat16).save_pretrained(folder)


def read(path):
    """ids to the end of the last sentence: nothing after it matters"""
    lines = map(json.loads, open(path))
    return [line["ids"][: line["spans"][-1][1]] for line in lines if line["spans"]]


def load(folder, dtype, blocks=None, attention="sdpa"):
    extra = {} if blocks is None else dict(num_hidden_layers=blocks)
    model = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation=attention, **extra).cuda().eval()
    return model


def states(folder, path, out, precision):
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
    model = load(folder, dtype)
    kept = [[] for _ in model.layers]
    for i, block in enumerate(model.layers):
        block.register_forward_hook(lambda m, a, o, i=i: kept[i].append((o[0] if isinstance(o, tuple) else o)[0].float().cpu()))
    for ids in read(path):
        model(torch.tensor([ids]).cuda(), use_cache=False)
    save_file({f"layer.{i}": torch.cat(k).contiguous() for i, k in enumerate(kept)}, out)


def compare(a, b):
    from safetensors.torch import load_file
    a, b = load_file(a), load_file(b)
    print(json.dumps({"transformers_relative_error": [float((a[f"layer.{i}"].double() - b[f"layer.{i}"].double()).norm() / b[f"layer.{i}"].double().norm()) for i in range(len(a))]}))


def speed(folder, path, layer, *sizes):
    ids = sorted(read(path), key=len, reverse=True)
    total = sum(map(len, ids))
    for attention in ("sdpa",) if sizes else ("sdpa", "flash_attention_2", "eager"):
        try:
            model = load(folder, torch.bfloat16, int(layer) + 1, attention)
        except Exception as e:
            print(json.dumps({"attention": attention, "error": str(e)[:120]}))
            continue
        for budget in map(int, sizes) if sizes else (8192, 32768, 131072) if attention != "eager" else (8192,):
            batches, at = [], 0
            while at < len(ids):
                n = max(1, budget // len(ids[at]))
                batches.append(ids[at:at + n])
                at += n

            def run(which):
                for b in which:
                    longest = len(b[0])
                    x = torch.zeros(len(b), longest, dtype=torch.long)
                    mask = torch.zeros(len(b), longest, dtype=torch.long)
                    for i, s in enumerate(b):
                        x[i, :len(s)] = torch.tensor(s)
                        mask[i, :len(s)] = 1
                    full = bool(mask.all())
                    model(x.cuda(), attention_mask=None if full else mask.cuda(), use_cache=False)
                torch.cuda.synchronize()

            try:
                run(batches[:2])
                begin = time.time()
                run(batches)
                s = time.time() - begin
                print(json.dumps({"attention": attention, "tokens_a_batch": budget, "seconds": s, "tokens_per_s": total / s}), flush=True)
            except Exception as e:
                print(json.dumps({"attention": attention, "tokens_a_batch": budget, "error": str(e)[:120]}), flush=True)
        del model


commands, words = {"make": make, "states": states, "compare": compare, "speed": speed}, []
for word in sys.argv[1:] + ["+"]:
    if word == "+":
        commands[words[0]](*words[1:])
        words = []
    else:
        words.append(word)
