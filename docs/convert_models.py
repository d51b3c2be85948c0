#!/usr/bin/env python3
"""Converts trained clusterings between clusterflow's model.safetensors and the
files of the reference scripts: .pkl (scikit-learn) and, for sparse autoencoders,
.pt (PyTorch).

    convert_models.py gmm/r1_layer12_clusters20.pkl model.safetensors --mean activations_r1_500_12_mean.pkl
    convert_models.py saes/sae_r1_layer12_clusters20.pt model.safetensors
    convert_models.py model.safetensors r1_layer12_clusters20.pkl

Needs numpy; scikit-learn only for .pkl, PyTorch only for .pt. The layout of
model.safetensors is described in models-in-python.md.

Opening a .pkl or .pt file runs whatever code its author put in: only open your own.
"""
import argparse
import json
import pickle
import struct
import sys

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8"}


def read_safetensors(path):
    """Tensors by name, and the metadata."""
    with open(path, "rb") as f:
        raw = f.read()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    meta = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        a, b = t["data_offsets"]
        tensors[name] = np.frombuffer(raw[start + a:start + b], TYPES[t["dtype"]]).reshape(t["shape"])
    return tensors, meta


def write_safetensors(path, tensors, meta):
    """Whole numbers as I32, all others as F32."""
    header, parts, at = {"__metadata__": meta}, [], 0
    for name, x in tensors.items():
        whole = np.issubdtype(x.dtype, np.integer)
        part = np.ascontiguousarray(x, "<i4" if whole else "<f4").tobytes()
        header[name] = {"dtype": "I32" if whole else "F32", "shape": list(x.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def array(x):
    """A numpy array of what may be a tensor of PyTorch."""
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def row(x):
    return array(x).reshape(1, -1)


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)


# From the reference's files.

def open_reference(path):
    """The dictionary of a .pkl or .pt file."""
    if not path.endswith(".pt"):
        with open(path, "rb") as f:
            return pickle.load(f)
    import torch
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except TypeError:  # before PyTorch 1.13 there was no such choice
        return torch.load(path, map_location="cpu")


def from_reference(path):
    """Tensors and metadata of a .pkl or .pt file. What it holds says which method
    made it: "kmeans", "gmm" or "agglomerative" beside "pca", or a "model" alone."""
    data = open_reference(path)
    tensors, meta = {"labels": array(data["cluster_labels"]).astype(np.int32), "centers": array(data["cluster_centers"])}, {"normalize": "true"}
    if "encoder_weight" in data:
        meta.update(method="sae_topk", top_k=str(data.get("topk", 3)))
        tensors.update(centers=unit(array(data["decoder_weight"])), encoder=array(data["encoder_weight"]), encoder_bias=row(data["encoder_bias"]),
                       decoder=array(data["decoder_weight"]), decoder_bias=row(data["b_dec"]))
    else:
        tensors.update(of_estimators(data, meta))
    for name in ("activation_mean", "activation_norm"):
        if name in data:
            tensors[name] = array(data[name]).reshape(-1)
    return tensors, meta


def of_estimators(data, meta):
    pca = data.get("pca")
    name = next((n for n in ("model", "kmeans", "gmm", "agglomerative") if n in data), None)
    if name is None:
        sys.exit(f"it holds {', '.join(data)}, and no model, kmeans, gmm or agglomerative")
    e, prefix = data[name], "" if pca is None else "pca_"
    tensors = {} if pca is None else {"pca_components": pca.components_, "pca_mean": row(pca.mean_)}
    if hasattr(e, "covariances_"):
        meta["method"] = prefix + "gmm"
        tensors.update(weights=row(e.weights_), means=e.means_)
        want = "diag" if pca is None else "full"
        if e.covariance_type != want:
            sys.exit(f"{meta['method']} has {want} covariances, and these are {e.covariance_type}")
        if pca is None:
            tensors["variances"] = e.covariances_
        else:
            tensors["covariances"] = e.covariances_.reshape(-1, e.means_.shape[1])
    elif hasattr(e, "cluster_centers_"):
        meta["method"] = "spherical_kmeans" if pca is None else "pca_kmeans"
        tensors["kmeans_centers" if pca is None else "pca_centers"] = e.cluster_centers_
    else:
        meta["method"] = prefix + "agglomerative"
        if pca is not None:
            tensors["pca_centers"] = (data["cluster_centers"] - pca.mean_) @ pca.components_.T
    return tensors


# Back to them.

def to_reference(tensors, meta, path):
    method = meta["method"]
    if path.endswith(".pt") != (method == "sae_topk"):
        sys.exit(f"a model of {method} goes to a {'.pt' if method == 'sae_topk' else '.pkl'} file, not to {path}")
    data = {"cluster_labels": tensors["labels"].astype(np.int64), "cluster_centers": tensors["centers"].copy()}
    if method == "sae_topk":
        import torch
        k, d = tensors["encoder"].shape
        tensor = lambda x: torch.from_numpy(np.array(x, np.float32))
        data = dict(encoder_weight=tensor(tensors["encoder"]), encoder_bias=tensor(tensors["encoder_bias"][0]),
                    decoder_weight=tensor(tensors["decoder"]), b_dec=tensor(tensors["decoder_bias"][0]),
                    input_dim=d, num_latents=k, topk=min(int(meta.get("top_k", 3)), k), loss=float("nan"), **data)
        if meta.get("center") != "false":
            data["activation_mean"] = tensor(tensors["activation_mean"])
    else:
        data.update(to_estimators(method, tensors, data["cluster_labels"]))
        if meta.get("center") != "false":  # where the reference has a file beside the model
            data["activation_mean"] = tensors["activation_mean"].copy()
    if "activation_norm" in tensors:
        data["activation_norm"] = tensors["activation_norm"].copy()
    if method == "sae_topk":
        torch.save(data, path)
        return
    with open(path, "wb") as f:
        pickle.dump(data, f)


def to_estimators(method, tensors, labels):
    """Estimators that predict and transform. What only their training knew is not
    there: inertia_ and lower_bound_ are NaN, explained variances and the tree are left out."""
    out, k = {}, len(tensors["centers"])
    if method.startswith("pca_"):
        from sklearn.decomposition import PCA
        p, d = tensors["pca_components"].shape
        out["pca"] = fill(PCA(n_components=p), d, components_=tensors["pca_components"].copy(), mean_=tensors["pca_mean"][0].copy(),
                          n_components_=p, n_samples_=len(labels))
    if method.endswith("kmeans"):
        from sklearn.cluster import KMeans
        centers = tensors["pca_centers" if out else "kmeans_centers"].copy()
        out["kmeans" if out else "model"] = fill(KMeans(n_clusters=k, n_init=1), centers.shape[1], cluster_centers_=centers, labels_=labels.astype(np.int32),
                                                 inertia_=float("nan"), n_iter_=0, _n_threads=1, _n_features_out=k)
    elif method.endswith("gmm"):
        from sklearn.mixture import GaussianMixture
        means = tensors["means"].astype(np.float64)
        weights = tensors["weights"][0].astype(np.float64)
        if out:
            cov = tensors["covariances"].reshape(k, means.shape[1], -1).astype(np.float64)
            root = np.stack([np.linalg.inv(np.linalg.cholesky(c)).T for c in cov])
            precisions = root @ root.transpose(0, 2, 1)
        else:
            cov = tensors["variances"].astype(np.float64)
            root, precisions = 1 / np.sqrt(cov), 1 / cov
        out["gmm" if out else "model"] = fill(
            GaussianMixture(n_components=k, covariance_type="full" if out else "diag"), means.shape[1], weights_=weights / weights.sum(), means_=means,
            covariances_=cov, precisions_cholesky_=root, precisions_=precisions, converged_=True, n_iter_=0, lower_bound_=float("nan"))
    else:
        from sklearn.cluster import AgglomerativeClustering
        try:
            tree = AgglomerativeClustering(n_clusters=k, metric="cosine", linkage="average")
        except TypeError:  # scikit-learn before 1.2
            tree = AgglomerativeClustering(n_clusters=k, affinity="cosine", linkage="average")
        out["agglomerative" if out else "model"] = fill(tree, tensors["centers"].shape[1], labels_=labels, n_clusters_=k)
    return out


def fill(estimator, width, **attributes):
    for name, value in dict(attributes, n_features_in_=width).items():
        setattr(estimator, name, value)
    return estimator


def read_mean(path):
    """The mean vector of a layer: an .npy file, or the reference's *_mean.pkl."""
    if path.endswith(".npy"):
        return np.load(path).reshape(-1)
    with open(path, "rb") as f:
        data = pickle.load(f)
    return array(data["activation_mean"] if isinstance(data, dict) else data).reshape(-1)


def main(args=None):
    p = argparse.ArgumentParser(description="Convert a trained clustering: .pkl or .pt to .safetensors, or back.")
    p.add_argument("source")
    p.add_argument("target")
    p.add_argument("--mean", help="the layer's mean vector, where the source has none: .npy, or the reference's activations_…_mean.pkl")
    a = p.parse_args(args)
    if a.source.endswith(".safetensors") == a.target.endswith(".safetensors"):
        p.error("one of the two must be a .safetensors file, and the other a .pkl or .pt file")
    if a.source.endswith(".safetensors"):
        tensors, meta = read_safetensors(a.source)
    else:
        tensors, meta = from_reference(a.source)
    if a.mean:
        tensors["activation_mean"] = read_mean(a.mean)
    if "activation_mean" in tensors and len(tensors["activation_mean"]) != tensors["centers"].shape[1]:
        sys.exit(f"the mean has {len(tensors['activation_mean'])} numbers, and the rows {tensors['centers'].shape[1]}")
    if a.source.endswith(".safetensors"):
        if "method" not in meta:
            sys.exit(f"{a.source} does not say which method made it")
        to_reference(tensors, meta, a.target)
        return
    meta["center"] = "true" if "activation_mean" in tensors else "false"
    if meta["center"] == "false":
        print("note: no mean vector, so the model is for rows that are centred already; --mean gives it one", file=sys.stderr)
    write_safetensors(a.target, tensors, meta)


if __name__ == "__main__":
    main()
