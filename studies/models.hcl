# Two reasoning models and the model that one of them was made from, side by
# side at the same relative depths: variables, locals and `for`.
#
#   clusterflow validate studies/models.hcl --var checkpoints=/models
#   clusterflow plan     studies/models.hcl --var checkpoints=/models --var 'clusters=[10, 20]'
#
# Instead of --var: a file for --var-file with lines such as  judge = "gpt-4.1",
# or CLUSTERFLOW_VAR_judge in the environment.

study {
  name = "models"
  seed = 42
}

variable "checkpoints" {
  description = "Folder that holds one folder for each checkpoint"
  type        = string
  default     = "./checkpoints"
}

variable "data" {
  description = "Folder with the responses"
  type        = string
  default     = "data"
}

variable "depths" {
  description = "Where to look, as a share of each model's blocks"
  type        = list(number)
  default     = [0.25, 0.5, 0.75]
}

variable "clusters" {
  description = "Numbers of clusters"
  type        = list(number)
  default     = [5, 10, 15, 20, 30, 40]
}

variable "judges" {
  description = "Models that grade, one evaluator each"
  type        = object({ first = string, second = string })
  default     = { first = "gpt-4o", second = "gpt-4.1-mini" }
}

locals {
  # The number of decoder blocks of each checkpoint.
  blocks = {
    r1-qwen-1_5b = 28
    math-1_5b    = 28
    r1-llama-8b  = 32
  }

  # { r1-llama-8b = [8, 16, 24], … }
  layers = {
    for name, n in local.blocks : name => [for depth in var.depths : floor(n * depth)]
  }

  # The layer in the middle of each list, where the methods are compared.
  middle = distinct([for list in values(local.layers) : element(list, floor(length(list) / 2))])
}

# Each reasoning model reads its own responses.
dataset "qwen" {
  file = "${var.data}/responses_deepseek-r1-distill-qwen-1.5b.json"
}

dataset "llama" {
  file = "${var.data}/responses_deepseek-r1-distill-llama-8b.json"
}

model "r1-qwen-1_5b" {
  source  = "${var.checkpoints}/DeepSeek-R1-Distill-Qwen-1.5B"
  dataset = dataset.qwen
  layers  = local.layers.r1-qwen-1_5b
}

# The base model reads what the reasoning model wrote: were the same functions
# there before the distillation?
model "math-1_5b" {
  source  = "${var.checkpoints}/Qwen2.5-Math-1.5B"
  dataset = dataset.qwen
  layers  = local.layers.math-1_5b
}

model "r1-llama-8b" {
  source  = "${var.checkpoints}/DeepSeek-R1-Distill-Llama-8B"
  dataset = dataset.llama
  layers  = local.layers.r1-llama-8b
}

# Every model and layer, with one method.
grid {
  methods  = ["spherical_kmeans"]
  clusters = var.clusters
}

# The middle of each model, with both methods and the sizes in between. What two
# grids have in common is made once.
grid {
  layers   = local.middle
  methods  = ["spherical_kmeans", "pca_kmeans"]
  clusters = distinct(concat(var.clusters, [for k in var.clusters : k + 5]))
}

evaluator "titler" {
  model = "gpt-4o"
}

evaluator "first" {
  model = var.judges.first
}

evaluator "second" {
  model = var.judges.second
}

titles "auto" {
  evaluator = evaluator.titler
}

# Two judges grade the same titles: do they agree?
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.first, evaluator.second]

  completeness {
    examples = 200
  }
}

report {
  dir = "results/models"
}
