# The whole job, offline, in about a minute:
#
#   clusterflow plan   studies/demo.hcl     what would run, and why
#   clusterflow apply  studies/demo.hcl     run it; ends with the address of the report
#   clusterflow status studies/demo.hcl     what is done, running or waiting
#
# Then change one number below and plan again: only what hangs on it is stale.

study {
  name     = "demo"
  protocol = "2025-07" # the defaults; "paper" for the published ones
  seed     = 42        # of every random draw
}

# Short reasoning traces on everyday, mathematical and scientific questions, to
# be split into sentences. (demo/kinds.jsonl knows what each sentence is for; no
# step of the study reads it.)
dataset "traces" {
  file = "demo/traces.json" # relative to this file, like every path
}

# A Qwen2 of fixed random weights that ships with clusterflow. It takes the
# road of a real model, at no cost, but has learnt nothing: so the clusters
# below mean nothing, and the report says so. For a real model, see
# r1-llama-8b.hcl.
model "tiny" {
  source = "builtin:tiny"
  layers = [1, 3] # decoder blocks, counted from 0
}

# What to make: 1 model × 2 layers × 2 methods × 3 numbers of clusters.
grid {
  methods  = ["spherical_kmeans", "pca_kmeans"]
  clusters = [4, 6, 8]
}

# Two roles, here both played by the offline judge, which compares words.
# A language model would be:  evaluator "judge" { model = "gpt-4o" }
evaluator "titler" {
  provider = "lexical"
}

evaluator "judge" {
  provider = "lexical"
}

# Each cluster gets a title and a description, from sentences that belong to it.
titles "auto" {
  evaluator            = evaluator.titler
  description_examples = 60
  repetitions          = 3 # ask three times: the report shows how much answers vary
}

# The titles are put to the test.
evaluation "main" {
  titles = [titles.auto]
  judges = [evaluator.judge]

  # Can the judge tell a cluster's sentences from others, by its description?
  accuracy {
    examples = 40 # from the cluster, and as many from outside
  }

  # Does every sentence find its category?
  completeness {
    examples = 300
  }

  # Do the categories differ from one another?
  orthogonality {
    threshold = 0.5
  }
}

report {
  dir     = "results/demo"
  figures = ["pdf", "svg"]
}
