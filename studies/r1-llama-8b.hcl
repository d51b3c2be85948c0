# Which steps does DeepSeek-R1-Distill-Llama-8B take when it reasons?
#
#   clusterflow plan  studies/r1-llama-8b.hcl --var checkpoint=/models/DeepSeek-R1-Distill-Llama-8B
#   clusterflow apply studies/r1-llama-8b.hcl --var checkpoint=… --var offline=true
#
# With offline=true the lexical judge stands in for GPT-4o: nothing is sent and
# nothing is paid, and the same activations and clusters serve the real run.

study {
  name     = "r1-llama-8b"
  protocol = "2025-07"
  seed     = 42
}

variable "checkpoint" {
  description = "Hub id of a checkpoint, or a folder with config.json, tokenizer.json and *.safetensors"
  type        = string
  default     = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
}

variable "responses" {
  description = "The model's own responses: a JSON array with full_response and question_id"
  type        = string
  default     = "data/responses_deepseek-r1-distill-llama-8b.json"
}

variable "offline" {
  description = "Title and judge with the lexical judge"
  type        = bool
  default     = false
}

locals {
  # null means "not set": the lexical judge takes no model.
  provider = var.offline ? "lexical" : "openai"
  gpt      = var.offline ? null : "gpt-4o"
}

dataset "responses" {
  file       = var.responses
  n_examples = 500
  truncated  = "keep" # responses that ran out of tokens while thinking still think
}

model "r1-llama" {
  source  = var.checkpoint
  dataset = dataset.responses

  # Of 32 blocks. All layers come from one pass that ends after the highest.
  layers = [6, 10, 14, 18, 22, 26]
}

grid {
  methods  = ["spherical_kmeans", "pca_kmeans"]
  clusters = range(5, 55, 5) # 5, 10, … 50: the limit is not included
}

# Roles are named, not vendors: another judge buys no titles again.
evaluator "titler" {
  provider = local.provider
  model    = local.gpt
}

evaluator "judge" {
  provider = local.provider
  model    = local.gpt
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
  dir     = "results/r1-llama-8b"
  figures = ["pdf", "svg"]
}
