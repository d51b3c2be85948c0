study {
  name = "small"
  seed = 7
}

dataset "traces" {
  file = "traces.json"
}

model "tiny" {
  source = "builtin:tiny"
  layers = [1]
}

grid {
  methods  = ["spherical_kmeans"]
  clusters = [2, 3]
}

evaluator "titler" {
  provider = "lexical"
}

evaluator "judge" {
  provider = "lexical"
}

titles "auto" {
  evaluator            = evaluator.titler
  description_examples = 10
  repetitions          = 2
}

evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.judge]

  accuracy {
    examples = 6
  }

  completeness {
    examples = 20
  }
}

report {
  figures = ["svg"]
}
