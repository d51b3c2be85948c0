# The reference study, whole: seven methods at ten sizes on six layers of
# DeepSeek-R1-Distill-Qwen-1.5B, beside methods that never saw the model.
#
#   clusterflow plan  studies/r1-1.5b.hcl --var responses=responses.json
#   clusterflow apply studies/r1-1.5b.hcl --only extract,train  # nothing is sent
#   clusterflow apply studies/r1-1.5b.hcl --var offline=true    # nothing is paid
#   clusterflow apply studies/r1-1.5b.hcl
#
# Each of these goes on from what the others have made.

study {
  name     = "r1-1.5b"
  protocol = "2025-07"
  seed     = 42
}

variable "checkpoint" {
  description = "Hub id of the checkpoint, or a folder with config.json, tokenizer.json and *.safetensors"
  type        = string
  default     = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
}

variable "responses" {
  description = "The model's own responses: a JSON array with full_response and, for topic leakage, category"
  type        = string
  default     = "data/responses_deepseek-r1-distill-qwen-1.5b.json"
}

variable "offline" {
  description = "Title and judge with the lexical judge"
  type        = bool
  default     = false
}

variable "judge" {
  description = "The model that grades; another one buys no titles again"
  type        = string
  default     = "gpt-4o"
}

locals {
  # null means "not set": the lexical judge takes no model.
  provider = var.offline ? "lexical" : "openai"
}

dataset "responses" {
  file       = var.responses
  n_examples = 500
}

model "r1-qwen" {
  source  = var.checkpoint
  dataset = dataset.responses

  # Of 28 blocks. All layers come from one pass that ends after the highest.
  layers    = [4, 8, 12, 16, 20, 24]
  precision = "bf16"
}

method "gmm" {
  n_init = 10
}

method "pca_gmm" {
  n_init = 10
}

grid {
  methods  = ["spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "agglomerative", "pca_agglomerative", "sae_topk"]
  clusters = range(5, 55, 5) # 5, 10, … 50: the limit is not included
}

# What a score means shows beside labels that come from chance, from words alone
# and from the problems' topics.
grid {
  layers   = [12]
  methods  = ["random", "tfidf_kmeans", "category"]
  clusters = [10, 20]
}

# Are the clusters the same when the dice fall otherwise? Nothing of this is
# titled or graded.
grid {
  layers   = [12]
  methods  = ["spherical_kmeans", "pca_kmeans", "gmm", "pca_gmm", "sae_topk"]
  clusters = [10, 20]
  seeds    = [43, 44, 45, 46]
}

evaluator "titler" {
  provider = local.provider
  model    = var.offline ? null : "gpt-4o"
}

evaluator "judge" {
  provider = local.provider
  model    = var.offline ? null : var.judge
}

titles "auto" {
  evaluator            = evaluator.titler
  description_examples = 200
  repetitions          = 5
}

evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.judge]

  accuracy {
    examples = 100 # from each cluster, and as many from outside
  }
  completeness {
    examples = 500
  }
}

report {
  dir     = "results/r1-1.5b"
  figures = ["pdf", "svg"]
}
