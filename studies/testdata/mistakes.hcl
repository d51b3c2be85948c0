# Every kind of mistake, one after another. The expected output is mistakes.txt.
seed = 1

study {
  name       = "a/b"
  protocol   = "2025-7"
  seed       = -1
  budget_usd = -400
  protocl    = "paper"
}

study {
  name = "again"
}

variable "judge" {
  type    = number
  default = "gpt"
}

variable "nothing" {}

variable "circular" {
  default = var.judge
}

locals {
  a     = local.b
  b     = "${local.c}!"
  c     = local.a
  sizes = rage(2, 5)
}

datasett "x" {}

dataset "responses" {
  file       = "missing.json"
  n_examples = 0
  truncated  = "keeep"
}

dataset "2nd" {
  file = "mistakes.hcl"
}

dataset "second" {
  file       = "mistakes.hcl"
  n_exampels = 10
}

model "r1-qwen" {
  source    = "./checkpoint"
  dataset   = dataset.response
  layers    = [4, -1, 4, "x", 8.5]
  precision = "fp8"
  add_bos   = "yes"
  revision  = "main"
}

model "r1-qwen" {
  source = "org/name"
}

model "both" {
  source = "builtin:small"
  layers = []
  center = "maybe"
}

activations "r1-qwen" {}

activations "mine" {
  sentences = "testdata"
  files     = { 4 = "rows.npz", x = "rows.npy", 8 = "mistakes.hcl" }
  mean      = { 12 = "mistakes.npy" }
}

method "gmm" {
  n_init = 0
}

method "spherical_kmeans" {
  n_initt  = 4
  max_iter = 100000
  tol      = "small"
}

method "kmeans" {}

grid {
  models   = [model.r1-qwem, "both", dataset.second, model.both]
  methods  = ["spherical_kmean", "agglomerative", "pca_kmeans", "pca_kmeans"]
  clusters = [1, 10, 10]
}

grid "named" {}

grid {
  models   = [activations.mine]
  layers   = [5]
  clusters = 10
}

evaluator "titler" {
  provider    = "lexical"
  temperature = 0
  max_cost_usd = 5
}

evaluator "judge" {
  mode        = "director"
  base_url    = "localhost:8080"
  api_key_env = "sk-abc"
  temperature = 3
}

titles "auto" {
  evaluator   = titles.auto
  repetitions = 0
  file        = file("taxonomy.jsonl")
}

titles "hand" {
  evaluator = "titler"
}

evaluation "main" {
  titles  = []
  judges  = [evaluator.judg]
  metrics = ["accuracy", "acuracy"]
  labels  = "predicted"

  accuracy {
    examples = 10
    inside   = 5
  }
  completeness {
    examples = "every"
    mode     = fit
  }
  orthogonality = 0.5
  fluency {}
}

report {
  figures = ["png"]
  dataset "x" {}
}
