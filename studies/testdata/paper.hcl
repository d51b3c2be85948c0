# The paper's protocol asks for what this release has not got.
study {
  name     = "paper"
  protocol = "paper"
}

dataset "responses" {
  file = "paper.hcl"
}

model "tiny" {
  source = "builtin:tiny"
  layers = [1]
}

grid {}

evaluator "judge" {}

titles "auto" {
  evaluator = evaluator.judge
}

evaluation "main" {
  titles   = [titles.auto]
  judges   = [evaluator.judge]
  held_out = true

  accuracy {
    examples     = 4
    explanations = "none"
  }
}

evaluation "again" {
  titles  = [titles.auto]
  judges  = [evaluator.judge]
  labels  = "trained"
  prompts = "v2"
}
