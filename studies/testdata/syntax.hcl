# Mistakes of syntax are reported alone: a half-read block says nothing.
study {
  name = "broken" seed = 1
}

model "tiny" {
  layers = [1 3]
  source = builtin:tiny
}

grid {
  methods  = ["spherical_kmeans, "pca_kmeans]
  clusters = [4]
}
