"""One clustering by scikit-learn, or by PyTorch for sae_topk, for clusterflow's bench/cluster.

Reads a job as JSON from standard input and writes one JSON object: seconds of the fit alone, iterations of the
start that was kept, starts, peak memory in bytes. What the fit returned goes to .npy files in the job's folder, so
that the scorer of the other side can judge both.
"""
import json, os, resource, sys, time, warnings
import numpy as np

warnings.filterwarnings("ignore")
job = json.load(sys.stdin)


def save(**arrays):
    for name, a in arrays.items():
        np.save(os.path.join(job["out"], name + ".npy"), np.ascontiguousarray(a, np.float32))


def peak():
    """Most memory held, in bytes. The system's own count of a child begins with its parent's, so Linux is asked otherwise."""
    try:
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def probe():
    """How fast are products of matrices with this setting of the library?"""
    import sklearn
    try:
        import torch
        torch = torch.__version__
    except ImportError:
        torch = ""
    a, b = np.ones((2048, 1536), np.float32), np.ones((1536, 2048), np.float32)
    best = 1e9
    for _ in range(6):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return {"gflops": 2 * 2048 * 1536 * 2048 / best / 1e9, "sklearn": sklearn.__version__, "numpy": np.__version__, "torch": torch}


def pca(x):
    from sklearn.decomposition import PCA
    return lambda: PCA(min(job["components"], *x.shape), random_state=job["seed"]).fit_transform(x), lambda _: {}


def first():
    """What k-means begins with: the centres that it is given, or greedy k-means++."""
    return np.load(job["init"]) if "init" in job else "k-means++"


def kmeans(x):
    from sklearn.cluster import KMeans
    m = KMeans(job["k"], init=first(), n_init=job["starts"], max_iter=job["max_iter"], tol=job["tol"], random_state=job["seed"])

    def done(m):
        save(centers=m.cluster_centers_)
        return {"iterations": int(m.n_iter_)}

    return lambda: m.fit(x), done


def mixture(x, kind):
    from sklearn.mixture import GaussianMixture

    class Given(GaussianMixture):
        """From the clusters of k-means with given first centres; else the class is its parent."""

        def _initialize_parameters(self, X, random_state):
            from sklearn.cluster import KMeans
            if "init" not in job:
                return super()._initialize_parameters(X, random_state)
            labels = KMeans(job["k"], init=first(), n_init=1).fit(X).labels_
            self._initialize(X, np.eye(job["k"])[labels])

    m = Given(job["k"], covariance_type=kind, n_init=job["starts"], max_iter=job["max_iter"], tol=job["tol"],
                        reg_covar=job["reg_covar"], random_state=job["seed"])

    def done(m):
        save(weights=m.weights_, means=m.means_, covariances=m.covariances_.reshape(-1, x.shape[1]))
        return {"iterations": int(m.n_iter_)}

    return lambda: m.fit(x), done


def tree(x):
    from sklearn.cluster import AgglomerativeClustering
    how = {"linkage": "average", "compute_distances": True}
    try:
        m = AgglomerativeClustering(job["k"], metric="cosine", **how)
    except TypeError:  # before 1.2 the metric was called affinity
        m = AgglomerativeClustering(job["k"], affinity="cosine", **how)

    def done(m):
        save(labels=m.labels_, heights=np.sort(m.distances_))
        return {}

    return lambda: m.fit(x), done


def autoencoder(x):
    import torch
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    rows, k, keep = torch.from_numpy(x), job["k"], min(job["top_k"], job["k"])

    def fit():
        enc = torch.nn.Linear(x.shape[1], k)
        torch.nn.init.uniform_(enc.weight, -x.shape[1] ** -0.5, x.shape[1] ** -0.5)
        torch.nn.init.zeros_(enc.bias)
        dec = torch.nn.Parameter(enc.weight.detach().clone())
        origin = torch.nn.Parameter(torch.zeros(x.shape[1]))

        def rescale():
            with torch.no_grad():
                dec.div_(dec.norm(dim=1, keepdim=True) + 1e-5)

        rescale()
        params = [enc.weight, enc.bias, dec, origin]
        adam = torch.optim.Adam(params, lr=job["learning_rate"] / (k / 2 ** 14) ** 0.5)
        lowest, bad, kept, epoch = float("inf"), 0, None, 0
        while epoch < job["max_epochs"] and bad < job["patience"]:
            epoch, loss_sum = epoch + 1, 0.0
            for which in torch.randperm(len(rows)).split(job["batch_size"]):
                batch = rows[which]
                z, at = enc(batch - origin).topk(keep, dim=1)
                guess = (z.unsqueeze(2) * dec[at]).sum(1) + origin
                loss = (guess - batch).pow(2).sum() / (batch - batch.mean(0)).pow(2).sum()
                adam.zero_grad()
                loss.backward()
                adam.step()
                rescale()
                loss_sum += loss.item() * len(batch)
            if loss_sum < lowest:
                lowest, bad, kept = loss_sum, 0, [p.detach().clone() for p in params]
            else:
                bad += 1
        return epoch, kept

    def done(result):
        epoch, (w, c, d, b) = result
        save(encoder=w.numpy(), encoder_bias=c.numpy(), decoder=d.numpy(), decoder_bias=b.numpy())
        return {"iterations": epoch}

    return fit, done


if job.get("probe"):
    print(json.dumps(probe()))
    sys.exit()
x = np.load(job["x"])
fit, done = {
    "pca": lambda: pca(x),
    "spherical_kmeans": lambda: kmeans(x),
    "pca_kmeans": lambda: kmeans(x),
    "gmm": lambda: mixture(x, "diag"),
    "pca_gmm": lambda: mixture(x.astype(np.float64), "full"),
    "agglomerative": lambda: tree(x),
    "pca_agglomerative": lambda: tree(x),
    "sae_topk": lambda: autoencoder(x),
}[job["method"]]()
begin, cpu = time.perf_counter(), time.process_time()
result = fit()
seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
reply = {"seconds": seconds, "cpu": cpu, "iterations": 0, "starts": job.get("starts", 1), "peak": peak()}
print(json.dumps({**reply, **done(result)}))
